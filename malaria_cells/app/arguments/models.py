"""Arguments of the commands that make models."""

import argparse
from pathlib import Path

from malaria_cells.app.arguments.shared import Commands, add_annotation, add_label_meanings, add_recipe, command
from malaria_cells.app.arguments.values import count, minutes, names, one_map
from malaria_cells.base.errors import InputError
from malaria_cells.inference.engines import ENGINES

FOLDS = 5


def add_train(commands: Commands) -> None:
    """Add the command `train`."""

    def train(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.train import train

        return train(options.config, options.set, options.resume)

    parser = command(commands, "train", "Train a model on an annotated data set.", train)
    add_recipe(parser)
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")


def add_adapt(commands: Commands) -> None:
    """Add the command `adapt`."""

    def adapt(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.adapt import adapt
        from malaria_cells.app.commands.adapt_data import AdaptRequest

        values = {k: v for k, v in vars(options).items() if k != "command"}
        values["ignore_labels"] = [name for names in values["ignore_labels"] for name in names]
        values["label_map"] = one_map(values["label_map"]) or {}
        return adapt(AdaptRequest(**values))

    parser = command(commands, "adapt", "Fine-tune a trained model on a few annotated images.", adapt)
    parser.add_argument("data", type=Path, help="annotation file, data set folder, or corrected review of run.py: 5 to 40 images")
    parser.add_argument("--from", dest="model", type=Path, required=True, metavar="MODEL", help="model folder to start from")
    parser.add_argument("--output", type=Path, required=True, help="folder of the new model")
    add_annotation(parser)
    parser.add_argument(
        "--labels", type=names, metavar="A,B,..", help="all labels of the new model (default: those of MODEL and new categories of DATA)"
    )
    parser.add_argument("--infected-labels", type=names, metavar="A,B,..", help="labels that are infected red cells (default: the model's)")
    add_label_meanings(parser, "categories that become ignore regions", "labels")
    parser.add_argument("--group", metavar="HOW", help="how images of one slide are recognised, as the config key `group`")
    parser.add_argument("--old-data", type=Path, metavar="DATA", help="config or folder of MODEL's training images, to train on as well")
    parser.add_argument("--minutes", type=minutes, default=10.0, help="time limit in minutes (default: %(default)g)")


def add_crossvalidate(commands: Commands) -> None:
    """Add the command `crossvalidate`."""

    def crossvalidate(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.crossvalidate import Where, crossvalidate
        from malaria_cells.app.commands.crossvalidate_sets import crossvalidate_sets

        if options.parallel is not None and options.cluster is None:
            raise InputError("--parallel: applies to --cluster only; add --cluster local")
        if options.by == "data_set":
            if options.folds is not None:
                raise InputError("--folds: applies to --by fold only; --by data_set trains once for each of `data_sets`")
            if options.cluster is not None:
                raise InputError("--cluster: applies to --by fold only; --by data_set trains one model after the other")
            return crossvalidate_sets(options.config, options.set, options.output)
        return crossvalidate(options.config, options.set, options.folds or FOLDS, options.output, Where(options.cluster, options.parallel))

    parser = command(commands, "crossvalidate", "Cross-validate a config on the training images.", crossvalidate)
    add_recipe(parser)
    parser.add_argument(
        "--by",
        choices=("fold", "data_set"),
        default="fold",
        help="what each training holds out: a fold of the images, or one of `data_sets` (default: %(default)s)",
    )
    parser.add_argument("--folds", type=int, choices=range(2, 21), metavar="K", help=f"number of folds, 2 to 20 (default: {FOLDS})")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("results/crossvalidation"),
        help="folder for the models of the folds and the table (default: %(default)s)",
    )
    parser.add_argument(
        "--cluster",
        metavar="local|ADDRESS",
        help="train the folds at the same time by Ray, on this machine's processors or on the cluster at an address",
    )
    _add_parallel(parser)


def add_tune(commands: Commands) -> None:
    """Add the command `tune`."""

    def tune(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.tune import TuneRequest, tune

        return tune(TuneRequest(**{name: value for name, value in vars(options).items() if name != "command"}))

    parser = command(commands, "tune", "Search better values of a config's keys by cross-validation.", tune)
    add_recipe(parser)
    parser.add_argument(
        "--space", type=Path, required=True, help="YAML file of keys and their ranges, as in 'learning_rate: {log_uniform: [1e-4, 1e-2]}'"
    )
    parser.add_argument("--samples", type=count, default=20, metavar="N", help="combinations of values to try (default: %(default)s)")
    parser.add_argument(
        "--folds", type=int, choices=range(2, 21), default=FOLDS, metavar="K", help="number of folds, 2 to 20 (default: %(default)s)"
    )
    parser.add_argument("--metric", help="what is to become best, as the table of crossvalidate calls it (default: mAP50)")
    parser.add_argument(
        "--output", type=Path, default=Path("results/tuning"), help="folder for the trials and the best config (default: %(default)s)"
    )
    parser.add_argument(
        "--cluster", default="local", metavar="local|ADDRESS", help="Ray cluster that trains (default: this machine's processors)"
    )
    _add_parallel(parser)
    parser.add_argument("--resume", action="store_true", help="go on with an earlier search, perhaps with more samples")


def _add_parallel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--parallel",
        type=count,
        metavar="N",
        help="trainings at a time on the cluster, each of which needs 1 to 2 GB of memory (default: one for each GPU, or each processor if "
        "there is no GPU)",
    )


def add_export(commands: Commands) -> None:
    """Add the command `export`."""

    def export(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.export import export, export_beside

        if options.beside:
            given = {"--int8": options.int8, "--image": options.image, "--output": options.output}
            if other := next((flag for flag, value in given.items() if value), None):
                raise InputError(f"--beside: writes exact networks into the model folder, so {other} has no meaning; leave one of them out")
            return export_beside(options.model, options.format)
        return export(options.model, options.format, options.int8, options.image, options.output)

    parser = command(commands, "export", "Export a trained detector for another engine.", export)
    parser.add_argument("--model", type=Path, required=True, help="model folder that training wrote")
    parser.add_argument("--format", choices=ENGINES.names, required=True, help="format to write")
    parser.add_argument("--int8", action="store_true", help="quantise to eight bits: smaller, faster, slightly less accurate")
    parser.add_argument(
        "--image", help="with --int8 for onnx, openvino: images to calibrate the quantisation on (default: the training images)"
    )
    parser.add_argument("--output", type=Path, help="folder to write (default: a subfolder of the model folder, named after the format)")
    parser.add_argument(
        "--beside", action="store_true", help="write the networks beside Keras' files in the model folder, where run.py chooses the fastest"
    )

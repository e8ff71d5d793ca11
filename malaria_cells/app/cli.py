"""The command line: arguments only. A command imports its heavy libraries when it starts."""

import argparse
import contextlib
import errno
import io
import logging
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

from malaria_cells.base.errors import InputError
from malaria_cells.inference.engines import ENGINES, engine_names

INPUT_RANGES = ("0,1", "-1,1", "0,255")
FOLDS = 5
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit code: 0 success, 1 a file or folder could not be written or read, 2 wrong request, 3 some images failed, 130 interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may hold characters that the terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        parser = _parser()
        options = parser.parse_args(_join_input_range(sys.argv[1:] if arguments is None else arguments))
        _expand_home(options)
        return int(options.command(options))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # missing permission or a full disk
        if error.errno in DISK_FULL:
            print(f"error: {error.strerror}; make room, then run the command again", file=sys.stderr)
            return 1
        if error.filename is None:
            raise
        advice = "check that you may write or read there, and that the disk has room"
        print(f"error: {error.filename}: {error.strerror}; {advice}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _join_input_range(arguments: list[str]) -> list[str]:
    """Join ``--input-range -1,1`` into one argument, since argparse takes a value that begins with a dash for an option."""
    joined: list[str] = []
    for word in arguments:
        if joined and joined[-1] == "--input-range" and word in INPUT_RANGES:
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def script(command: str) -> int:
    """Entry point of ``train.py`` and ``run.py``: call `main` with the command's name before the arguments."""
    return main([command, *sys.argv[1:]])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="malaria-cells", description="Detect and classify blood cells in images of stained smears.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        _add_train,
        _add_run,
        _add_adapt,
        _add_crossvalidate,
        _add_download,
        _add_explore,
        _add_page,
        _add_gallery,
        _add_export,
        _add_convert,
        _add_sample,
        _add_keys,
        _add_formats,
    ):
        add(commands)
    return parser


def _command(commands: argparse._SubParsersAction, name: str, summary: str, run: Callable) -> argparse.ArgumentParser:
    # When called through train.py or run.py, the usage line shows the script's name instead of the command's.
    is_script = Path(sys.argv[0]).name == f"{name}.py"
    parser = commands.add_parser(name, help=summary, description=summary, prog=f"{name}.py" if is_script else None)
    parser.set_defaults(command=run)
    return parser


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=Path("config.yaml"), help="YAML file of settings (default: %(default)s)")
    _add_overrides(parser)


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the config; may be repeated")


def _add_annotation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="folder of the images (default: the annotation's own folder)")
    parser.add_argument("--format", default="auto", help="annotation format (default: recognised by content)")


def _annotation(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    from malaria_cells.app.commands.explore import AnnotationRequest

    return None if options.source is None else AnnotationRequest(options.source, options.images, options.format)


def _add_train(commands: argparse._SubParsersAction) -> None:
    def train(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.train import train

        return train(options.config, options.set, options.resume)

    parser = _command(commands, "train", "Train a model on an annotated data set.", train)
    _add_recipe(parser)
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")


def _add_run(commands: argparse._SubParsersAction) -> None:
    def run(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.run import run
        from malaria_cells.app.commands.run_request import RunRequest

        values = {k: v for k, v in vars(options).items() if k != "command"}
        values["labels"] = _names(values["labels"]) if values["labels"] else None
        values["ignore_labels"] = [name for names in values["ignore_labels"] for name in names] or None
        values["annotated_labels"] = [name for names in values["annotated_labels"] for name in names] or None
        values["label_map"] = _one_map(values["label_map"])
        return run(RunRequest(**values))

    parser = _command(commands, "run", "Detect cells in images, or classify images.", run)
    parser.add_argument("--model", type=Path, help="model folder, or .keras or .h5 classifier (default: the shipped pretrained/thin_smear)")
    parser.add_argument("--image", required=True, help="image, directory (searched recursively), or glob in quotes")
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder for the results (default: %(default)s)")
    parser.add_argument(
        "--mode",
        choices=("auto", "classify", "detect"),
        default="auto",
        help="auto: detect if the model was trained for it (default: %(default)s)",
    )
    parser.add_argument("--annotations", type=Path, help="annotation file that predictions are scored against")
    _add_label_meanings(parser, "categories of the annotation to treat as ignore regions, which are not scored", "labels of the model")
    parser.add_argument(
        "--annotated-labels",
        type=_names,
        action="append",
        default=[],
        metavar="A,B,..",
        help="labels of the model that are annotated completely; detections of other labels that match no annotated cell are not scored "
        "(default: all); may be repeated",
    )
    parser.add_argument("--split", type=Path, metavar="FILE", help='JSON {"test": [images], ..}; use the images of one part only')
    parser.add_argument("--part", default="test", help="part of --split to use (default: %(default)s)")
    parser.add_argument(
        "--score-threshold", type=_fraction, metavar="S", help="minimum score of a detection, 0 to 1 (default: the model's)"
    )
    parser.add_argument(
        "--nms",
        choices=("agnostic", "class"),
        help="non-maximum suppression across labels, or for each label separately (default: the model's)",
    )
    parser.add_argument(
        "--nms-iou",
        type=_fraction,
        metavar="IOU",
        help="IoU from which the lower-scored of two boxes is suppressed (default: the model's)",
    )
    parser.add_argument(
        "--tta",
        type=int,
        choices=range(1, 9),
        metavar="N",
        help="test-time augmentation: views averaged for each cell, 1 to 8 (default: the model's)",
    )
    parser.add_argument(
        "--proposals",
        metavar="METHOD",
        help="method that proposes boxes: learned, watershed, sliding, or a plugin's (default: the model's)",
    )
    parser.add_argument(
        "--cell-size",
        type=_cell_size,
        metavar="PIXELS",
        help="median longer side of a cell in these images (default: the model's, unless the size estimated from an image clearly differs)",
    )
    parser.add_argument("--engine", choices=engine_names(), help="inference engine (default: that of the files in MODEL; see export)")
    parser.add_argument("--labels", metavar="A,B,..", help="class names of a bare .keras or .h5 model")
    parser.add_argument(
        "--input-range",
        choices=INPUT_RANGES,
        metavar="{0,1|-1,1|0,255}",
        help="range of the pixel values that a bare model was trained on: 0 to 1, -1 to 1, or 0 to 255 (default: 0,255)",
    )
    parser.add_argument(
        "--input-divisor", type=_divisor, metavar="N", help="divide pixel values by N, instead of --input-range; 255 is the range 0,1"
    )
    parser.add_argument(
        "--review",
        type=_count,
        metavar="N",
        help="write the N least certain cells as a sheet, and their images as a data set to correct and train on",
    )
    parser.add_argument(
        "--force", action="store_true", help="report a parasitemia also for images that are unlike all training images of the model"
    )
    parser.add_argument("--compare", action="store_true", help="draw annotations beside detections (needs --annotations)")


def _add_adapt(commands: argparse._SubParsersAction) -> None:
    def adapt(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.adapt import adapt
        from malaria_cells.app.commands.adapt_data import AdaptRequest

        values = {k: v for k, v in vars(options).items() if k != "command"}
        values["ignore_labels"] = [name for names in values["ignore_labels"] for name in names]
        values["label_map"] = _one_map(values["label_map"]) or {}
        return adapt(AdaptRequest(**values))

    parser = _command(commands, "adapt", "Fine-tune a trained model on a few annotated images.", adapt)
    parser.add_argument("data", type=Path, help="annotation file, data set folder, or corrected review of run.py: 5 to 40 images")
    parser.add_argument("--from", dest="model", type=Path, required=True, metavar="MODEL", help="model folder to start from")
    parser.add_argument("--output", type=Path, required=True, help="folder of the new model")
    _add_annotation(parser)
    parser.add_argument(
        "--labels", type=_names, metavar="A,B,..", help="all labels of the new model (default: those of MODEL and new categories of DATA)"
    )
    parser.add_argument(
        "--infected-labels", type=_names, metavar="A,B,..", help="labels that are infected red cells (default: the model's)"
    )
    _add_label_meanings(parser, "categories that become ignore regions", "labels")
    parser.add_argument("--group", metavar="HOW", help="how images of one slide are recognised, as the config key `group`")
    parser.add_argument("--old-data", type=Path, metavar="DATA", help="config or folder of MODEL's training images, to train on as well")
    parser.add_argument("--minutes", type=_minutes, default=10.0, help="time limit in minutes (default: %(default)g)")


def _add_crossvalidate(commands: argparse._SubParsersAction) -> None:
    def crossvalidate(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.crossvalidate import crossvalidate
        from malaria_cells.app.commands.crossvalidate_sets import crossvalidate_sets

        if options.by == "data_set":
            if options.folds is not None:
                raise InputError("--folds: applies to --by fold only; --by data_set trains once for each of `data_sets`")
            return crossvalidate_sets(options.config, options.set, options.output)
        return crossvalidate(options.config, options.set, options.folds or FOLDS, options.output)

    parser = _command(commands, "crossvalidate", "Cross-validate a config on the training images.", crossvalidate)
    _add_recipe(parser)
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


def _add_download(commands: argparse._SubParsersAction) -> None:
    def download(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.download import download, list_names

        return list_names() if options.list else download(options.names, options.data)

    parser = _command(commands, "download", "Download public data sets, or render the sample.", download)
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets to download (default: bbbc041)")
    parser.add_argument("--list", action="store_true", help="list the names and exit")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder for the data sets (default: %(default)s)")


def _add_explore(commands: argparse._SubParsersAction) -> None:
    def explore(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.explore import explore

        return explore(_annotation(options), options.config, options.set, options.output, options.augment)

    parser = _command(commands, "explore", "Summarise and plot a data set.", explore)
    parser.add_argument("source", type=Path, nargs="?", help="annotation file or data set folder (default: the config's)")
    parser.add_argument("--config", type=Path, help="take data set, labels and patch size from a config")
    _add_overrides(parser)
    _add_annotation(parser)
    parser.add_argument("--output", type=Path, default=Path("results/explore"), help="folder for the images (default: %(default)s)")
    parser.add_argument("--augment", metavar="POLICY", help="show sixteen patches under an augmentation policy")


def _add_page(commands: argparse._SubParsersAction) -> None:
    def page(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.page import page

        return page(options.model, options.models, options.review, options.address, options.port)

    parser = _command(commands, "page", "Serve the web page: drop images, see cells, correct labels.", page)
    parser.add_argument("--model", type=Path, help="model folder selected at start (default: the shipped pretrained/thin_smear)")
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of other models to offer (default: %(default)s)")
    parser.add_argument("--review", type=Path, default=Path("results/page-review"), help="folder for corrections (default: %(default)s)")
    parser.add_argument("--address", default="127.0.0.1", help="address to bind; 0.0.0.0 accepts remote connections (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8501, help="port to bind (default: %(default)s)")


def _add_gallery(commands: argparse._SubParsersAction) -> None:
    def gallery(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.gallery import gallery

        return gallery(_annotation(options), options.output, options.count, options.model, options.explain)

    parser = _command(commands, "gallery", "Write sheets and animations of the cells of each class.", gallery)
    parser.add_argument("source", type=Path, help="annotation file, data set folder, or results of run.py")
    _add_annotation(parser)
    parser.add_argument("--output", type=Path, default=Path("results/gallery"), help="folder for the images (default: %(default)s)")
    parser.add_argument("--count", type=_count, default=100, help="maximum number of cells of a class (default: %(default)s)")
    parser.add_argument("--explain", action="store_true", help="also draw Grad-CAM maps of a model")
    parser.add_argument("--model", type=Path, help="with --explain: the model folder (default: the shipped pretrained/thin_smear)")


def _add_export(commands: argparse._SubParsersAction) -> None:
    def export(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.export import export

        return export(options.model, options.format, options.int8, options.image, options.output)

    parser = _command(commands, "export", "Export a trained detector for another engine.", export)
    parser.add_argument("--model", type=Path, required=True, help="model folder that training wrote")
    parser.add_argument("--format", choices=ENGINES.names, required=True, help="format to write")
    parser.add_argument("--int8", action="store_true", help="quantise to eight bits: smaller, faster, slightly less accurate")
    parser.add_argument(
        "--image", help="with --int8 for onnx, openvino: images to calibrate the quantisation on (default: the training images)"
    )
    parser.add_argument("--output", type=Path, help="folder to write (default: a subfolder of the model folder, named after the format)")


def _add_convert(commands: argparse._SubParsersAction) -> None:
    def convert(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.convert import convert

        return convert(_annotation(options), options.target, options.to)

    parser = _command(commands, "convert", "Convert any annotation to COCO, VOC or YOLO.", convert)
    parser.add_argument("source", type=Path, help="annotation file or data set folder")
    parser.add_argument("target", type=Path, help="new folder to write")
    parser.add_argument("--to", metavar="FORMAT", required=True, help="format to write: coco, voc, yolo, or a plugin's")
    _add_annotation(parser)


def _add_sample(commands: argparse._SubParsersAction) -> None:
    def sample(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.sample import sample

        return sample(options.folder, options.training, options.test, options.seed)

    parser = _command(commands, "sample", "Render a data set of thin blood smears.", sample)
    parser.add_argument("folder", type=Path, help="folder to write")
    parser.add_argument("--training", type=_count, default=40, help="number of training images (default: %(default)s)")
    parser.add_argument("--test", type=_count, default=16, help="number of test images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=42, help="random seed; the same seed renders the same images (default: %(default)s)")


def _add_keys(commands: argparse._SubParsersAction) -> None:
    def keys(_: argparse.Namespace) -> int:
        from malaria_cells.config.reference import reference

        print(reference(), end="")
        return 0

    _command(commands, "keys", "Print every key of the configuration, as Markdown.", keys)


def _add_formats(commands: argparse._SubParsersAction) -> None:
    def formats(_: argparse.Namespace) -> int:
        from malaria_cells.data.annotations.readers import table

        print(table(), end="")
        return 0

    _command(commands, "formats", "Print every annotation format that can be read, as Markdown.", formats)


def _add_label_meanings(parser: argparse.ArgumentParser, ignored: str, labels: str) -> None:
    """Add the options that adapt an annotation's category names to a model.

    Args:
        parser: of the command.
        ignored: help text of ``--ignore-labels``.
        labels: noun for the targets of ``--label-map`` in its help text.
    """
    for flag, kind, metavar, meaning in (
        ("--ignore-labels", _names, "A,B,..", ignored),
        ("--label-map", _pairs, "A=B,..", f"map categories of the annotation to {labels}, as in 'RBC=red blood cell'"),
    ):
        parser.add_argument(flag, type=kind, action="append", default=[], metavar=metavar, help=f"{meaning}; may be repeated")


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"found '{text}', expected names separated by commas")
    return names


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs = []
    for pair in filter(str.strip, text.split(",")):
        name, _, label = (side.strip() for side in pair.partition("="))
        if not name or not label:
            raise argparse.ArgumentTypeError(f"found '{text}', expected NAME=LABEL separated by commas, as in 'RBC=red blood cell'")
        pairs.append((name, label))
    return pairs


def _one_map(lists: list[list[tuple[str, str]]]) -> dict[str, str] | None:
    merged: dict[str, str] = {}
    for name, label in (pair for pairs in lists for pair in pairs):
        if merged.setdefault(name, label) != label:
            raise InputError(f"--label-map: '{name}' is mapped to '{merged[name]}' and to '{label}'; give one of them")
    return merged or None


def _expand_home(options: argparse.Namespace) -> None:
    """Expand ``~`` in every path, since a shell does not expand it in ``--image=~/images`` and in quotes."""
    for name, value in vars(options).items():
        is_path = isinstance(value, Path) or (name == "image" and isinstance(value, str))
        if is_path and str(value).startswith("~") and not os.path.lexists(value):
            with contextlib.suppress(RuntimeError):  # no such user: the command reports that the path is missing
                setattr(options, name, type(value)(Path(value).expanduser()))


def _fraction(text: str) -> float:
    return _number(text, float, lambda value: 0 <= value <= 1, "a number between 0 and 1")


def _count(text: str) -> int:
    return int(_number(text, int, lambda value: value >= 1, "a whole number of at least 1"))


def _minutes(text: str) -> float:
    return _number(text, float, lambda value: 0 < value <= 10_000, "a number of minutes above 0, 10000 at most")


def _divisor(text: str) -> float:
    return _number(text, float, lambda value: 0 < value < math.inf, "a number above 0")


def _cell_size(text: str) -> float:
    return _number(text, float, lambda value: 8 <= value <= 10_000, "a number of pixels from 8 to 10000")


def _number(text: str, kind: Callable[[str], float], fits: Callable[[float], bool], expected: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not fits(value):
        raise argparse.ArgumentTypeError(f"found {text}, expected {expected}")
    return value

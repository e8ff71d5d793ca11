"""Arguments of the commands about data sets and settings."""

import argparse
from pathlib import Path

from malaria_cells.app.arguments.shared import Commands, add_annotation, add_overrides, annotation, command
from malaria_cells.app.arguments.values import count


def add_download(commands: Commands) -> None:
    """Add the command `download`."""

    def download(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.download import download, list_names

        return list_names() if options.list else download(options.names, options.data)

    parser = command(commands, "download", "Download public data sets, or render the sample.", download)
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets to download (default: bbbc041)")
    parser.add_argument("--list", action="store_true", help="list the names and exit")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder for the data sets (default: %(default)s)")


def add_explore(commands: Commands) -> None:
    """Add the command `explore`."""

    def explore(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.explore import explore

        request = None if options.source is None else annotation(options)
        return explore(request, options.config, options.set, options.output, options.augment)

    parser = command(commands, "explore", "Summarise and plot a data set.", explore)
    parser.add_argument("source", type=Path, nargs="?", help="annotation file or data set folder (default: the config's)")
    parser.add_argument("--config", type=Path, help="take data set, labels and patch size from a config")
    add_overrides(parser)
    add_annotation(parser)
    parser.add_argument("--output", type=Path, default=Path("results/explore"), help="folder for the images (default: %(default)s)")
    parser.add_argument("--augment", metavar="POLICY", help="show sixteen patches under an augmentation policy")


def add_convert(commands: Commands) -> None:
    """Add the command `convert`."""

    def convert(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.convert import convert

        return convert(annotation(options), options.target, options.to)

    parser = command(commands, "convert", "Convert any annotation to COCO, VOC or YOLO.", convert)
    parser.add_argument("source", type=Path, help="annotation file or data set folder")
    parser.add_argument("target", type=Path, help="new folder to write")
    parser.add_argument("--to", metavar="FORMAT", required=True, help="format to write: coco, voc, yolo, or a plugin's")
    add_annotation(parser)


def add_sample(commands: Commands) -> None:
    """Add the command `sample`."""

    def sample(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.sample import sample

        return sample(options.folder, options.training, options.test, options.seed)

    parser = command(commands, "sample", "Render a data set of thin blood smears.", sample)
    parser.add_argument("folder", type=Path, help="folder to write")
    parser.add_argument("--training", type=count, default=40, help="number of training images (default: %(default)s)")
    parser.add_argument("--test", type=count, default=16, help="number of test images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=42, help="random seed; the same seed renders the same images (default: %(default)s)")


def add_keys(commands: Commands) -> None:
    """Add the command `keys`."""

    def keys(_: argparse.Namespace) -> int:
        from malaria_cells.config.reference import reference

        print(reference(), end="")
        return 0

    command(commands, "keys", "Print every key of the configuration, as Markdown.", keys)


def add_formats(commands: Commands) -> None:
    """Add the command `formats`."""

    def formats(_: argparse.Namespace) -> int:
        from malaria_cells.data.annotations.readers import table

        print(table(), end="")
        return 0

    command(commands, "formats", "Print every annotation format that can be read, as Markdown.", formats)

"""Arguments that several commands have."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from malaria_cells.app.arguments.values import names, pairs

if TYPE_CHECKING:
    from malaria_cells.app.commands.explore import AnnotationRequest

# What `ArgumentParser.add_subparsers` returns; argparse has no public name for it.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def command(commands: Commands, name: str, summary: str, run: Callable[..., int]) -> argparse.ArgumentParser:
    """Add a command that `run` carries out."""
    # When called through train.py or run.py, the usage line shows the script's name instead of the command's.
    is_script = Path(sys.argv[0]).name == f"{name}.py"
    parser = commands.add_parser(name, help=summary, description=summary, prog=f"{name}.py" if is_script else None)
    parser.set_defaults(command=run)
    return parser


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add the config and its overrides."""
    parser.add_argument("--config", type=Path, default=Path("config.yaml"), help="YAML file of settings (default: %(default)s)")
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add overrides of a config."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the config; may be repeated")


def add_annotation(parser: argparse.ArgumentParser) -> None:
    """Add where images and annotations are."""
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="folder of the images (default: the annotation's own folder)")
    parser.add_argument(
        "--format", dest="format_name", default="auto", metavar="FORMAT", help="annotation format (default: recognised by content)"
    )


def annotation(options: argparse.Namespace) -> "AnnotationRequest":
    """Return the request for the annotation of a command that has a `source` and `add_annotation`."""
    from malaria_cells.app.commands.explore import AnnotationRequest

    return AnnotationRequest(options.source, options.images, options.format_name)


def add_label_meanings(parser: argparse.ArgumentParser, ignored: str, labels: str) -> None:
    """Add the options that adapt an annotation's category names to a model.

    Args:
        parser: of the command.
        ignored: help text of ``--ignore-labels``.
        labels: noun for the targets of ``--label-map`` in its help text.
    """
    for flag, kind, metavar, meaning in (
        ("--ignore-labels", names, "A,B,..", ignored),
        ("--label-map", pairs, "A=B,..", f"map categories of the annotation to {labels}, as in 'RBC=red blood cell'"),
    ):
        parser.add_argument(flag, type=kind, action="append", default=[], metavar=metavar, help=f"{meaning}; may be repeated")

"""The command line: arguments only. A command imports its heavy libraries when it starts."""

import argparse
import contextlib
import errno
import io
import logging
import os
import sys
from pathlib import Path

from malaria_cells.app.arguments.data import add_convert, add_download, add_explore, add_formats, add_keys, add_sample
from malaria_cells.app.arguments.detection import INPUT_RANGES, add_run
from malaria_cells.app.arguments.models import add_adapt, add_crossvalidate, add_export, add_train, add_tune
from malaria_cells.app.arguments.views import add_gallery, add_page, add_report
from malaria_cells.base.errors import InputError
from malaria_cells.base.shipped import or_shipped
from malaria_cells.base.tensorflow_setup import silence_tensorflow

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit code: 0 success, 1 a file or folder could not be written or read, 2 wrong request, 3 some images failed, 130 interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may hold characters that the terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    silence_tensorflow()
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        parser = _parser()
        options = parser.parse_args(_join_input_range(sys.argv[1:] if arguments is None else arguments))
        _expand_home(options)
        _find_shipped(options)
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
        add_train,
        add_run,
        add_adapt,
        add_crossvalidate,
        add_tune,
        add_download,
        add_explore,
        add_page,
        add_gallery,
        add_report,
        add_export,
        add_convert,
        add_sample,
        add_keys,
        add_formats,
    ):
        add(commands)
    return parser


def _expand_home(options: argparse.Namespace) -> None:
    """Expand ``~`` in every path, since a shell does not expand it in ``--image=~/images`` and in quotes."""
    for name, value in vars(options).items():
        is_path = isinstance(value, Path) or (name == "image" and isinstance(value, str))
        if is_path and str(value).startswith("~") and not os.path.lexists(value):
            with contextlib.suppress(RuntimeError):  # no such user: the command reports that the path is missing
                setattr(options, name, type(value)(Path(value).expanduser()))


def _find_shipped(options: argparse.Namespace) -> None:
    """Let `--model`, `--from` and `--config` name what comes along with the package, from any folder."""
    for name in ("model", "config"):
        if isinstance(path := getattr(options, name, None), Path) and (found := or_shipped(path)) != path:
            print(f"{path}: not in this folder; taking the one that comes along, {found}", file=sys.stderr)
            setattr(options, name, found)

"""Types of arguments: texts of the command line as numbers, names and pairs."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from malaria_cells.base.errors import InputError


def path_or_url(text: str) -> Path | str:
    """Parse a path, or leave an address such as ``s3://bucket/folder`` as it is."""
    return text if "://" in text else Path(text)


def names(text: str) -> list[str]:
    """Parse names apart by commas."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"found '{text}', expected names separated by commas")
    return names


def pairs(text: str) -> list[tuple[str, str]]:
    """Parse ``A=B`` pairs apart by commas."""
    pairs = []
    for pair in filter(str.strip, text.split(",")):
        name, _, label = (side.strip() for side in pair.partition("="))
        if not name or not label:
            raise argparse.ArgumentTypeError(f"found '{text}', expected NAME=LABEL separated by commas, as in 'RBC=red blood cell'")
        pairs.append((name, label))
    return pairs


def one_map(lists: list[list[tuple[str, str]]]) -> dict[str, str] | None:
    """Join the pairs of an option that may be repeated; None where there is none."""
    merged: dict[str, str] = {}
    for name, label in (pair for pairs in lists for pair in pairs):
        if merged.setdefault(name, label) != label:
            raise InputError(f"--label-map: '{name}' is mapped to '{merged[name]}' and to '{label}'; give one of them")
    return merged or None


def fraction(text: str) -> float:
    """Parse a number from 0 to 1."""
    return number(text, float, lambda value: 0 <= value <= 1, "a number between 0 and 1")


def count(text: str) -> int:
    """Parse a whole number from 1 on."""
    return int(number(text, int, lambda value: value >= 1, "a whole number of at least 1"))


def minutes(text: str) -> float:
    """Parse a number of minutes."""
    return number(text, float, lambda value: 0 < value <= 10_000, "a number of minutes above 0, 10000 at most")


def divisor(text: str) -> float:
    """Parse what pixel values are divided by."""
    return number(text, float, lambda value: 0 < value < math.inf, "a number above 0")


def cell_size(text: str) -> float:
    """Parse the size of a cell in pixels."""
    return number(text, float, lambda value: 8 <= value <= 10_000, "a number of pixels from 8 to 10000")


def number(text: str, kind: Callable[[str], float], fits: Callable[[float], bool], expected: str) -> float:
    """Parse a number that fits; `expected` says in the error which ones do."""
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not fits(value):
        raise argparse.ArgumentTypeError(f"found {text}, expected {expected}")
    return value

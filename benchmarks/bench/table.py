"""The table on the terminal and on a page, and the file of results."""

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.bench.rows import Row

HEADINGS = ("", "ours", "peer", "ratio", "target", "met", "of the limit")
START, END = "<!-- results: python -m benchmarks.bench --page writes them -->", "<!-- end of results -->"
NOT_YET = "Not measured yet: `make bench` does it."


def number(value: float) -> str:
    """Three significant digits, without an exponent up to a million."""
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def cells(row: Row) -> list[str]:
    """The cells of a row as text."""
    target = f"{row.target.comparison} {number(row.target.bound)}{f' {row.unit}' if row.target.of_value else ''}" if row.target else ""
    if row.not_measured:
        return [row.name, "not measured", row.peer_name, "", target, "", ""]
    between = f" ({number(row.spread[0])} to {number(row.spread[1])})" if row.spread and row.repeats > 1 else ""
    peer = row.peer_name if row.peer is None else f"{number(row.peer)} {row.unit}, {row.peer_name}"
    ours = "" if row.value is None else f"{number(row.value)} {row.unit}".strip()
    ratio = "" if row.ratio is None else number(row.ratio) + between
    if row.ratio is None:
        ours += between
    limit = "" if row.limit_share is None else f"{100 * row.limit_share:.0f} % of {row.limit_name}"
    return [row.name, ours, peer, ratio, target, {True: "yes", False: "NO", None: ""}[row.met], limit]


def notes(rows: list[Row]) -> list[str]:
    """What is to be said beside the numbers, a line for each row that has something."""
    said = [(row.name, f"not measured: {row.not_measured}" if row.not_measured else row.note) for row in rows]
    return list(dict.fromkeys(f"{name}: {note}" for name, note in said if note))


def as_text(rows: list[Row]) -> str:
    """The table for a terminal, with its notes."""
    lines = [list(HEADINGS), *(cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*text, *(["", *notes(rows)] if notes(rows) else [])])


def as_markdown(rows: list[Row]) -> str:
    """The table for a page, with its notes."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
    lines += ["| " + " | ".join(_escaped(cell) for cell in cells(row)) + " |" for row in rows]
    return "\n".join([*lines, *(["", *(f"- {_escaped(note)}" for note in notes(rows))] if notes(rows) else [])])


def _escaped(text: str) -> str:
    return re.sub(r"([|<])", r"\\\1", text)


def read(path: Path) -> dict[str, Any]:
    """The groups that a file of results holds; none if there is no file."""
    return json.loads(path.read_text(encoding="utf-8"))["groups"] if path.is_file() else {}


def write(path: Path, groups: dict[str, Any]) -> None:
    """Write groups into a file of results. Groups that were measured before and not now stay, each with its own machine and date."""
    content = json.dumps({"groups": read(path) | groups}, indent=1, ensure_ascii=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(content, encoding="utf-8")
    new.replace(path)


def with_results(page: str, results: str) -> str:
    """A page's text with results between its two comments.

    Raises:
        ValueError: the page lacks one of the comments.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"expected the lines {START} and {END}, between which the results stand")
    return f"{before}{START}\n\n{results}\n\n{END}{after}"

"""Writes the tables of docs/performance.md from a file of results."""

from pathlib import Path
from typing import Any

from benchmarks.bench import table
from benchmarks.bench.groups import TITLES
from benchmarks.bench.rows import Row
from benchmarks.bench.settings import ROOT

PAGE = ROOT / "docs" / "performance.md"


def write_page(page: Path, groups: dict[str, Any]) -> None:
    """Put results between the page's two comments.

    Raises:
        ValueError: the page lacks one of the comments.
    """
    page.write_text(table.with_results(page.read_text(encoding="utf-8"), as_sections(groups)), encoding="utf-8")


def as_sections(groups: dict[str, Any]) -> str:
    """A heading, the machine and a table for each group, in the order of `TITLES`."""
    parts = []
    for name, title in TITLES.items():
        parts.append(f"## {title}")
        parts.append(_section(groups[name]) if name in groups else table.NOT_YET)
    return "\n\n".join(parts)


def _section(group: dict[str, Any]) -> str:
    machine, rows = group["machine"], [Row.from_json(row) for row in group["rows"]]
    words = f"{group['date'][:10]}, {machine['cores_in_use']} cores of {machine['cores']}, {machine['cpu']}"
    versions = ", ".join(f"{name} {number}" for name, number in group["versions"].items())
    quick = " **Small numbers, taken to try the benchmark: no result.**" if group["quick"] else ""
    return f"{words}; commit {group['commit']}; {versions}.{quick}\n\n{table.as_markdown(rows)}"

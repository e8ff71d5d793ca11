"""Charts of a report: class fractions, precision and recall, reliability, parasitemia."""

from pathlib import Path

import numpy as np

from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.calibration import Reliability
from malaria_cells.results.style import PALETTE, QUIET, class_colours, figure, short


def class_fractions(counts: dict[str, np.ndarray], names: tuple[str, ...], path: Path) -> None:
    """Draw bars with the number and percentage of cells of each class, one group of bars per class.

    Args:
        counts: int (n_labels,), by the name of their source: a part, or "annotated" and "detected".
        names: class names.
        path: image to write.
    """
    height = 0.8 / len(counts)
    positions = np.arange(len(names))
    with figure(path, 9, 0.9 + len(names) * (0.22 + 0.2 * len(counts))) as ax:
        largest = max(max(int(c.max(initial=0)) for c in counts.values()), 1)
        for i, (source, class_counts) in enumerate(counts.items()):
            fractions = class_counts / max(int(class_counts.sum()), 1)
            y = positions + (i - (len(counts) - 1) / 2) * height
            ax.barh(y, class_counts, height * 0.92, color=PALETTE[(i + 1) % len(PALETTE)], label=f"{source}: {int(class_counts.sum()):,}")
            for position, n, fraction in zip(y, class_counts, fractions, strict=True):
                ax.text(max(n, 0.8), position, f"  {int(n):,} ({fraction:.2%})" if n else "  0", va="center", fontsize=8.5)
        ax.set_yticks(positions, [short(name) for name in names])
        ax.invert_yaxis()
        if largest > 200:
            ax.set_xscale("log")
            ax.set_xlim(0.8, largest * 12)
            ax.xaxis.set_major_formatter("{x:,.0f}")
        else:
            ax.set_xlim(0, largest * 1.35)
        ax.set(xlabel="cells (logarithmic scale)" if largest > 200 else "cells")
        if len(counts) > 1:
            ax.legend(loc="lower right", fontsize=9)


def precision_recall(curves: dict[str, tuple[np.ndarray, np.ndarray]], labels: LabelSet, path: Path) -> None:
    """Draw a precision-recall curve for each class.

    Args:
        curves: recall and precision, float (k,) each, by class name; classes may be missing.
        labels: the classes, for their colours.
        path: image to write.
    """
    colours = class_colours(labels, labels.is_healthy_red_cell)
    styles = ("-", "--", "-.", ":")
    with figure(path, 7, 4.6) as ax:
        for i, (name, (recall, precision)) in enumerate(curves.items()):
            style = {"color": colours.get(name, "#000000"), "linestyle": styles[i % len(styles)], "linewidth": 2}
            ax.plot(recall, precision, label=short(name), **style)
        ax.set(xlabel="recall: fraction of annotated cells detected", ylabel="precision: fraction of detections that are right")
        ax.set(xlim=(0, 1.01), ylim=(0, 1.02))
        ax.grid(color="#E4E8EA")
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)


def reliability_diagram(points: Reliability, path: Path, name: str) -> None:
    """Draw the observed fraction by predicted probability, with 95 % intervals (Wilson 1927, JASA 22(158)), and a histogram.

    Args:
        points: the bins of the diagram.
        path: image to write.
        name: what is predicted, for the legend.
    """
    from scipy.stats import binomtest  # slow to import: half a second of a detection's start

    tests = [binomtest(round(n * fraction), int(n)) for n, fraction in zip(points.n, points.right, strict=True)]
    ends = np.array([t.proportion_ci(0.95, method="wilson") for t in tests]).reshape(-1, 2)
    with figure(path, 6.4, 5.4, rows=2, height_ratios=(4, 1), sharex=True) as (top, bottom):
        top.plot([0, 1], [0, 1], color=QUIET, linestyle="--", label="perfect calibration")
        top.vlines(points.predicted, ends[:, 0], ends[:, 1], color=PALETTE[1], linewidth=5, alpha=0.3, label="95 % interval")
        top.plot(points.predicted, points.right, color=PALETTE[1], marker="o", linewidth=2, label=name)
        top.set(ylabel="observed fraction", xlim=(0, 1), ylim=(0, 1.02))
        top.grid(color="#E4E8EA")
        top.legend(loc="lower right", fontsize=9)
        bottom.bar(points.predicted, points.n, width=0.05, color=PALETTE[1])
        bottom.set(ylabel="number", xlabel="predicted probability")
        bottom.set_yscale("log", subs=[])
        bottom.set_ylim(bottom=0.8)
        bottom.yaxis.set_major_formatter("{x:,.0f}")


def parasitemia_chart(rows: list[tuple[str, float, float, float, float | None]], path: Path) -> None:
    """Draw the parasitemia of each image with its interval.

    Args:
        rows: image name, parasitemia, lower and upper end of the interval, and the annotated parasitemia or None; fractions from 0 to 1.
        path: image to write.
    """
    names = [short(row[0]) for row in rows]
    fraction, low, high = (100 * np.array([row[i] for row in rows], dtype=float) for i in (1, 2, 3))
    y = np.arange(len(rows))
    with figure(path, 9, 1.1 + 0.19 * len(rows)) as ax:
        ax.hlines(y, low, high, color=PALETTE[1], linewidth=2, alpha=0.55, label="95 % interval")
        ax.plot(fraction, y, "o", color=PALETTE[1], markersize=5, label="counted")
        annotated = [(100 * row[4], i) for i, row in enumerate(rows) if row[4] is not None]
        if annotated:
            x, positions = zip(*annotated, strict=True)
            ax.plot(x, positions, "x", color=PALETTE[0], markersize=6, markeredgewidth=1.8, label="annotated")
        ax.set_yticks(y, names, fontsize=7.5)
        ax.invert_yaxis()
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set(xlabel="infected red cells, percent")
        ax.set_xlim(left=-0.015 * ax.get_xlim()[1])  # markers at 0 are drawn whole
        ax.grid(axis="x", color="#E4E8EA")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=9)

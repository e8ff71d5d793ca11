"""Plots of a training: learning curves and confusion matrix."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from malaria_cells.results.style import PALETTE, QUIET, figure, short

if TYPE_CHECKING:  # the report of a detection has one of these plots, and no training
    from malaria_cells.training.training_result import LearningCurve

CLASSIFIER_PANELS = {"loss": "Loss", "macro_f1": "Macro F1"}


def training_curves(curves: "list[LearningCurve]", path: Path, panels: dict[str, str] = CLASSIFIER_PANELS) -> None:
    """Plot two metrics by epoch and mark the best epoch; the refiner's curves are dashed.

    Args:
        curves: learning curves of the classifier and, if there is one, of the refiner.
        path: image to write.
        panels: titles of the two plots, by key of the history.
    """
    with figure(path, 9, 3.6, columns=2) as axes:
        for ax, key, title in zip(axes, *zip(*panels.items(), strict=True), strict=True):
            for number, curve in enumerate(curves):
                epochs = np.arange(1, len(curve.history) + 1)
                style = {"marker": "o", "markersize": 3, "linestyle": "--" if number else "-"}
                suffix = ", refiner" if number else ""
                ax.plot(epochs, [row[key] for row in curve.history], color=QUIET, label=f"training (augmented){suffix}", **style)
                validation = [row[f"val_{key}"] for row in curve.history if f"val_{key}" in row]
                if validation:  # there is none if all images are trained on
                    ax.plot(epochs, validation, color=PALETTE[1], label=f"validation{suffix}", **style)
                ax.axvline(curve.best_epoch + 1, color=PALETTE[0], linestyle=":", label=f"kept: epoch {curve.best_epoch + 1}{suffix}")
            ax.set(title=title, xlabel="epoch")
            ax.xaxis.get_major_locator().set_params(integer=True)
            ax.set_ylim(bottom=0, top=1 if key == "macro_f1" else None)
        legend_position = "lower right" if "macro_f1" in panels else "upper right"
        axes[1].legend(loc=legend_position, fontsize=9, frameon=True, framealpha=0.9, edgecolor="none")


def confusion_matrix(counts: np.ndarray, names: tuple[str, ...], title: str, path: Path, rows: tuple[str, ...] | None = None) -> None:
    """Draw a confusion matrix with counts, shaded by the fraction of the row.

    Args:
        counts: int (n, n), rows true, columns predicted.
        names: names of the columns.
        title: title of the plot.
        path: image to write.
        rows: names of the rows; None: those of the columns.
    """
    counts = np.asarray(counts)
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.6 + 0.75 * len(names)
    with figure(path, side + 1.2, side) as ax:
        image = ax.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
        for (row, column), n in np.ndenumerate(counts):
            fraction = fractions[row, column]
            colour = "white" if fraction > 0.55 else "black" if n else "#B0B0B0"
            text = f"{n:,}" if not n or counts[row].sum() == 0 else f"{n:,}\n{_percent(fraction)}"
            ax.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
        ax.set_xticks(range(len(names)), [short(name) for name in names], rotation=35, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(names)), [short(name) for name in rows or names])
        ax.set(title=title, xlabel="predicted", ylabel="annotated")
        ax.figure.colorbar(image, ax=ax, shrink=0.7, label="fraction of the annotated class")


def _percent(fraction: float) -> str:
    """Percent without decimals; '<1%' and '>99%' where rounding would give 0 or 100."""
    return "<1%" if 0 < fraction < 0.005 else ">99%" if 0.995 < fraction < 1 else f"{fraction:.0%}"

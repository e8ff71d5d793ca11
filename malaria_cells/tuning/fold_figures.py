"""The figures of cross-validation: those of each fold, their mean and its standard error."""

from typing import Any

import numpy as np

from malaria_cells.evaluation.by_data_set import DETECTION, at

CLASSIFICATION: dict[str, tuple[str, ...]] = {
    "accuracy": ("accuracy",),
    "macro F1": ("macro_f1",),
    "balanced accuracy": ("balanced_accuracy",),
}


def figures_of(scored: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """The values of each figure of the table by fold; None if a fold lacks the figure.

    Args:
        scored: metrics of each fold, one or more.
    """
    paths = DETECTION if "mAP50" in scored[0] else CLASSIFICATION
    return {heading: [at(metrics, path) for metrics in scored] for heading, path in paths.items()}


def mean_and_error(values: list[float | None]) -> tuple[float, float | None] | None:
    """Mean over the folds that have the figure, and its standard error; None if no fold has it.

    The standard error is slightly too small, since any two trainings share most of their images (Bengio and Grandvalet 2004, JMLR 5,
    1089-1105).
    """
    present = [v for v in values if v is not None]
    if not present:
        return None
    return float(np.mean(present)), float(np.std(present, ddof=1) / np.sqrt(len(present))) if len(present) > 1 else None

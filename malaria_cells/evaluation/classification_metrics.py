"""Metrics of a classification of patches."""

from typing import Any

import numpy as np

from malaria_cells.evaluation.average_precision import mean_present


def classification_metrics(class_ids: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    """Accuracy, micro and macro F1, and precision, recall and F1 of each class.

    Args:
        class_ids: int (n,), true classes.
        probabilities: float (n, n_classes).
        names: names of the classes.

    Returns:
        JSON-ready metrics. The metrics of a class without patches are None and left out of macro means. ``roc_auc`` is None unless there
        are two classes, both with patches.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support  # slow to import: a second of a detection's start

    predicted = probabilities.argmax(axis=1)
    all_ids = list(range(len(names)))
    precision, recall, f1, support = precision_recall_fscore_support(class_ids, predicted, labels=all_ids, zero_division=0)
    per_class = {
        name: {
            "precision": float(precision[i]) if support[i] else None,
            "recall": float(recall[i]) if support[i] else None,
            "f1": float(f1[i]) if support[i] else None,
            "n": int(support[i]),
        }
        for i, name in enumerate(names)
    }
    accuracy = float((predicted == class_ids).mean()) if len(class_ids) else None
    return {
        "patches": len(class_ids),
        "accuracy": accuracy,
        "micro_f1": accuracy,  # with one label per patch, micro F1 equals accuracy
        "macro_f1": mean_present([c["f1"] for c in per_class.values()]),
        "balanced_accuracy": mean_present([c["recall"] for c in per_class.values()]),
        "roc_auc": _roc_auc(class_ids, probabilities),
        "per_class": per_class,
        "confusion": confusion_matrix(class_ids, predicted, labels=all_ids).tolist(),
    }


def _roc_auc(class_ids: np.ndarray, probabilities: np.ndarray) -> float | None:
    if probabilities.shape[1] != 2 or len(np.unique(class_ids)) < 2:
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(class_ids, probabilities[:, 1]))

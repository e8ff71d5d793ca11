"""What a classification of patches is worth by their true classes."""

from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

from malaria_cells.evaluation.average_precision import mean_present


def classification_metrics(class_ids: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    """Accuracy, micro and macro F1, and each class's precision, recall, F1.

    Args:
        class_ids: int (n,), true classes.
        probabilities: (n, n_classes).
        names: of the classes.

    Returns:
        JSON-ready; a class's recall is its accuracy; ``roc_auc`` is there where both of two classes occur; classes that do not
        occur in the truth have None and do not count in the macro mean.
    """
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
        "micro_f1": accuracy,  # with one label a patch, micro F1, precision and recall are the accuracy
        "macro_f1": mean_present([c["f1"] for c in per_class.values()]),
        "balanced_accuracy": mean_present([c["recall"] for c in per_class.values()]),
        "roc_auc": _roc_auc(class_ids, probabilities),
        "per_class": per_class,
        "confusion": confusion_matrix(class_ids, predicted, labels=all_ids).tolist(),
    }


def _roc_auc(class_ids: np.ndarray, probabilities: np.ndarray) -> float | None:
    if probabilities.shape[1] != 2 or len(np.unique(class_ids)) < 2:
        return None
    return float(roc_auc_score(class_ids, probabilities[:, 1]))

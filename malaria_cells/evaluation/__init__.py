"""Metrics of detections and classifications.

In: annotated images and detections, or true classes and probabilities. Out: COCO metrics, and metrics of cell counts.
"""

from malaria_cells.evaluation.average_precision import AveragePrecision, as_one_class, average_precision, cell_figures, mean_present
from malaria_cells.evaluation.classification_metrics import classification_metrics
from malaria_cells.evaluation.detection_metrics import DetectionMetrics, detection_metrics
from malaria_cells.evaluation.matches import (
    ClassMatches,
    class_matches,
    error_rates,
    infected_figures,
    interval_coverage,
    micro_f1,
)
from malaria_cells.evaluation.unscored import is_unknown, unscored

__all__ = [
    "AveragePrecision",
    "ClassMatches",
    "DetectionMetrics",
    "as_one_class",
    "average_precision",
    "cell_figures",
    "class_matches",
    "classification_metrics",
    "detection_metrics",
    "error_rates",
    "infected_figures",
    "interval_coverage",
    "is_unknown",
    "mean_present",
    "micro_f1",
    "unscored",
]

"""Metrics of detections in whole images: the content of ``metrics.json``."""

from dataclasses import asdict, dataclass
from typing import Any

from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation.average_precision import AveragePrecision, as_one_class, average_precision, cell_figures, mean_present
from malaria_cells.evaluation.matches import (
    InfectedFigures,
    MatchFigures,
    ParasitemiaErrors,
    cell_matches,
    infected_figures,
    micro_f1,
    parasitemia_errors,
)


@dataclass(frozen=True)
class DetectionMetrics:
    """Metrics of detections, compared with annotated images. A figure is None if its denominator is 0.

    Attributes:
        labels: the classes.
        images: number of annotated images.
        seconds_per_image: measured time, or None.
        by_class: average precision and precision-recall curve of each class.
        of_cells: average precision of all cells as one class.
        cell: precision, recall and F1 of the counted cells, whatever their class.
        micro_f1: F1 over all classes, each cell with the one label that it is counted as.
        infected: figures of the infected cells, whatever the stage; None without infected labels.
        infected_ap50: average precision of the infected cells as one class at IoU 0.5; None without infected labels.
        parasitemia: errors of the parasitemia of an image; None without infected labels.
    """

    labels: LabelSet
    images: int
    seconds_per_image: float | None
    by_class: AveragePrecision
    of_cells: AveragePrecision
    cell: MatchFigures
    micro_f1: float | None
    infected: InfectedFigures | None = None
    infected_ap50: float | None = None
    parasitemia: ParasitemiaErrors | None = None

    @property
    def map(self) -> float | None:
        """COCO's mAP: averaged over IoU 0.5 to 0.95 and over the classes present."""
        return mean_present(self.by_class.ap)

    @property
    def map50(self) -> float | None:
        """COCO's mAP at IoU 0.5."""
        return mean_present(self.by_class.ap50)

    @property
    def map75(self) -> float | None:
        """COCO's mAP at IoU 0.75."""
        return mean_present(self.by_class.ap75)

    @property
    def cell_ap50(self) -> float | None:
        """Class-agnostic average precision at IoU 0.5."""
        return self.of_cells.ap50[0]

    @property
    def cell_recall50(self) -> float | None:
        """Fraction of the annotated cells that match a detection of any score."""
        return self.of_cells.recall50[0]

    def to_json(self) -> dict[str, Any]:
        """The content of ``metrics.json``."""
        by_class = self.by_class
        rows = zip(self.labels.names, by_class.ap, by_class.ap50, by_class.n, strict=True)
        content: dict[str, Any] = {
            "images": self.images,
            "seconds_per_image": self.seconds_per_image,
            "mAP": self.map,
            "mAP50": self.map50,
            "mAP75": self.map75,
            "per_class": {name: {"AP": ap, "AP50": ap50, "n": n} for name, ap, ap50, n in rows},
            "cell": {"AP50": self.cell_ap50, "recall50": self.cell_recall50, **asdict(self.cell)},
            "micro_f1": self.micro_f1,
        }
        if self.infected is not None and self.parasitemia is not None:
            content["infected"] = asdict(self.infected) | {"AP50": self.infected_ap50}
            content["parasitemia"] = asdict(self.parasitemia)
        return content


def detection_metrics(
    images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet, seconds_per_image: float | None
) -> DetectionMetrics:
    """Metrics of detections, compared with annotated images.

    Args:
        images: annotated images.
        detections: detections of each image, in the same order.
        labels: the classes.
        seconds_per_image: measured time, or None.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> box, ids = np.array([[10, 10, 50, 50]], dtype=np.float32), np.array([0])
        >>> truth = AnnotatedImage("a.png", Path("a.png"), (100, 80), "a.png", box, ids, np.array([False]))
        >>> detections = Detections.from_boxes(box + 2, ids, np.array([0.9]))
        >>> detection_metrics([truth], [detections], LabelSet(("cell",)), None).map50
        1.0
    """
    has_infected = bool(labels.is_infected.any())
    return DetectionMetrics(
        labels,
        len(images),
        seconds_per_image,
        by_class=average_precision(images, detections, labels),
        of_cells=cell_figures(images, detections, labels),
        cell=cell_matches(images, detections),
        micro_f1=micro_f1(images, detections, labels),
        infected=infected_figures(images, detections, labels) if has_infected else None,
        infected_ap50=as_one_class(images, detections, labels.is_infected).ap50[0] if has_infected else None,
        parasitemia=parasitemia_errors(images, detections, labels) if has_infected else None,
    )

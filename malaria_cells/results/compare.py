"""Annotation and detection side by side on the image."""

import cv2
import numpy as np
import supervision as sv

from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.labels import LabelSet
from malaria_cells.results.overlay import draw_detections

GAP = 8  # pixels between the halves, on an image 1280 wide
PAPER, INK = 255, (40, 40, 40)


def compared(image: np.ndarray, truth: AnnotatedImage, found: sv.Detections, labels: LabelSet, with_red_cells: bool) -> np.ndarray:
    """Draw the annotation on the left and the counted detections on the right, each under its name and number of boxes.

    Args:
        image: uint8 RGB (H, W, 3).
        truth: its annotation; ignore regions are not drawn.
        found: its detections, with ``data["counted_as"]``.
        labels: the classes.
        with_red_cells: whether healthy red cells are drawn; in a crowded field they hide the rest.

    Returns:
        uint8 RGB, as wide as two images and a gap, and higher by a line of text.
    """
    healthy = labels.is_healthy_red_cell
    annotated = sv.Detections(xyxy=truth.cells_xyxy, class_id=truth.cell_class_ids)
    counted = found[found.data["counted_as"] >= 0] if len(found) else found
    if not with_red_cells:
        annotated = annotated[~healthy[truth.cell_class_ids]]
        counted = counted[~healthy[counted.data["counted_as"]]] if len(counted) else counted
    unit = max(image.shape[:2]) / 1280
    halves = [
        _under_a_line(draw_detections(image, shown, labels), f"{name}: {len(shown)} boxes", unit)
        for name, shown in (("annotated", annotated), ("detected", counted))
    ]
    gap = np.full((halves[0].shape[0], max(round(GAP * unit), 2), 3), PAPER, dtype=np.uint8)
    return np.concatenate([halves[0], gap, halves[1]], axis=1)


def _under_a_line(scene: np.ndarray, text: str, unit: float) -> np.ndarray:
    height = max(round(36 * unit), 14)
    line = np.full((height, scene.shape[1], 3), PAPER, dtype=np.uint8)
    place = (max(round(8 * unit), 2), round(height * 0.72))
    cv2.putText(line, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.8 * unit, INK, max(round(2 * unit), 1), cv2.LINE_AA)
    return np.concatenate([line, scene])

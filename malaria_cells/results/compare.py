"""Draws annotation and detections side by side."""

import cv2
import numpy as np

from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.results.overlay import draw_detections

GAP = 8  # pixels between the two images, if they are 1280 pixels wide
PAPER, INK = 255, (40, 40, 40)  # RGB values of background and text


def compared(image: np.ndarray, truth: AnnotatedImage, detections: Detections, labels: LabelSet, with_red_cells: bool) -> np.ndarray:
    """Draw the annotation on the left and the counted detections on the right, each with its name and number of boxes above it.

    Args:
        image: uint8 RGB (H, W, 3).
        truth: annotation of the image; ignore regions are not drawn.
        detections: detections in the image.
        labels: the classes.
        with_red_cells: whether healthy red cells are drawn; in a crowded field of view they hide the other cells.

    Returns:
        uint8 RGB, as wide as two images and a gap, and higher by a line of text.
    """
    healthy = labels.is_healthy_red_cell
    annotated = Detections.from_boxes(truth.cells_xyxy, truth.cell_class_ids)
    counted = detections[detections.counted_as >= 0]
    if not with_red_cells:
        annotated = annotated[~healthy[truth.cell_class_ids]]
        counted = counted[~healthy[counted.counted_as]]
    unit = max(image.shape[:2]) / 1280
    halves = [
        _with_title(draw_detections(image, cells, labels, with_scores=cells is not annotated), f"{name}: {len(cells)} boxes", unit)
        for name, cells in (("annotated", annotated), ("detected", counted))
    ]
    gap = np.full((halves[0].shape[0], max(round(GAP * unit), 2), 3), PAPER, dtype=np.uint8)
    return np.concatenate([halves[0], gap, halves[1]], axis=1)


def _with_title(scene: np.ndarray, text: str, unit: float) -> np.ndarray:
    height = max(round(36 * unit), 14)
    title = np.full((height, scene.shape[1], 3), PAPER, dtype=np.uint8)
    origin = (max(round(8 * unit), 2), round(height * 0.72))
    cv2.putText(title, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.8 * unit, INK, max(round(2 * unit), 1), cv2.LINE_AA)
    return np.concatenate([title, scene])

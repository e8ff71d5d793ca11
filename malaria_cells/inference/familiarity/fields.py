"""Signals of a large image: those of fields of view in it. Reduced as a whole to the size of a field, its cells would be dots."""

from dataclasses import replace

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import LargeImage
from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.familiarity.signals import IS_CELL, MAX_SIDE, MEASURED_CELL, measure

FIELDS = 9  # fields of view whose median counts, so that dirt or an empty place in some of them does not decide


def measure_fields(image: LargeImage, detections: Detections, labels: LabelSet, cell_size: float) -> np.ndarray:
    """The median of each of `signals.measure` over fields of view: float64 (n_signals,).

    A field is about as large as a usual photograph, and lies around a cell, so that the glass around a smear is not measured. Cells that
    reach into a field are cut at its edge.

    Args:
        image: the image.
        detections: those of the whole image that `Detector.detect` returns, including those below the operating thresholds.
        labels: the classes.
        cell_size: median longer side of a cell in the training images in pixels.
    """
    height, width = image.shape[:2]
    cells_xyxy = detections.xyxy[detections.objectness >= IS_CELL]
    side = round(MAX_SIDE / MEASURED_CELL * (boxes.median_size(cells_xyxy) or cell_size))
    field_wh = np.minimum([width, height], side)
    corners = np.clip(_middles(cells_xyxy, (width, height)) - field_wh / 2, 0, [width, height] - field_wh).astype(int)
    values = []
    for left, top in np.unique(corners, axis=0).tolist():
        field_xyxy = np.array([left, top, left + field_wh[0], top + field_wh[1]], dtype=np.float32)
        in_field = np.clip(detections.xyxy, np.tile(field_xyxy[:2], 2), np.tile(field_xyxy[2:], 2))
        reaches_in = (in_field[:, 2:] > in_field[:, :2]).all(axis=1)
        here = replace(detections[reaches_in], xyxy=in_field[reaches_in] - np.tile(field_xyxy[:2], 2))
        values.append(measure(image.read(left, top, *field_wh.tolist()), here, labels, cell_size))
    return np.asarray(np.median(values, axis=0))


def _middles(cells_xyxy: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Middles of the fields: of cells evenly spaced from the top to the bottom of the image, or of the image if there are none: (n, 2)."""
    if len(cells_xyxy) == 0:
        return np.array([size_wh]) / 2
    centres = (cells_xyxy[:, :2] + cells_xyxy[:, 2:]) / 2
    order = np.lexsort(centres.T)  # by height; where cells lie beside each other from left to right is random
    return np.asarray(centres[order[np.unique(((np.arange(FIELDS) + 0.5) / FIELDS * len(order)).astype(int))]])

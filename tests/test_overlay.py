"""Detections drawn on an image."""

from dataclasses import replace

import numpy as np
import pytest
from supervision.annotators import core

from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.results.overlay import MAX_SPREAD, draw_detections

LABELS = LabelSet(("red blood cell", "gametocyte"), infected=("gametocyte",), red_cells=("red blood cell",))


def _name_pixels(boxes: list[list[float]]) -> int:
    """How many pixels are as white as the names are, on a black image."""
    cells = Detections.from_boxes(xyxy=np.array(boxes, float), confidence=np.full(len(boxes), 0.9), class_id=np.ones(len(boxes), int))
    scene = draw_detections(np.zeros((240, 320, 3), np.uint8), cells, LABELS)
    return int((scene > 200).all(axis=2).sum())


@pytest.mark.parametrize("box", [[300, 100, 320, 120], [200, 0, 230, 20], [0, 100, 20, 120], [300, 0, 320, 20], [300, 220, 320, 240]])
def test_a_name_stays_whole_at_the_edges(box):
    assert _name_pixels([box]) == _name_pixels([[100, 100, 130, 130]]) > 0


def test_names_of_neighbours_do_not_cover_one_another():
    assert _name_pixels([[100, 100, 130, 130], [104, 102, 134, 132]]) == 2 * _name_pixels([[100, 100, 130, 130]])


def test_names_by_the_hundred_stay_inside_and_are_not_compared_with_one_another(monkeypatch):
    compared = []
    spread = core.spread_out_boxes
    monkeypatch.setattr(core, "spread_out_boxes", lambda boxes: compared.append(len(boxes)) or spread(boxes))
    edge = [300, 100, 320, 120]
    assert _name_pixels([edge] * (MAX_SPREAD + 1)) == _name_pixels([edge])
    assert max(compared, default=1) == 1
    _name_pixels([edge] * MAX_SPREAD)
    assert max(compared) == MAX_SPREAD


def test_only_what_is_counted_is_drawn_and_healthy_cells_have_no_name():
    boxes = np.array([[10, 30, 40, 60], [100, 100, 130, 130]], float)
    cells = Detections.from_boxes(xyxy=boxes, confidence=np.array([0.9, 0.9]), class_id=np.array([0, 1]))
    cells = replace(cells, counted_as=np.array([0, -1]))
    image = np.zeros((240, 320, 3), np.uint8)
    scene = draw_detections(image, cells, LABELS)
    assert image.max() == 0, "the image itself is left alone"
    rows, columns = np.nonzero(scene.any(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (30, 60, 10, 40)

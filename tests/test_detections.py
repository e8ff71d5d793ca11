"""Detections of an image: selections, boxes without networks, and the same cells for the supervision library."""

from dataclasses import fields

import numpy as np
import pytest
import supervision as sv
from hypothesis import given
from hypothesis import strategies as st

from malaria_cells.data.detections import Detections


def drawn(n, seed=0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 20, (n, 2))], axis=1).astype(np.float32)
    columns = {"objectness": rng.random(n), "probabilities": rng.random((n, 3)), "label_scores": rng.random((n, 2))}
    return Detections.from_boxes(
        boxes, rng.integers(0, 2, n), rng.random(n), **columns, counted_as=rng.integers(-1, 2, n), names=("a", "b")
    )


@given(st.integers(0, 12), st.data())
def test_a_selection_takes_every_column_and_remembers_positions(n, data):
    detections = drawn(n)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool)
    chosen = detections[mask]
    assert chosen.index.tolist() == np.flatnonzero(mask).tolist()
    for field in fields(detections):
        before, after = getattr(detections, field.name), getattr(chosen, field.name)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(after, before[mask])
    assert chosen[chosen.counted_as >= 0].index.tolist() == np.flatnonzero(mask & (detections.counted_as >= 0)).tolist()


def test_supervision_has_the_same_cells():
    detections = drawn(5)
    theirs = detections.to_supervision()
    assert isinstance(theirs, sv.Detections)
    np.testing.assert_array_equal(theirs.xyxy, detections.xyxy)
    np.testing.assert_array_equal(theirs.class_id, detections.class_id)
    assert theirs.data.keys() == {"probabilities", "objectness", "label_scores", "counted_as", "class_name"}
    assert theirs.data["class_name"].tolist() == [("a", "b")[i] for i in detections.class_id]
    # Its selection agrees with ours, column by column.
    for name, values in theirs[np.array([3, 1])].data.items():
        assert np.asarray(values).tolist() == getattr(detections[[3, 1]], name).tolist()
    assert len(sv.Detections.merge([theirs, drawn(3, seed=1).to_supervision()])) == 8


def test_boxes_alone_are_certain_and_counted_as_they_are_labelled():
    cells = Detections.from_boxes(np.array([[0, 0, 9, 9], [5, 5, 20, 30]]), [1, 0])
    assert cells.counted_as.tolist() == [1, 0]
    assert cells.confidence.tolist() == cells.objectness.tolist() == [1, 1]
    assert "class_name" not in cells.data
    with pytest.raises(TypeError):
        Detections.from_boxes(np.zeros((1, 4)), [0], colour=np.zeros(1))

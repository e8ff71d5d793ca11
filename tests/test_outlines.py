"""Boxes of outlines and masks are those of pycocotools, and of the pixels themselves; damaged ones are refused with words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from malaria_cells.data.annotations.outlines import outline_bounds, points_bounds, rotated_bounds

masks = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1)))


def run_lengths(mask):
    flat = mask.flatten(order="F").tolist()
    runs, last = [0], 0
    for value in flat:
        if value != last:
            runs.append(0)
            last = value
        runs[-1] += 1
    return runs


@given(masks)
def test_masks_have_the_box_of_their_pixels(mask):
    height, width = mask.shape
    packed = coco_mask.encode(np.asfortranarray(mask))
    rows, columns = np.nonzero(mask)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else None
    for counts in (packed["counts"].decode(), run_lengths(mask)):
        assert outline_bounds({"counts": counts, "size": [height, width]}, (width, height)) == box
    if box:
        x, y, w, h = coco_mask.toBbox(packed).tolist()
        assert box == (x, y, x + w, y + h)


@given(st.lists(st.integers(0, 400), max_size=20), st.integers(1, 40), st.integers(1, 40))
def test_what_pycocotools_packs_is_unpacked(runs, height, width):
    """Long runs, whose differences are negative and take several characters."""
    left = height * width * 10
    own = []
    for run in runs:
        own.append(min(run, left))
        left -= own[-1]
    own.append(left)
    packed = coco_mask.frPyObjects({"counts": own, "size": [height, width * 10]}, height, width * 10)["counts"].decode()
    size = [height, width * 10]
    assert outline_bounds({"counts": packed, "size": size}, None) == outline_bounds({"counts": own, "size": size}, None)


@pytest.mark.parametrize(
    ("segmentation", "box"),
    [
        ([[10, 20, 40, 20, 40, 50]], (10, 20, 40, 50)),
        ([[10, 20, 40, 20, 40, 50], [0, 60, 5, 60, 5, 70.5]], (0, 20, 40, 70.5)),  # a cell in two parts
        ([10, 20, 40, 20, 40, 50], (10, 20, 40, 50)),
        ([[[10, 20], [40, 20], [40, 50]]], (10, 20, 40, 50)),
        ([[10, 20, 40, 20]], None),
        ([], None),
        ([[]], None),
        ({"counts": [12], "size": [3, 4]}, None),
        ({"counts": [0, 12], "size": [3, 4]}, (0, 0, 4, 3)),
    ],
)
def test_outlines(segmentation, box):
    assert outline_bounds(segmentation, None) == box


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "the type NoneType; expected polygons"),
        ("abc", "the type str"),
        ([[1, 2, 3]], "3 numbers; expected pairs"),
        ([[1, 2, 3, 4, 5, "x"]], "instead of a point"),
        ([[1, 2, 3, 4, 5, None]], "instead of a point"),
        ([[1, 2, 3, 4, 5, 10**400]], "too large"),
        ([{}], "a dict instead of a polygon"),
        ({}, "without its size"),
        ({"size": [3, 4]}, "do not fill its 4 x 3 pixels"),
        ({"size": [3, 4], "counts": [5, 5]}, "do not fill"),
        ({"size": [3, 4], "counts": [13, -1]}, "do not fill"),
        ({"size": [3, 4], "counts": [12.0]}, "do not fill"),
        ({"size": [3, 4], "counts": "hP"}, "cut off"),
        ({"size": [3, 4], "counts": "ü"}, "the character 'ü'"),
        ({"size": [3, 4], "counts": "o" * 10**6}, "invalid in run lengths"),
        ({"size": [10**9, 10**9], "counts": [10**18]}, "more pixels than any image"),
        ({"size": [0, 4], "counts": []}, "without its size"),
        ({"size": [4, 3], "counts": [12]}, "of 3 x 4 pixels in an image of 4 x 3"),
    ],
)
def test_outlines_that_are_none(segmentation, message):
    with pytest.raises(TypeError, match=message):
        outline_bounds(segmentation, (4, 3))


def test_a_coordinate_that_is_not_finite_is_passed_on():
    assert np.isnan(points_bounds([(1, 2), (float("nan"), 5), (9, 8)])[0])
    assert np.isnan(rotated_bounds((1, float("inf")), (1, 1), 0, ellipse=True)).all()


@given(st.floats(-720, 720), st.floats(0.5, 50), st.floats(0.5, 50))
def test_turned_shapes_have_the_box_of_their_points(degrees, across, down):
    turn, along = np.radians(degrees), np.linspace(0, 2 * np.pi, 4001)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    corners = np.array([[-across, -down], [across, -down], [across, down], [-across, down]])
    round_points = np.stack([across * np.cos(along), down * np.sin(along)], axis=1)
    for points, ellipse in ((corners, False), (round_points, True)):
        expected = points_bounds((points @ rotation.T + [70, 80]).tolist())
        assert rotated_bounds((70, 80), (across, down), degrees, ellipse=ellipse) == pytest.approx(expected, abs=1e-3)

import numpy as np
import supervision as sv
from hypothesis import given
from hypothesis import strategies as st

from malaria_cells.data import boxes

box = st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 30), st.integers(1, 30)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
many = st.lists(box, min_size=1, max_size=12).map(lambda b: np.array(b, dtype=np.float32))


@given(many, many)
def test_iou_equals_supervisions(a, b):
    assert np.allclose(boxes.iou_matrix(a, b), sv.box_iou_batch(a, b), atol=1e-6)


def test_iou_by_hand():
    a = np.array([[0, 0, 4, 4]])
    b = np.array([[2, 2, 6, 6], [0, 0, 4, 4], [4, 0, 8, 4], [1, 1, 1, 3]])
    assert np.allclose(boxes.iou_matrix(a, b), [[4 / 28, 1, 0, 0]])
    assert boxes.iou_matrix(np.zeros((0, 4)), b).shape == (0, 4)
    assert boxes.iou_matrix(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0]]


@given(many, many)
def test_match_equals_a_plain_loop(found, truth):
    taken, expected = set(), []
    overlap = sv.box_iou_batch(found, truth)
    for i in range(len(found)):
        best, best_iou = -1, -1.0
        for j in range(len(truth)):
            if j not in taken and overlap[i, j] > best_iou:
                best, best_iou = j, overlap[i, j]
        if best >= 0 and best_iou >= 0.5:
            taken.add(best)
            expected.append(best)
        else:
            expected.append(-1)
    assert boxes.match(found, truth).tolist() == expected


@given(many, st.floats(1, 2))
def test_squares_are_square_centred_and_hold_the_box(found, context):
    squares = boxes.squares_around(found, context)
    sides = squares[:, 2:] - squares[:, :2]
    assert (sides[:, 0] == sides[:, 1]).all()
    assert (np.abs((squares[:, :2] + squares[:, 2:]) / 2 - (found[:, :2] + found[:, 2:]) / 2) <= 0.5 + 1e-4).all()
    assert (np.abs(sides[:, 0] - boxes.cell_sizes(found) * context) <= 0.5 + 1e-4).all()


def test_clip_makes_new_boxes():
    before = np.array([[-5.0, 3, 200, 9]], dtype=np.float32)
    assert boxes.clip(before, (100, 80)).tolist() == [[0, 3, 100, 9]]
    assert before[0, 0] == -5

from pathlib import Path

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.candidates import label_candidates
from malaria_cells.data.labels import IGNORED
from malaria_cells.data.patch_store import Cropping, build_patch_store

BACKGROUND_ID = 5


def image(boxes_xyxy, class_ids):
    ids = np.array(class_ids, dtype=np.int64)
    return AnnotatedImage("a.png", Path("a.png"), (400, 300), "a.png", np.array(boxes_xyxy, dtype=np.float32), ids, ids == IGNORED)


def test_candidates_by_hand():
    truth = image([[100, 100, 140, 140], [130, 100, 170, 140], [200, 200, 260, 260]], [3, 0, IGNORED])
    found = {
        (102, 100, 142, 140): 3,  # the ring, a little off
        (128, 100, 168, 140): 0,  # its neighbour, of which it overlaps more
        (118, 100, 158, 140): 0,  # between both: nearer to the second
        (100, 115, 140, 155): None,  # neither the ring nor clearly none (IoU 0.45)
        (100, 130, 140, 170): BACKGROUND_ID,  # below it
        (205, 205, 250, 250): None,  # in the ignore region
        (300, 100, 340, 140): BACKGROUND_ID,  # nothing there, and the proposer was not sure
        (50, 200, 90, 240): None,  # nothing marked, but the proposer was sure: a cell left out?
        (0, 200, 25, 240): BACKGROUND_ID,  # the same at the edge, where cells are left out on purpose
        (380, 100, 400, 140): BACKGROUND_ID,
    }
    sure = np.array([0.9, 0.9, 0.9, 0.9, 0.3, 0.9, 0.2, 0.8, 0.8, 0.8], dtype=np.float32)
    labelled = label_candidates(truth, np.array(list(found), dtype=np.float32), sure, BACKGROUND_ID)
    expected = {box: c for box, c in found.items() if c is not None}
    assert labelled.boxes_xyxy.tolist() == [list(map(float, box)) for box in expected]
    assert labelled.class_ids.tolist() == list(expected.values())


def test_an_image_without_boxes_and_a_proposer_without_candidates():
    empty = image(np.zeros((0, 4)), [])
    found = np.array([[10, 10, 50, 50]], dtype=np.float32)
    assert label_candidates(empty, found, np.array([0.1], dtype=np.float32), BACKGROUND_ID).class_ids.tolist() == [BACKGROUND_ID]
    assert len(label_candidates(empty, found[:0], np.zeros(0, dtype=np.float32), BACKGROUND_ID).class_ids) == 0


def test_candidates_are_cut_beside_what_is_annotated(sample, six_classes, tmp_path):
    from malaria_cells.data.annotations import load_annotations

    data = load_annotations(sample / "training.json", six_classes)
    cropping = Cropping((32, 32), 1.25, background_per_image=3, seed=0)
    plain = build_patch_store(data, cropping, tmp_path)
    first = data.images[0]
    found = label_candidates(first, first.cells_xyxy + 2, np.ones(len(first.cells_xyxy), dtype=np.float32), 6)
    store = build_patch_store(data, cropping, tmp_path, {first.key: found})
    assert store.fingerprint != plain.fingerprint
    assert store.proposed.sum() == len(found.class_ids) > 0
    assert not plain.proposed.any()
    assert set(store.image_ids[store.proposed]) == {0}
    assert boxes.iou_matrix(store.boxes_xyxy[store.proposed], found.boxes_xyxy).diagonal().min() == 1
    assert np.array_equal(store.patches[~store.proposed], plain.patches)

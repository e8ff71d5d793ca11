"""Detection figures against COCO's own implementation and by hand."""

import contextlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from malaria_cells.data import boxes, coco_rows
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import IGNORED, LabelSet
from malaria_cells.evaluation import average_precision, class_matches, classification_metrics, detection_metrics, infected_figures
from malaria_cells.inference.counting import counted_as

LABELS = LabelSet(("red blood cell", "leukocyte", "ring", "schizont"), ("difficult",), ("ring", "schizont"), ("red blood cell",))


def image(boxes_xyxy, class_ids, key="a.png", size_wh=(400, 300)):
    ids = np.array(class_ids, dtype=np.int64)
    return AnnotatedImage(key, Path(key), size_wh, key, np.array(boxes_xyxy, dtype=np.float32).reshape(-1, 4), ids, ids == IGNORED)


def detections(boxes_xyxy, class_ids, scores, n_classes=5, labels=None):
    ids = np.array(class_ids, dtype=np.int64)
    probabilities = np.zeros((len(ids), n_classes), dtype=np.float32)
    probabilities[np.arange(len(ids)), ids] = scores
    detected = Detections.from_boxes(
        xyxy=np.array(boxes_xyxy, dtype=np.float32).reshape(-1, 4),
        class_id=ids,
        confidence=np.array(scores, dtype=np.float32),
        probabilities=probabilities,
    )
    return replace(detected, counted_as=counted_as(detected, labels or LABELS, 0.5, 0.5))


def truth_as_prediction(p, labels=LABELS):
    return detections(p.cells_xyxy, p.cell_class_ids, np.full(len(p.cells_xyxy), 0.9), labels=labels)


def random_boxes(rng, n, size_wh=(400, 300)):
    corner = rng.uniform(0, np.array(size_wh) - 40, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(8, 40, (n, 2))], axis=1).astype(np.float32)


def random_case(seed, n_images=5, most=60, ignored=0.1):
    """Images whose detections are the truth moved about, with misses, doubles, wrong labels and inventions."""
    rng = np.random.default_rng(seed)
    images, detected = [], []
    for i in range(n_images):
        n = int(rng.integers(0, most))
        ids = np.where(rng.uniform(size=n) < ignored, IGNORED, rng.integers(0, 4, n))
        p = image(random_boxes(rng, n), ids, f"{i}.png")
        moved = p.boxes_xyxy + rng.normal(0, 2.5, p.boxes_xyxy.shape).astype(np.float32)
        kept = rng.uniform(size=n) < 0.85
        own = np.where(rng.uniform(size=n) < 0.8, ids, rng.integers(0, 4, n))[kept]
        invented = random_boxes(rng, int(rng.integers(0, 12)))
        all_boxes = np.concatenate([moved[kept], moved[kept][: n // 8], invented])
        all_ids = np.concatenate([own, own[: n // 8], rng.integers(0, 4, len(invented))])
        all_ids = np.where(all_ids == IGNORED, 2, all_ids)
        images.append(p)
        detected.append(detections(all_boxes, all_ids, rng.permutation(np.linspace(0.05, 0.99, len(all_ids)))))
    return images, detected


def reference(images, detected, labels, cap):
    """pycocotools, the same truth and results, as arrays (iou, recall, class) and (iou, class)."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = coco_rows.truth(images, labels)
        truth.createIndex()
        results = coco_rows.results(detected)
        predicted = truth.loadRes([{k: r[k] for k in ("image_id", "category_id", "bbox", "score")} for r in results])
        evaluation = COCOeval(truth, predicted, "bbox")
        evaluation.params.maxDets = [1, 10, cap]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, :, 0, -1], evaluation.eval["recall"][:, :, 0, -1]


def assert_parity(images, detected, labels):
    ours = average_precision(images, detected, labels)
    precision, recall = reference(images, detected, labels, 1000)
    for c, n in enumerate(ours.n):
        if n == 0:
            assert ours.ap[c] is None
            continue
        assert ours.ap[c] == pytest.approx(precision[:, :, c].mean(), abs=1e-6)
        assert ours.ap50[c] == pytest.approx(precision[0, :, c].mean(), abs=1e-6)
        assert ours.ap75[c] == pytest.approx(precision[5, :, c].mean(), abs=1e-6)
        assert ours.recall50[c] == pytest.approx(recall[0, c], abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_parity_with_pycocotools(seed):
    assert_parity(*random_case(seed), LABELS)


def test_parity_with_pycocotools_beyond_a_hundred_boxes_an_image():
    assert_parity(*random_case(100, n_images=2, most=260), LABELS)


@pytest.mark.slow
def test_parity_on_real_images(iml):
    from malaria_cells.data.annotations import load_annotations
    from malaria_cells.data.images import read_image
    from malaria_cells.proposals import Proposer

    labels = LabelSet(("red blood cell", "gametocyte", "ring", "trophozoite", "schizont"), ("difficult",))
    images = list(load_annotations(iml / "annotations.json", labels).images[:12])
    rng = np.random.default_rng(0)
    detected = []
    for p in images:
        proposed = Proposer(cell_size=80)(read_image(p.path))
        best = boxes.iou_matrix(proposed, p.boxes_xyxy).argmax(axis=1)
        ids = np.where(rng.uniform(size=len(best)) < 0.9, np.maximum(p.class_ids[best], 0), rng.integers(0, 5, len(best)))
        detected.append(detections(proposed, ids, rng.uniform(0.1, 1, len(ids)).round(4), labels=labels))
    assert sum(len(f) for f in detected) > 1000
    assert_parity(images, detected, labels)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_truth_given_back_scores_exactly_one(seed):
    images, _ = random_case(seed, n_images=3)
    metrics = detection_metrics(images, [truth_as_prediction(p) for p in images], LABELS, None).to_json()
    present = np.unique(np.concatenate([p.cell_class_ids for p in images]))
    if len(present) == 0:
        assert metrics["mAP"] is None
        return
    assert metrics["mAP"] == metrics["mAP50"] == metrics["mAP75"] == 1
    assert metrics["cell"] == {"AP50": 1, "recall50": 1, "precision": 1, "recall": 1, "f1": 1}
    assert metrics["micro_f1"] == 1
    for c, name in enumerate(LABELS.names):
        expected = {"AP": 1, "AP50": 1} if c in present else {"AP": None, "AP50": None}
        assert expected.items() <= metrics["per_class"][name].items()
    if {2, 3} & set(present.tolist()):
        assert metrics["infected"]["f1"] == metrics["infected"]["AP50"] == 1
    if metrics["parasitemia"]["bias"] is not None:
        assert metrics["parasitemia"] == {"mean_absolute_error": 0, "bias": 0}


def test_truth_given_back_scores_one_with_more_than_a_hundred_cells():
    grid = np.stack(np.meshgrid(np.arange(16), np.arange(14)), axis=-1).reshape(-1, 2) * 20.0
    p = image(np.concatenate([grid, grid + 15], axis=1), [0] * len(grid))
    assert len(grid) == 224
    metrics = detection_metrics([p], [truth_as_prediction(p)], LABELS, None).to_json()
    assert metrics["mAP"] == 1
    assert metrics["cell"]["recall50"] == 1
    # What COCO's own cap of 100 makes of the same perfect answer:
    assert reference([p], [truth_as_prediction(p)], LABELS, 100)[1][0, 0] == pytest.approx(100 / 224)


def test_ignore_regions_are_neither_hit_nor_miss():
    ring, region = [10, 10, 40, 40], [100, 100, 160, 160]
    with_region = image([ring, region], [2, IGNORED])
    inside = detections([ring, [105, 105, 140, 140], [110, 110, 150, 150]], [2, 2, 0], [0.9, 0.95, 0.8])
    metrics = detection_metrics([with_region], [inside], LABELS, None).to_json()
    assert metrics["mAP"] == 1
    assert metrics["per_class"]["ring"]["n"] == 1
    assert metrics["infected"]["precision"] == metrics["infected"]["recall"] == metrics["micro_f1"] == 1
    assert metrics["infected"]["false_alarms_per_1000_red_cells"] is None  # no healthy red cell is annotated
    # The same detections where no region excuses them:
    without = detection_metrics([image([ring], [2])], [inside], LABELS, None).to_json()
    assert without["infected"]["precision"] == 0.5


def test_cells_are_found_at_any_score_or_as_counted():
    """A cell that is too unsure to be counted is found by the ranking alone; what lies on an ignore region is no false alarm."""
    squares = [[0, 0, 20, 20], [40, 0, 60, 20], [80, 0, 100, 20], [120, 0, 140, 20]]
    detected = detections(squares, [0, 2, 0, 0], [0.9, 0.4, 0.3, 0.9])
    detected = replace(detected, counted_as=np.array([0, 0, -1, 0]))
    figures = detection_metrics([image([*squares[:3], squares[3]], [0, 2, 0, IGNORED])], [detected], LABELS, None).to_json()["cell"]
    assert (figures["recall50"], figures["recall"], figures["precision"]) == (1, pytest.approx(2 / 3), 1)
    figures = detection_metrics([image(squares[:3], [0, 2, 0])], [detected], LABELS, None).to_json()["cell"]
    assert figures["precision"] == figures["recall"] == figures["f1"] == pytest.approx(2 / 3)


def test_stage_confusion_is_still_an_infected_cell():
    p = image([[10, 10, 40, 40]], [2])
    detected = detections([[10, 10, 40, 40]], [3], [0.9])
    metrics = detection_metrics([p], [detected], LABELS, None).to_json()
    assert metrics["infected"]["f1"] == 1
    assert metrics["per_class"]["ring"]["AP50"] == 0
    assert metrics["cell"]["AP50"] == 1
    assert metrics["micro_f1"] == 0


def test_every_label_is_ranked_by_its_own_scores():
    """Two rings and a schizont; the second ring is called a schizont, but nearly a ring."""
    squares = [[0, 0, 20, 20], [40, 0, 60, 20], [80, 0, 100, 20]]
    p = image(squares, [2, 2, 3])
    detected = detections(squares, [2, 3, 3], [0.9, 0.6, 0.8])
    alone = average_precision([p], [detected], LABELS)
    detected = replace(detected, label_scores=np.array([[0, 0, 0.9, 0.2], [0, 0, 0.45, 0.6], [0.1, 0, 0, 0.8]], dtype=np.float32))
    ranked = average_precision([p], [detected], LABELS)
    assert alone.ap50[2:] == [pytest.approx(51 / 101), 1.0]
    assert ranked.ap50[2:] == [1.0, 1.0]
    # A cell is a cell once.
    metrics = detection_metrics([p], [detected], LABELS, None).to_json()
    assert metrics["cell"] == {"AP50": 1, "recall50": 1, "precision": 1, "recall": 1, "f1": 1}
    assert metrics["infected"]["AP50"] == 1.0
    rows = coco_rows.results([detected])
    assert [(r["id"], r["category_id"], r.get("further_label_of")) for r in rows] == [
        (1, 3, None),
        (2, 4, 1),
        (3, 4, None),
        (4, 3, 3),
        (5, 4, None),
        (6, 1, 5),
    ]
    assert [r["counted_as"] for r in rows] == [3, None, 4, None, 4, None]


def test_infected_figures_by_hand():
    rows = [[x, 10, x + 30, 40] for x in range(10, 250, 40)]
    p = image(rows, [2, 2, 3, 0, 0, 0])
    # Found: one ring, one schizont as ring, a healthy cell as ring, and a ring under the threshold.
    detected = detections([rows[0], rows[2], rows[3], rows[1]], [2, 2, 2, 2], [0.9, 0.8, 0.7, 0.2])
    figures = infected_figures([p], [detected], LABELS)
    assert figures.precision == pytest.approx(2 / 3)
    assert figures.recall == pytest.approx(2 / 3)
    assert figures.f1 == pytest.approx(2 / 3)
    assert figures.false_alarms_per_1000_red_cells == pytest.approx(1000 / 3)


def test_annotated_predicted_and_matched_by_hand():
    rows = [[x, 10, x + 30, 40] for x in range(10, 250, 40)]
    p = image(rows, [2, 2, 3, 0, 0, 0])
    # A ring found, a ring missed, the schizont called a ring, a healthy cell called a ring, a ring under the threshold.
    detected = detections([rows[0], rows[2], rows[3], rows[1]], [2, 2, 2, 2], [0.9, 0.8, 0.7, 0.2])
    matches = class_matches([p], [detected], LABELS, average_precision([p], [detected], LABELS).ap50)
    ring = next(r for r in matches if r.label == "ring")
    assert (ring.annotated, ring.predicted, ring.matched) == (2, 3, 1)
    assert (ring.recall, ring.precision) == (0.5, pytest.approx(1 / 3))
    assert ring.predicted_by_annotated == 1.5  # more were "found" than there are, and half were missed
    white = next(r for r in matches if r.label == "leukocyte")
    assert (white.recall, white.precision, white.ap50) == (None, None, None)


def test_nothing_found_and_nothing_there():
    empty = detections([], [], [])
    p = image([[10, 10, 40, 40]], [0])
    metrics = detection_metrics([p], [empty], LABELS, None).to_json()
    assert metrics["mAP"] == metrics["cell"]["recall50"] == metrics["micro_f1"] == 0
    assert metrics["infected"]["recall"] is None
    nothing = detection_metrics([image([], [])], [empty], LABELS, None).to_json()
    assert nothing["mAP"] is None
    assert nothing["micro_f1"] is None
    invented = detection_metrics([image([], [])], [detections([[1, 1, 9, 9]], [2], [0.9])], LABELS, None).to_json()
    assert invented["mAP"] is None
    assert invented["infected"]["precision"] == 0


def test_parasitemia_error_by_hand():
    rows = [[x, 10, x + 30, 40] for x in range(10, 170, 40)]
    truth = image(rows, [0, 0, 0, 2])  # 1 of 4
    detected = detections(rows, [0, 0, 2, 2], [0.9] * 4)  # 2 of 4
    other = image(rows, [0, 0, 2, 2], "b.png")  # 2 of 4, and 1 of 4 found
    detected_other = detections(rows, [0, 0, 0, 2], [0.9] * 4)
    metrics = detection_metrics([truth, other], [detected, detected_other], LABELS, None).to_json()
    assert metrics["parasitemia"] == {"mean_absolute_error": 0.25, "bias": 0.0}


def test_without_infected_labels_the_keys_are_absent():
    labels = LabelSet(("cell", "debris"))
    p = image([[10, 10, 40, 40]], [0])
    metrics = detection_metrics([p], [truth_as_prediction(p, labels)], labels, 0.1).to_json()
    assert not {"infected", "parasitemia"} & metrics.keys()
    assert metrics["per_class"]["debris"] == {"AP": None, "AP50": None, "n": 0}
    assert metrics["mAP"] == 1


def test_classification_metrics_by_hand():
    p = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.6, 0.4, 0], [0.1, 0.9, 0]])
    metrics = classification_metrics(np.array([0, 0, 1, 1]), p, ("a", "b", "c"))
    assert metrics["accuracy"] == 0.5
    assert metrics["per_class"]["a"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "n": 2}
    assert metrics["per_class"]["c"]["f1"] is None
    assert metrics["macro_f1"] == 0.5
    assert metrics["confusion"] == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from malaria_cells.data import boxes
from malaria_cells.data.labels import LabelSet
from malaria_cells.inference import suppression, tta
from malaria_cells.inference.calibration import Calibration
from malaria_cells.inference.classifier import Cascade, PatchClassifier, both_classes, infected_classes
from malaria_cells.inference.decision import MAX_SECONDARY, DetectionSettings, label_and_score
from malaria_cells.inference.suppression import NestedBoxes, nested_decay, overlapping, suppress
from malaria_cells.inference.two_stage_detector import TwoStageDetector
from malaria_cells.proposals import Proposer


def plain_loop(boxes_xyxy, scores, iou, groups):
    """Non-maximum suppression as the text books have it."""
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        rivals = [j for j in kept if groups is None or groups[j] == groups[i]]
        if all(boxes.iou_matrix(boxes_xyxy[i : i + 1], boxes_xyxy[j : j + 1])[0, 0] <= iou for j in rivals):
            kept.append(i)
    return np.array(kept, dtype=np.int64)


@settings(max_examples=60)
@given(st.integers(0, 100_000), st.integers(0, 40), st.floats(0.1, 0.9), st.booleans())
def test_suppression_is_that_of_a_plain_loop(seed, n, iou, by_class):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (n, 2))
    boxes_xyxy = np.concatenate([corner, corner + rng.uniform(5, 40, (n, 2))], axis=1).astype(np.float32)
    scores = rng.permutation(np.linspace(0.1, 0.9, n)).astype(np.float32)
    groups = rng.integers(0, 3, n) if by_class else None
    assert suppress(boxes_xyxy, scores, iou, groups).tolist() == plain_loop(boxes_xyxy, scores, iou, groups).tolist()


def classifier(labels, network=None, has_background=True):
    n = len(labels) + has_background
    cascade = Cascade(network or (lambda p: np.full((len(p), n), 1 / n)))
    return PatchClassifier(labels, has_background, (16, 16), 1.25, Calibration.none(n), cascade)


def test_label_and_score_by_hand(six_classes):
    p = np.array(
        [
            [0.90, 0, 0.02, 0.06, 0.02, 0, 0.00],  # healthy, but infected by 0.1: a candidate
            [0.48, 0, 0.00, 0.02, 0.00, 0, 0.50],  # healthy, if it is a cell at all
            [0.05, 0.9, 0.00, 0.05, 0.00, 0, 0.00],  # leukocyte
        ]
    )
    ids, scores = label_and_score(p, six_classes, 0.1)
    assert ids.tolist() == [3, 0, 1]
    assert scores[[0, 1, 2], ids] == pytest.approx([np.sqrt(0.1 * 0.06), 0.96, 0.9])
    # Under every other label, too: the first cell's.
    assert scores[0] == pytest.approx([0.9, 0, np.sqrt(0.1 * 0.02), np.sqrt(0.1 * 0.06), np.sqrt(0.1 * 0.02), 0])


def test_labels_without_the_notion_of_infection_take_the_most_probable():
    p = np.array([[0.3, 0.6, 0.1]])
    ids, scores = label_and_score(p, LabelSet(("cell", "debris")), 0.1)
    assert (ids.tolist(), scores.tolist()) == ([1], [pytest.approx([1 / 3, 2 / 3])])


def test_decide_does_not_count_background_and_drops_low_scores(six_classes):
    detector = TwoStageDetector(Proposer(cell_size=40), classifier(six_classes), settings=DetectionSettings(score_threshold=0.3))
    squares = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], dtype=np.float32)
    p = np.array([[0.6, 0, 0, 0, 0, 0, 0.4], [0.4, 0, 0, 0, 0, 0, 0.6], [0.28, 0.2, 0.08, 0.1, 0.1, 0.1, 0.14]])
    detections = detector.decide(squares, p)
    assert detections.xyxy[:, 0].tolist() == [0, 20]
    assert detections.class_name.tolist() == ["red blood cell"] * 2
    assert detections.objectness.tolist() == pytest.approx([0.6, 0.4])
    assert detections.counted_as.tolist() == [0, -1]
    # A proposal score counts with its weight.
    settings_changed = detector.with_settings(proposal_weight=2.0, score_threshold=0.0)
    weighted = settings_changed.decide(squares[:1], p[:1], np.array([0.5], dtype=np.float32))
    assert weighted.confidence.tolist() == pytest.approx([0.15])


def test_agnostic_suppression_leaves_one_label_a_cell(six_classes):
    squares = np.array([[0, 0, 10, 10], [0, 0, 10, 11]], dtype=np.float32)
    p = np.array([[0.9, 0.1, 0, 0, 0, 0, 0], [0.1, 0.8, 0, 0.1, 0, 0, 0]])
    detector = TwoStageDetector(Proposer(cell_size=40), classifier(six_classes), settings=DetectionSettings(candidate_threshold=0.5))
    assert len(detector.decide(squares, p)) == 1
    assert len(detector.with_settings(nms="class").decide(squares, p)) == 2


def test_a_cell_has_a_score_under_every_label_that_it_may_have(six_classes):
    p = np.array([[0.05, 0, 0, 0.5, 0.4, 0, 0.05], [0.9, 0, 0, 0.02, 0, 0.03, 0.05]])
    squares = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], dtype=np.float32)
    settings = DetectionSettings(score_threshold=0.05, infected_threshold=0.5)
    detections = TwoStageDetector(Proposer(cell_size=40), classifier(six_classes), settings=settings).decide(squares, p)
    assert detections.class_name.tolist() == ["red blood cell", "ring"]
    assert detections.label_scores[[0, 1], detections.class_id] == pytest.approx(detections.confidence)
    healthy, sick = detections.label_scores
    # Below the score threshold: out of the question. The stage that is not the cell's stays below the operating threshold.
    assert healthy == pytest.approx([0.9, 0, 0, 0, 0, 0])
    assert sick == pytest.approx([0.05, 0, 0, np.sqrt(0.9 * 0.5), MAX_SECONDARY * 0.5, 0])


def test_a_further_label_is_not_repeated_over_a_box_that_has_it_as_its_own(six_classes):
    squares = np.array([[0, 0, 10, 10], [0, 0, 10, 11], [50, 0, 60, 10]], dtype=np.float32)
    ring, schizont = [0, 0, 0, 0.6, 0, 0.4, 0], [0, 0, 0, 0.45, 0, 0.55, 0]
    detector = TwoStageDetector(Proposer(cell_size=40), classifier(six_classes), settings=DetectionSettings(nms="class"))
    detections = detector.decide(squares, np.array([ring, schizont, ring]))
    labels_of = {tuple(box): np.flatnonzero(scores).tolist() for box, scores in zip(detections.xyxy, detections.label_scores, strict=True)}
    assert labels_of == {(0, 0, 10, 10): [3], (0, 0, 10, 11): [5], (50, 0, 60, 10): [3, 5]}


def test_of_nested_boxes_the_better_one_keeps_its_worth_and_of_leukocytes_the_larger():
    red, white = 0, 1
    look_alike = np.array([False, True])
    whole, part, apart = [0, 0, 40, 40], [10, 10, 30, 30], [30, 30, 70, 70]
    squares = np.array([part, whole, apart], dtype=np.float32)  # best score first

    def decay(boxes_xyxy, class_ids):
        return nested_decay(boxes_xyxy, np.array(class_ids, dtype=int), look_alike, nested).tolist()

    nested = NestedBoxes()
    less = pytest.approx(nested.decay)
    assert decay(squares, [red, red, red]) == [1, less, 1]
    assert decay(squares, [white, white, red]) == [0, 1, 1]
    assert decay(squares, [white, red, red]) == [1, 1, 1]  # two kinds: a platelet lies on a red cell
    assert decay(squares[[1, 0]], [white, white]) == [1, 0]
    assert decay(squares[:0], []) == []
    # What is worth less itself takes no worth from what lies in it.
    onion = np.array([whole, [0, 0, 44, 44], [0, 0, 50, 50]], dtype=np.float32)
    assert decay(onion, [red, red, red]) == [1, less, less]


def test_a_nested_box_is_ranked_lower_and_not_counted(six_classes):
    squares = np.array([[0, 0, 40, 40], [10, 10, 30, 30], [60, 0, 100, 40]], dtype=np.float32)
    p = np.array([[0.9, 0, 0, 0, 0, 0, 0.1], [0.95, 0, 0, 0, 0, 0, 0.05], [0.6, 0, 0, 0, 0, 0, 0.4]])
    detector = TwoStageDetector(Proposer(cell_size=40), classifier(six_classes), settings=DetectionSettings())
    detections = detector.decide(squares, p)
    assert detections.xyxy.tolist() == squares[[1, 2, 0]].tolist()
    assert detections.confidence.tolist() == pytest.approx([0.95, 0.6, 0.9 * detector.nested_boxes.decay])
    assert detections.objectness.tolist() == pytest.approx([0.95, 0.6, 0.9 * detector.nested_boxes.decay])
    assert detections.counted_as.tolist() == [0, 0, -1]
    assert len(detector.with_settings(score_threshold=0.3).decide(squares, p)) == 2


def test_nothing_proposed_nothing_found(six_classes):
    empty = np.full((64, 64, 3), 215, dtype=np.uint8)
    detector = TwoStageDetector(Proposer(cell_size=20), classifier(six_classes), settings=DetectionSettings())
    detections = detector.detect(empty)
    assert len(detections) == 0
    assert detections.probabilities.shape == (0, 7)


def test_test_time_augmentation_is_the_mean_over_views():
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    weights = rng.normal(size=(8 * 8 * 3, 4))

    def predict(p):
        return 0.5 * np.tanh(p.reshape(len(p), -1) / 255 @ weights)

    views = [np.rot90(p, k, axes=(1, 2)) for p in (patches, patches[:, :, ::-1]) for k in range(4)]
    expected = np.mean([predict(np.ascontiguousarray(v)) for v in views], axis=0)
    assert tta.averaged(predict, patches, 8) == pytest.approx(expected)
    assert np.array_equal(tta.averaged(predict, patches, 1), predict(patches))
    assert tta.averaged(predict, patches, 8, predict(patches)) == pytest.approx(expected)
    assert np.array_equal(tta.averaged(None, patches, 1, predict(patches)), predict(patches))  # nothing is left to predict


@pytest.mark.parametrize("shape", [(3, 8, 8, 3), (2, 6, 9, 3), (2, 8, 8, 1)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_views_are_quarter_turns_and_their_mirror_images(shape, kind):
    patches = np.random.default_rng(0).integers(0, 256, shape).astype(kind)
    for number in range(tta.VIEWS):
        turns = number % 4 if shape[1] == shape[2] else 2 * (number % 2)
        expected = np.rot90(patches, turns, axes=(1, 2))
        seen = tta.view(patches, number)
        assert np.array_equal(seen, expected[:, :, ::-1] if number >= 4 else expected)
        assert seen.dtype == kind
        assert seen.flags.c_contiguous


def test_only_what_is_suspect_is_seen_again():
    asked = []

    def predict(p):
        asked.append(len(p))
        fraction = p[:, 0, 0, 0] / 255  # a corner, which other views see elsewhere
        return np.stack([fraction, 1 - fraction], axis=1)

    patches = np.zeros((4, 8, 8, 3), dtype=np.uint8)
    patches[:, 0, 0, 0] = [255, 128, 0, 200]
    all_views = np.mean([predict(tta.view(patches, n)) for n in tta._ORDER[:4]], axis=0)
    asked.clear()
    answer = Cascade(predict).raw_probabilities(patches, 4, np.array([False, False]))  # nothing infected: what is not certain
    assert asked == [4, 2 * 3]  # the first view is known
    assert answer[[0, 2], 0].tolist() == [1, 0]
    assert answer[[1, 3]] == pytest.approx(all_views[[1, 3]])
    hinted = Cascade(predict).raw_probabilities(patches, 4, np.array([True, False]))  # a hint of the first class is enough
    assert hinted[[0, 1, 3]] == pytest.approx(all_views[[0, 1, 3]])
    assert hinted[0, 0] < 1
    assert hinted[2, 0] == 0


def test_which_classes_are_findings(six_classes):
    assert infected_classes(six_classes, 7).tolist() == [False, False, True, True, True, True, False]
    assert infected_classes(LabelSet(("fly", "bee")), 2).tolist() == [False, False]


def test_all_views_differ_and_keep_the_shape():
    patch = np.arange(48).reshape(1, 4, 4, 3)
    assert len({tta.view(patch, n).tobytes() for n in range(8)}) == 8
    oblong = np.arange(72).reshape(1, 4, 6, 3)
    assert {tta.view(oblong, n).shape for n in range(8)} == {(1, 4, 6, 3)}


def test_many_patches_are_answered_in_batches_and_in_order():
    sizes = []

    def network(p):
        sizes.append(len(p))
        first = p[:, 0, 0, :1].astype(np.float32) / 255
        return np.concatenate([first, 1 - first], axis=1)

    labels = LabelSet(("a", "b"))
    patches = np.zeros((600, 16, 16, 3), dtype=np.uint8)
    patches[:, 0, 0, 0] = np.arange(600) % 255
    answer = classifier(labels, network, has_background=False)(patches)
    assert max(sizes) <= 256
    assert len(sizes) == 3
    assert answer[:, 0] == pytest.approx((np.arange(600) % 255) / 255, abs=1e-5)
    assert classifier(labels, network, has_background=False)(patches[:0]).shape == (0, 2)


def test_one_sigmoid_unit_becomes_two_columns():
    assert both_classes(np.array([[0.25]])).tolist() == [[0.75, 0.25]]


def test_the_compiled_network_answers_as_keras_does(untrained_model):
    from malaria_cells.inference.classifier import inference_function
    from malaria_cells.models.stored.keras_files import load_network

    network = load_network(untrained_model / "classifier.keras")
    patches = np.random.default_rng(1).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    assert inference_function(network)(patches) == pytest.approx(network.predict(patches.astype(np.float32), verbose=0), abs=1e-5)


@given(st.integers(0, 2**31), st.integers(0, 80), st.sampled_from([20, 100, 1000]), st.sampled_from([0, suppression.MAX_MATRIX]))
@settings(max_examples=60)
def test_overlapping_pairs_are_those_of_the_table_of_all(seed, n, spread, max_matrix):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, spread, (n, 2))
    boxes_xyxy = np.concatenate([corner, corner + rng.uniform(0, 60, (n, 2))], axis=1).astype(np.float32)
    table = np.triu(boxes.intersection_matrix(boxes_xyxy, boxes_xyxy), k=1)
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(suppression, "MAX_MATRIX", max_matrix)  # with 0 the pairs are found by the tree
        pairs, shared = overlapping(boxes_xyxy)
    assert pairs.tolist() == np.argwhere(table > 0).tolist()
    assert (shared == table[table > 0]).all()


def test_a_slide_of_twenty_thousand_cells_fits_into_memory(six_classes):
    """A table of all pairs of its boxes would take gigabytes."""
    row = np.arange(142) * 60.0
    corner = np.stack(np.meshgrid(row, row), axis=-1).reshape(-1, 2)
    squares = np.concatenate([corner, corner + 64], axis=1).astype(np.float32)
    p = np.zeros((len(squares), 7), dtype=np.float32)
    p[:, 0], p[::50, 0], p[::50, 3] = 1, 0.4, 0.6
    detector = TwoStageDetector(Proposer(cell_size=60), classifier(six_classes), settings=DetectionSettings())
    tracemalloc.start()
    detections = detector.decide(squares, p)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(detections) == len(squares)
    assert peak < 300e6

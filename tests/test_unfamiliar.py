"""Cells of an unfamiliar image are judged beside each other."""

from dataclasses import replace

import numpy as np
import pytest
import supervision as sv
from scipy.special import expit, logit

from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.calibration import Calibration
from malaria_cells.inference.classifier import Cascade, PatchClassifier
from malaria_cells.inference.decision import DetectionSettings
from malaria_cells.inference.familiarity import FAMILIAR, UNUSUAL, Familiarity
from malaria_cells.inference.tta import Refinement
from malaria_cells.inference.two_stage_detector import TwoStageDetector
from malaria_cells.inference.unfamiliar import (
    MIN_RED_CELLS,
    Evidence,
    UnfamiliarSigmoid,
    applies_to,
    corrected,
    fit_unfamiliar,
    log_ratio,
    relative_evidence,
)
from malaria_cells.proposals import Proposer, ScoredBoxes
from malaria_cells.training.errors_elsewhere import as_elsewhere, content_of, measured_evidence

LABELS = LabelSet(("red blood cell", "leukocyte", "ring", "schizont"), (), ("ring", "schizont"), ("red blood cell",))


def answers(infected: np.ndarray, leukocyte: float = 0.1, background: float = 0.1) -> np.ndarray:
    """Probabilities of `LABELS` and background, two thirds of what is infected a ring."""
    red = 1 - infected - leukocyte - background
    return np.stack([red, np.full(len(red), leukocyte), infected * 2 / 3, infected / 3, np.full(len(red), background)], axis=1)


def test_what_shifts_all_cells_of_an_image_alike_changes_nothing():
    rng = np.random.default_rng(0)
    own = rng.normal(-4, 1, 40)
    is_red = np.ones(40, dtype=bool)
    here = relative_evidence(own, is_red)
    assert np.allclose(here, relative_evidence(own + 2.5, is_red))
    assert np.median(here) == pytest.approx(0, abs=1e-9)


def test_an_image_of_few_red_cells_has_no_median():
    is_red = np.arange(20) < MIN_RED_CELLS - 1
    assert relative_evidence(np.zeros(20), is_red) is None
    assert relative_evidence(np.zeros(20), np.arange(20) < MIN_RED_CELLS) is not None


def test_evidence_is_the_ratio_of_infected_to_healthy():
    infected = np.array([0.1, 0.4, 0.7])
    assert np.allclose(log_ratio(answers(infected), LABELS), np.log(infected / (0.8 - infected)))
    assert np.isfinite(log_ratio(np.array([[0, 1, 0, 0, 0.0], [1, 0, 0, 0, 0]]), LABELS)).all()


def test_only_red_cells_are_divided_anew():
    probabilities = answers(np.array([0.2, 0.2, 0.2]), leukocyte=0.3)
    refined = answers(np.array([0.5, 0.5, 0.5]))
    sigmoid = UnfamiliarSigmoid(2.0, -4.0)
    result = corrected(probabilities, refined, np.array([0.0, 2.0, 9.0]), sigmoid, LABELS)
    assert np.allclose(result.sum(axis=1), 1)
    assert np.array_equal(result[:, [1, 4]], probabilities[:, [1, 4]])  # leukocytes and background
    fraction = result[:, 2:4].sum(axis=1) / (1 - 0.3 - 0.1)
    assert np.allclose(fraction, expit([-4, 0, 14]))
    assert np.allclose(result[:, 2], 2 * result[:, 3])  # the stages in the refiner's proportions


def test_the_sigmoid_is_found_again():
    """Property: of data made by a sigmoid, and in a laboratory of twenty times the cells the same."""
    rng = np.random.default_rng(1)

    def made(n: int) -> Evidence:
        relative = rng.normal(2, 3, n)
        return Evidence(relative, rng.random(n) < expit(1.7 * relative - 5))

    fitted = fit_unfamiliar({"small": made(4_000), "large": made(80_000)})
    assert fitted.slope == pytest.approx(1.7, abs=0.15)
    assert fitted.offset == pytest.approx(-5, abs=0.4)


def test_each_laboratory_counts_alike_and_the_healthy_ones_as_much_as_the_others():
    def healthy(n: int) -> Evidence:
        return Evidence(np.tile([0.0, 1.0, 2.0], n), np.zeros(3 * n, dtype=bool))

    few = Evidence(np.array([0.0, 0, 1, 1, 2, 2, 3, 3] * 25), np.array([False, False, False, True, False, True, True, True] * 25))
    one = fit_unfamiliar({"few": few, "many": healthy(3_000)})
    for others in ({"few one": healthy(40)}, {"a": healthy(20), "b": healthy(2_000)}):
        fitted = fit_unfamiliar({"few": few, **others})
        assert (fitted.slope, fitted.offset) == pytest.approx((one.slope, one.offset), rel=0.02)
    assert one.offset < fit_unfamiliar({"few": few}).offset


@pytest.mark.parametrize("is_infected", [np.zeros(6, dtype=bool), np.ones(6, dtype=bool)])
def test_nothing_is_fitted_to_one_kind(is_infected):
    assert fit_unfamiliar({"a": Evidence(np.arange(6.0), is_infected)}) is None
    assert fit_unfamiliar({}) is None


def test_nothing_is_fitted_where_infected_cells_look_healthier():
    relative = np.linspace(-3, 3, 60)
    assert fit_unfamiliar({"a": Evidence(relative, relative < 0)}) is None


def test_labels_without_both_kinds_know_no_evidence():
    assert applies_to(LABELS)
    assert not applies_to(LabelSet(("cell",)))
    assert not applies_to(LabelSet(("ring",), (), ("ring",)))


# --- in the detector

SIGMOID = UnfamiliarSigmoid(1.0, -3.0)
CELLS = 20


def shades(patches: np.ndarray) -> np.ndarray:
    """A network that takes dark patches for infected, and sees an infection everywhere: evidence rises with darkness."""
    darkness = 1 - patches.reshape(len(patches), -1).mean(axis=1) / 255
    return answers(0.8 * expit(logit(0.4) + 8 * (darkness - 0.5))).astype(np.float32)


class Grid(Proposer):
    """Proposes one row of boxes."""

    def screened_candidates(self, image):
        left = 20 * np.arange(CELLS, dtype=np.float32)
        boxes = np.stack([left, np.zeros(CELLS, dtype=np.float32), left + 20, np.full(CELLS, 20, dtype=np.float32)], axis=1)
        return ScoredBoxes(boxes, None)


class Verdict:
    """Stands for what the training images look like."""

    def __init__(self, level):
        self.level = level

    def judge(self, values):
        return Familiarity(self.level, 2.0, infection_known=self.level == FAMILIAR)


def detector_of(level: str, unfamiliar: UnfamiliarSigmoid | None = SIGMOID) -> TwoStageDetector:
    classifier = PatchClassifier(LABELS, True, (20, 20), 1.0, Calibration.none(5), Cascade(shades))
    settings = DetectionSettings(score_threshold=0, candidate_threshold=0.05)
    known = {"known": Verdict(level), "measured_cell_size": 20.0}
    return TwoStageDetector(Grid(), classifier, unfamiliar=unfamiliar, settings=settings, **known)


def scene() -> np.ndarray:
    """Twenty cells alike, of which one is darker."""
    image = np.full((20, 20 * CELLS, 3), 128, dtype=np.uint8)
    image[:, 60:80] = 40
    return image


def test_a_familiar_image_is_seen_as_ever():
    own, without = detector_of(FAMILIAR).predict(scene()), detector_of(FAMILIAR, None).predict(scene())
    assert np.array_equal(own.probabilities, without.probabilities)
    assert own.familiarity.level == FAMILIAR
    assert without.familiarity is None


def test_on_an_unfamiliar_one_the_usual_cell_is_healthy_and_the_dark_one_is_not():
    plain, beside = detector_of(UNUSUAL, None).predict(scene()), detector_of(UNUSUAL).predict(scene())
    infected = beside.probabilities[:, 2:4].sum(axis=1) / 0.8
    healthy = np.delete(np.arange(CELLS), 3)
    assert (plain.probabilities[healthy, 2:4].sum(axis=1) > 0.3).all()  # by the network alone every cell is a suspect
    assert np.allclose(infected[healthy], expit(-3), atol=1e-6)
    assert infected[3] > 3 * infected[healthy].max()


def test_the_verdict_goes_with_the_detections():
    detector = detector_of(UNUSUAL)
    detections = detector.detect(scene())
    verdict = detections.judged[1]
    assert verdict.level == UNUSUAL
    assert detector.familiarity(scene(), detections) is verdict
    assert detector_of(FAMILIAR).familiarity(scene(), detections).level == FAMILIAR  # another model has a verdict of its own
    other = detector_of(FAMILIAR).detect(scene())
    merged = sv.Detections.merge([detections.to_supervision(), other.to_supervision()])  # also of images with other verdicts
    assert len(merged) == len(detections) + len(other)


@pytest.mark.parametrize(("level", "times"), [(FAMILIAR, 1), (UNUSUAL, 2)])
def test_cells_are_decided_on_again_only_if_the_verdict_changed_them(monkeypatch, level, times):
    detector, image = detector_of(level), scene()
    expected = detector.decide(*detector.predict(image))
    decided = []
    decide = TwoStageDetector.decide
    monkeypatch.setattr(TwoStageDetector, "decide", lambda self, *args: decided.append(1) or decide(self, *args))
    detections = detector.detect(image)
    assert len(decided) == times
    assert detections.judged[1].level == expected.judged[1].level == level
    for name in ("xyxy", "confidence", "class_id", "counted_as", "objectness", "probabilities", "label_scores", "index"):
        assert np.array_equal(getattr(detections, name), getattr(expected, name))


def test_evidence_is_measured_on_annotated_red_cells(tmp_path):
    import cv2

    from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet

    cv2.imwrite(str(tmp_path / "a.png"), scene())
    boxes, class_ids = Grid().candidates(None)[0], np.zeros(CELLS, dtype=np.int64)
    class_ids[3], class_ids[4] = 2, 1
    image = AnnotatedImage("a.png", tmp_path / "a.png", (20 * CELLS, 20), "a", boxes[:-1], class_ids[:-1], np.zeros(CELLS - 1, dtype=bool))
    evidence = measured_evidence(detector_of(UNUSUAL), AnnotationSet(LABELS, (image,)))
    assert len(evidence.relative) == CELLS - 2  # neither the leukocyte nor what is in no box
    assert evidence.is_infected.sum() == 1
    assert evidence.relative[evidence.is_infected] > 1
    assert np.allclose(evidence.relative[~evidence.is_infected], 0, atol=1e-6)


def test_a_laboratory_is_judged_by_the_others():
    own = Evidence(np.array([0.0, 1.0] * 40), np.array([False, True] * 40))
    other = Evidence(np.array([0.0, 6.0] * 40), np.array([False, True] * 40))
    detector = detector_of(UNUSUAL)
    assert as_elsewhere(detector, {"a": own, "b": other}, "a").unfamiliar == fit_unfamiliar({"b": other})
    assert as_elsewhere(detector, {"a": own}, "a") is None
    assert content_of({}, {"a": own, "b": other})["unfamiliar"]["slope"] > 0
    assert content_of({}, {"a": own})["unfamiliar"] is None  # on what could it be tried?
    assert content_of({}, {})["unfamiliar"] is None


@pytest.mark.parametrize(("infected", "red"), [(("ring",), ()), ((), ("red blood cell",))])
def test_labels_without_both_kinds_stay_as_they_are(infected, red):
    labels = LabelSet(("red blood cell", "leukocyte", "ring", "schizont"), (), infected, red)
    detector = detector_of(UNUSUAL)
    detector = replace(detector, classifier=replace(detector.classifier, labels=labels))
    assert np.array_equal(detector.predict(scene()).probabilities, replace(detector, unfamiliar=None).predict(scene()).probabilities)


def test_an_image_of_few_cells_stays_as_it_is():
    narrow = scene()[:, :80]

    class Four(Grid):
        def screened_candidates(self, image):
            return ScoredBoxes(super().screened_candidates(image).boxes_xyxy[:4], None)

    detector = replace(detector_of(UNUSUAL), proposer=Four())
    assert np.array_equal(detector.predict(narrow).probabilities, replace(detector, unfamiliar=None).predict(narrow).probabilities)


def test_the_closest_look_is_the_second_in_its_own_size_and_by_several_views():
    asked = []

    def second(patches):
        asked.append(patches.shape)
        return shades(patches)

    detector = detector_of(UNUSUAL)
    classifier = replace(detector.classifier, cascade=Cascade(shades, second, refiner_size_hw=(28, 28)))
    detector = replace(detector, classifier=classifier).with_settings(tta=4)
    detector.predict(scene())
    assert {shape[1:] for shape in asked} == {(28, 28, 3)}
    assert asked[-2:] == [(CELLS, 28, 28, 3), (3 * 1, 28, 28, 3)]  # all candidates once, the dark one in three further views


def test_what_is_hardly_a_red_cell_is_not_compared():
    def leukocytes(patches):
        return np.where(np.arange(len(patches))[:, None] < 5, answers(np.zeros(1), 0.97, 0.01), shades(patches)).astype(np.float32)

    asked = []

    def second(patches):
        asked.append(len(patches))
        return shades(patches)

    detector = detector_of(UNUSUAL)
    cascade = Cascade(leukocytes, second, refinement=Refinement(min_infected=1.0))
    detector = replace(detector, classifier=replace(detector.classifier, cascade=cascade))
    predicted = detector.predict(scene()).probabilities
    assert asked[0] == CELLS - 5
    assert predicted[:5, 1] == pytest.approx(np.full(5, 0.97))
    assert (predicted[:5, 2:4].sum(axis=1) < 0.001).all()

"""The example beside an exported model finds what the package finds, by its own code."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from malaria_cells.data import boxes, stain
from malaria_cells.data.images import read_image, refusal
from malaria_cells.data.sample import Slide, render_smear
from malaria_cells.export import standalone
from malaria_cells.inference import classifier, tta
from malaria_cells.inference.calibration import SMALLEST, Calibration, InfectionSigmoid
from malaria_cells.inference.decision import DetectionSettings
from malaria_cells.inference.model_description import InferenceSettings, plain
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.inference.two_stage_detector import TwoStageDetector
from malaria_cells.proposals import tiles
from malaria_cells.proposals.learned import prediction
from tests.tiny_exports import CELL_SIZE, LABELS, save_export


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (150, 210, 3), dtype=np.uint8)


def check_same(cells, found, names):
    assert [c.label for c in cells] == found.class_name.tolist()
    assert [c.counted_as for c in cells] == [names[i] if i >= 0 else None for i in found.counted_as]
    assert np.array([c.box for c in cells]).reshape(-1, 4) == pytest.approx(found.xyxy, abs=1e-3)
    assert np.array([c.score for c in cells]) == pytest.approx(found.confidence, abs=1e-4)


@pytest.mark.parametrize("refiner", [False, True])
@pytest.mark.parametrize("nms", ["agnostic", "class"])
@pytest.mark.parametrize(("n_labels", "has_background"), [(1, True), (2, True), (2, False), (6, True), (6, False)])
def test_it_finds_what_the_package_finds(n_labels, nms, refiner, has_background, noise, tmp_path):
    save_export(tmp_path, n_labels, refiner, has_background, nms=nms, tta=4, infected_threshold=0.3)
    detector = load_detector(tmp_path)[0].with_cell_size(CELL_SIZE)
    found = detector.detect(noise)
    assert 100 < len(found) < 300
    check_same(standalone.find_cells(noise, standalone.load(tmp_path)), found, detector.labels.names)
    assert len(set(found.counted_as)) > n_labels / 2


@pytest.mark.parametrize("size_hw", [(30, 20), (60, 1200), (3, 900)])  # of a patch or two, of several tiles, of a line
def test_images_of_any_size(size_hw, tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    save_export(tmp_path, 2, sigmoid=True, has_background=False)
    detector = load_detector(tmp_path)[0].with_cell_size(CELL_SIZE)
    check_same(standalone.find_cells(image, standalone.load(tmp_path)), detector.detect(image), detector.labels.names)


def test_cells_of_another_size_by_name(noise, tmp_path):
    save_export(tmp_path, 2, tta=2)
    detector = load_detector(tmp_path)[0].with_cell_size(45)
    check_same(standalone.find_cells(noise, standalone.load(tmp_path), 45), detector.detect(noise), detector.labels.names)


def smear(seed):
    """A rendered image, 500 x 400."""
    rng = np.random.default_rng(seed)
    return render_smear(Slide.draw(rng), rng, (500, 400)).image


@pytest.mark.parametrize("how", ["none", "clear_field", "density"])
def test_it_brings_images_to_the_look_that_the_package_does(how, noise, repository):
    flat = np.full((90, 90, 3), 128, dtype=np.uint8)
    three = flat.copy()
    three[:30], three[30:60] = 90, 200
    large = read_image(repository / "docs/images/smear.jpg")
    for image in (noise, flat, three, large, *map(smear, range(6))):
        assert np.array_equal(standalone.stain.in_common_look(image, how), stain.normalized(image, how))


def test_it_finds_what_the_package_finds_in_another_stain(tmp_path):
    save_export(tmp_path, 6, stain="density")
    image = smear(7)
    detector = load_detector(tmp_path)[0].with_cell_size(CELL_SIZE)
    found = detector.detect(image)
    assert len(found) > 20
    check_same(standalone.find_cells(image, standalone.load(tmp_path)), found, detector.labels.names)
    assert not np.array_equal(replace(detector, stain="none").detect(image).confidence, found.confidence)


def about(labels, settings):
    names = {"names": list(labels.names), "infected": list(labels.infected), "red_cells": list(labels.red_cells)}
    return {"labels": names, "settings": vars(settings)}


SHARE = st.floats(0, 1, width=16)


@given(
    st.sampled_from([*LABELS.values(), replace(LABELS[2], infected=LABELS[2].names)]),
    st.builds(
        DetectionSettings,
        nms=st.sampled_from(["agnostic", "class"]),
        nms_iou=st.floats(0.1, 0.9),
        score_threshold=st.floats(0, 0.5),
        infected_threshold=SHARE,
        cell_threshold=SHARE,
        candidate_threshold=SHARE,
        proposal_weight=st.sampled_from([0, 0.5, 1]),
    ),
    st.integers(0, 12),
    st.integers(0, 2**32 - 1),
)
def test_it_decides_as_the_package_does(labels, settings, count, seed):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 20, (count, 2)), rng.uniform(1, 40, (count, 2))
    found_xyxy = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    p = rng.dirichlet(np.full(len(labels) + 1, 0.5), count).astype(np.float32)
    sure = rng.uniform(size=count).astype(np.float32)
    cascade = classifier.Cascade(lambda pixels: pixels)
    patches = classifier.PatchClassifier(labels, True, (8, 8), 1.0, Calibration.none(len(labels) + 1), cascade)
    detector = TwoStageDetector(None, patches, settings=settings)
    check_same(
        standalone.decision.decide(found_xyxy, p, sure, standalone.Model(about(labels, settings), None, [])),
        detector.decide(found_xyxy, p, sure),
        labels.names,
    )


@pytest.mark.parametrize("infection", [None, InfectionSigmoid((False, True, True, False), 0.7, -1.3)])
def test_it_calibrates_as_the_package_does(infection):
    calibration = Calibration(0.8, 0.6, (0.3, -2.0, -3.1, -0.2), infection)
    fit = vars(calibration) | {"infection": vars(infection) if infection else None}
    p = np.random.default_rng(0).dirichlet(np.full(4, 0.2), 100).astype(np.float32)
    assert np.allclose(standalone.classification.calibrated(p, fit), calibration(p), atol=1e-6)


def test_it_takes_the_package_s_hill_of_a_histogram():
    """The example imports nothing of the package; what it repeats is held to be the same."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        counts = rng.random(40) + 3 * np.exp(-np.arange(40) / rng.uniform(1, 8))  # the highest place first in most, inside in some
        assert standalone.stain.hill(counts) == stain._hill(counts)
    assert standalone.stain.hill(np.arange(40.0)[::-1]) == stain._hill(np.arange(40.0)[::-1]) == 0  # no hill at all


def test_its_numbers_are_the_package_s():
    ours, classify = standalone.proposals, standalone.classification
    assert (ours.CELL, ours.STRIDE, ours.MULTIPLE) == (boxes.WORKING_CELL_SIZE, prediction.STRIDE, prediction.MULTIPLE)
    assert (ours.PADDING, ours.RECEPTIVE_RADIUS, ours.TILE) == (prediction.PADDING, prediction.RECEPTIVE_RADIUS, tiles.SIDE)
    assert (ours.MAX_LOG_SIZE, ours.MIRRORS, ours.ENOUGH) == (prediction.MAX_LOG_SIZE, prediction._MIRRORS, boxes.ENOUGH)
    assert (ours.MAX_WORKING_PIXELS, standalone.images.MAX_PIXELS) == (prediction.MAX_WORKING_PIXELS, refusal.MAX_PIXELS)
    assert (classify.VIEWS, classify.BATCH, classify.SMALLEST) == (tta._ORDER, classifier.BATCH, SMALLEST)


def test_what_model_yaml_does_not_say_is_as_in_the_package():
    """As model.yaml holds it, of which the example uses a part."""
    written = plain(asdict(InferenceSettings()))
    for group, values in standalone.model.INFERENCE.items():
        assert values.items() <= written[group].items()


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("refinement", {"min_infected": 0.9}),
        ("nested_boxes", {"containment": 0.3, "decay": 0.1}),
        ("proposals", {"min_score": 0.6, "further": 1}),
    ],
)
def test_it_goes_by_the_values_in_model_yaml(part, value, noise, tmp_path):
    save_export(tmp_path, 2, True, tta=4)
    file = tmp_path / "model.yaml"
    about_it = {key: v for key, v in yaml.safe_load(file.read_text()).items() if key != "inference"}
    found = []
    for inference in ({}, {"inference": None}, {"inference": standalone.model.INFERENCE}, {"inference": {part: value}}):
        file.write_text(yaml.safe_dump(about_it | inference))
        found.append(standalone.find_cells(noise, standalone.load(tmp_path)))
    assert found[0] == found[1] == found[2] != found[3]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, None),
        ({"confident": 0.95}, "fewer than 10 cells"),
        ({"conclusive": [1.1, 1.2]}, "80 pixels wide, expected 80"),
        ({"min_consistent": 1.1}, "only 150 of 150"),
        ({"conclusive": [0.1, 9], "size_tolerance": 0.9}, "only 0 of 150"),
    ],
)
def test_the_check_of_the_size_goes_by_the_values_in_model_yaml(values, said):
    found, sure = np.array([[0, 0, 80, 80]] * 150, dtype=np.float32), np.full(150, 0.9)
    note = standalone.proposals.note_on_size(found, sure, 80, standalone.Model({"inference": {"proposals": values}}, None, []))
    assert note is None if said is None else said in note


@pytest.mark.parametrize(
    ("size", "sure", "said"),
    [(80, 0.9, None), (150, 0.9, "150 pixels wide, expected 80"), (80, 0.2, "only 10 of 150"), (None, 0.9, "fewer than 10 cells")],
)
def test_it_says_where_cells_are_of_another_size(size, sure, said):
    """In the images that the package would look at again in their own size."""
    found = np.array([[0, 0, size, size]] * 150 if size else [], dtype=np.float32).reshape(-1, 4)
    proposal_scores = np.full(len(found), sure)
    proposal_scores[:10] = 0.9
    note = standalone.proposals.note_on_size(found, proposal_scores, 80, standalone.Model({}, None, []))
    assert note is None if said is None else said in note

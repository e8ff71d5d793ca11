"""How like the training images an image is: measured, judged, stored, and said wherever there are results."""

import csv
import json
import math
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from malaria_cells.app.cli import main
from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import read_image
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.sample.smear import RADIUS, Slide, render_smear
from malaria_cells.inference.decision import DetectionSettings
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.error_rates import UNMEASURED, ErrorRates
from malaria_cells.inference.familiarity import (
    FAMILIAR,
    UNLIKE,
    UNUSUAL,
    Familiarity,
    FamiliarityLimits,
    FamiliarityModel,
    appearance,
    fit,
    measure,
)
from malaria_cells.inference.familiarity.model import NO_INFECTED_CELLS
from malaria_cells.inference.familiarity.signals import NAMES
from malaria_cells.inference.model_description import plain
from malaria_cells.inference.model_yaml import load_description
from malaria_cells.inference.unfamiliar import UnfamiliarSigmoid
from malaria_cells.results.run_outputs import DetectionOutput
from malaria_cells.results.run_report import write_run_report
from malaria_cells.results.run_results import RunResults
from malaria_cells.results.sections import counted_headline
from malaria_cells.results.verdicts import Verdicts
from malaria_cells.training.errors_elsewhere import read_elsewhere
from malaria_cells.training.fit_familiarity import fit_familiarity, sets_without_infected

SIZE_WH = (480, 360)
CELL = 2 * RADIUS
LABELS = LabelSet(("red blood cell", "ring"), infected=("ring",), red_cells=("red blood cell",))


@dataclass(frozen=True)
class Known(Detector):
    """A detector that finds nothing: for what is done with what was found."""

    @property
    def labels(self):
        return LABELS

    def predict(self, image):
        raise NotImplementedError


def slide(seed):
    return replace(Slide.draw(np.random.default_rng(seed)), crowding=70.0)


def found_at(boxes_xyxy, objectness=0.98):
    """Healthy red cells as a detector hands them on."""
    n = len(boxes_xyxy)
    probabilities = np.tile([0.97 * objectness, 0.03 * objectness, 1 - objectness], (n, 1))
    return Detections.from_boxes(
        xyxy=np.array(boxes_xyxy, dtype=np.float32).reshape(-1, 4),
        confidence=np.full(n, objectness),
        class_id=np.zeros(n, dtype=int),
        objectness=np.full(n, objectness),
        probabilities=probabilities,
    )


NOTHING = Detections.from_boxes(np.zeros((0, 4)), [])


def smears(number, slides, seed, radius=RADIUS):
    rng = np.random.default_rng(seed)
    drawn = [render_smear(slides[i % len(slides)], rng, SIZE_WH, radius) for i in range(number)]
    return [(s.image, s.boxes_xyxy[[name != "leukocyte" for name in s.labels]].astype(np.float32)) for s in drawn]


@pytest.fixture(scope="module")
def slides():
    return [slide(1), slide(2)]


@pytest.fixture(scope="module")
def known(slides):
    """What twenty drawn training images and as many validation ones of two slides look like."""
    appearances = np.array([appearance(image, cells, CELL) for image, cells in smears(20, slides, 3)])
    validated = np.array([measure(image, found_at(cells), LABELS, CELL) for image, cells in smears(20, slides, 4)])
    return fit(appearances, [""] * 20, validated, [""] * 20)


def judged(known, image, found):
    return known.judge(measure(image, found, LABELS, CELL))


def test_new_images_of_known_slides_are_familiar(known, slides):
    levels = [judged(known, image, found_at(cells)).level for image, cells in smears(20, slides, 5)]
    assert levels.count(FAMILIAR) >= 18


def test_an_image_out_of_focus_is_unlike_anything_learned_although_its_cells_are_found(known, slides):
    [(image, cells)] = smears(1, slides, 6)
    verdict = judged(known, cv2.GaussianBlur(image, (0, 0), 6), found_at(cells))
    assert (verdict.level, verdict.reason.split(";")[0]) == (UNLIKE, "out of focus")


def test_the_limits_are_the_model_s(known, slides):
    [(image, cells)] = smears(1, slides, 6)
    tolerant = replace(known, limits=FamiliarityLimits(out_of_focus=10))
    assert judged(tolerant, cv2.GaussianBlur(image, (0, 0), 6), found_at(cells)).level == UNUSUAL
    lenient = replace(known, limits=FamiliarityLimits(max_unexplained=1, max_unsure=1))
    assert judged(lenient, thick_film(), NOTHING).reason != judged(known, thick_film(), NOTHING).reason


@pytest.mark.parametrize(("limits", "message"), [({"max_unsure": 2}, "limits.max_unsure"), ({"out_off_focus": 1}, "limits.out_off_focus")])
def test_a_wrong_limit_is_named(known, limits, message):
    stored = plain(asdict(known))
    assert TypeAdapter(FamiliarityModel).validate_python(stored) == known
    assert TypeAdapter(FamiliarityModel).validate_python({k: v for k, v in stored.items() if k != "limits"}) == known  # of before
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(FamiliarityModel).validate_python(stored | {"limits": limits})


def thick_film():
    """Lysed red cells: a cloudy field of stain with dense specks, and no outline of a cell."""
    rng = np.random.default_rng(0)
    cloud = cv2.GaussianBlur(rng.standard_normal((360, 480)).astype(np.float32), (0, 0), 12)
    density = 0.15 + 0.05 * cloud / cloud.std()
    for x, y in rng.integers(10, 350, (40, 2)):
        cv2.circle(density, (int(x), int(y)), 4, 0.6, -1)
    return (220 * 10 ** -np.clip(density, 0, 2)[..., None] * np.array([0.9, 1.0, 0.95])).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("found", [NOTHING, found_at([[20, 20, 90, 90], [200, 150, 270, 220]])])
def test_a_thick_film_is_unlike_anything_learned(known, found):
    verdict = judged(known, thick_film(), found)
    assert verdict.level == UNLIKE
    assert "a thick film, crowded cells, or not a smear" in verdict.reason


def test_what_is_no_smear_is_unlike_anything_learned(known, slides):
    [(image, _)] = smears(1, slides, 7)
    noise = np.random.default_rng(0).integers(0, 256, (360, 480, 3)).astype(np.uint8)
    for no_smear in (255 - image, noise, np.zeros_like(image), np.full_like(image, 200)):
        assert judged(known, no_smear, NOTHING).level == UNLIKE


def test_cells_twice_as_large_are_said_to_be(known, slides):
    """Drawn at twice the size, so that stain and light are as usual."""
    [(image, cells)] = smears(1, slides, 8, radius=RADIUS / 2)
    large = cv2.resize(image, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    verdict = judged(known, large, found_at(4 * cells))
    assert verdict.level != FAMILIAR
    [times] = [part.split()[2] for part in verdict.reason.split("; ") if part.startswith("cells are")]
    assert float(times) == pytest.approx(2.0, abs=0.15)


def test_another_stain_is_unusual(known, slides):
    other = replace(slides[0], stain=np.array([0.9, 0.5, 0.2], dtype=np.float32))
    [(image, cells)] = smears(1, [other], 9)
    verdict = judged(known, image, found_at(cells))
    assert verdict.level == UNUSUAL
    assert "stain is" in verdict.reason


def test_networks_that_are_unsure_make_an_image_unusual_and_surer_ones_never(known, slides):
    [(image, cells)] = smears(1, slides, 10)
    objectness = np.where(np.arange(len(cells)) % 2 == 0, 0.98, 0.6)
    found = found_at(cells)
    found = replace(found, objectness=objectness)
    verdict = judged(known, image, found)
    assert verdict.level == UNUSUAL
    assert verdict.reason.startswith("the networks are unsure of 5")
    assert judged(known, image, found_at(cells, objectness=0.999)).level == FAMILIAR


def test_each_data_set_has_its_own_centre(slides):
    """An image between two data sets is like neither."""
    other = [replace(s, light=s.light * np.array([1.0, 1.0, 0.5], dtype=np.float32)) for s in slides]
    between = [replace(s, light=s.light * np.array([1.0, 1.0, 0.72], dtype=np.float32)) for s in slides]
    seen = {"one": smears(12, slides, 11), "other": smears(12, other, 12)}
    names = [name for name, images in seen.items() for _ in images]
    appearances = np.array([appearance(image, cells, CELL) for images in seen.values() for image, cells in images])
    validated = np.array([measure(p, found_at(c), LABELS, CELL) for images in seen.values() for p, c in images])
    known = fit(appearances, names, validated, names)
    assert [k.name for k in known.sets] == ["one", "other"]
    assert {judged(known, p, found_at(c)).nearest for p, c in seen["other"]} == {"other"}
    [(image, cells)] = smears(1, between, 13)
    assert judged(known, image, found_at(cells)).level == UNUSUAL
    # Familiar is not yet known: from a laboratory without malaria nobody has learned how infected cells look there.
    healthy = fit(appearances, names, validated, names, {"other"})
    verdicts = {name: [judged(healthy, p, found_at(c)) for p, c in images] for name, images in seen.items()}
    familiar = {name: [v for v in own if v.level == FAMILIAR] for name, own in verdicts.items()}
    assert familiar["one"]
    assert all(v.is_as_learned and not v.reason for v in familiar["one"])
    assert familiar["other"]
    assert not any(v.is_as_learned for v in familiar["other"])
    assert {v.reason for v in familiar["other"]} == {NO_INFECTED_CELLS}


def test_an_image_that_two_laboratories_might_have_made_is_known_by_the_one_with_malaria(known):
    [one] = known.sets
    twins = replace(known, sets=(replace(one, name="healthy", has_infected_cells=False), replace(one, name="malaria")))
    verdict = twins.judge(np.array(one.centre))
    assert (verdict.level, verdict.nearest, verdict.is_as_learned) == (FAMILIAR, "healthy", True)


def test_at_most_one_validation_image_in_twenty_is_not_familiar(known):
    rng = np.random.default_rng(0)
    centre = np.array(known.sets[0].centre)
    for tail in (1.0, 0.4):  # light tails and heavy ones
        spread = 0.03 * np.abs(rng.standard_normal((400, len(NAMES)))) ** (1 / tail) * rng.choice([-1, 1], (400, len(NAMES)))
        values = centre + spread
        values[:, NAMES.index("unexplained")] = centre[NAMES.index("unexplained")] - np.abs(spread[:, 0])
        own = fit(values[:200], ["a"] * 200, values[200:300], ["a"] * 100)
        assert np.mean([own.judge(row).level != FAMILIAR for row in values[300:]]) <= 0.1


def test_a_large_image_is_measured_in_milliseconds(known, slides):
    import time

    [(image, cells)] = smears(1, slides, 14)
    large = np.tile(image, (3, 3, 1))
    seconds = []
    for _ in range(5):
        started = time.thread_time()
        measure(large, found_at(cells), LABELS, CELL)
        seconds.append(time.thread_time() - started)
    assert min(seconds) < 0.05


# --- stored in the model folder


def with_familiarity(model, known, tmp_path, **changes):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    content = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    content["familiarity"] = plain(asdict(known)) | changes
    (folder / "model.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return folder


def test_it_comes_back_from_the_model_folder_as_it_was_saved(untrained_model, known, tmp_path):
    assert load_description(with_familiarity(untrained_model, known, tmp_path))[0].familiarity == known


def test_a_folder_of_before_there_was_any_loads(untrained_model, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(untrained_model, folder)
    content = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    del content["familiarity"], content["errors_elsewhere"]
    (folder / "model.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    assert load_description(folder)[0].familiarity is None


def one_set(**changes):
    rows = {"low": [-1.0] * len(NAMES), "centre": [0.0] * len(NAMES), "high": [1.0] * len(NAMES)}
    return {"sets": [{"name": "a", "images": 5} | rows | changes]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signals": ["light"]}, "familiarity.signals"),
        ({"sets": []}, "familiarity.sets"),
        ({"unusual": -1.0}, "familiarity.unusual"),
        (one_set(images=-1), "images: Input should be greater than or equal to 1"),
        (one_set(high=[1e-320] * len(NAMES)), "'a': expected low under centre under high"),
        (one_set(low=[0.0] * len(NAMES)), "'a': expected low under centre under high"),
    ],
)
def test_a_damaged_one_is_refused(untrained_model, known, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        load_description(with_familiarity(untrained_model, known, tmp_path, **changes))


@pytest.mark.parametrize("changes", [{"cell_size": 1e-320}, {"cell_sizes": {"a": 80.0, "b": 0.1}}])
def test_cells_smaller_than_a_pixel_are_refused(untrained_model, tmp_path, changes):
    folder = shutil.copytree(untrained_model, tmp_path / "damaged")
    content = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8")) | changes
    (folder / "model.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    with pytest.raises(InputError, match=r"model.yaml: cell_size.*greater than or equal to 1"):
        load_description(folder)


def test_training_images_are_measured_by_their_annotation(sample):
    from malaria_cells.data.annotations import load_annotations

    names = ("red blood cell", "leukocyte", "gametocyte", "ring", "trophozoite", "schizont")
    labels = LabelSet(names, infected=names[2:], red_cells=names[:1])
    annotations = load_annotations(sample / "training.json", labels, root=sample)
    half = annotations.subset([p.key for p in annotations.images[:4]])
    rest = annotations.subset([p.key for p in annotations.images[4:]])
    found = []
    for p in rest.images:
        n = len(p.cells_xyxy)
        own = np.pad(0.95 * np.eye(len(names))[p.cell_class_ids], ((0, 0), (0, 1)), constant_values=0.05)
        data = {"objectness": np.full(n, 0.95), "probabilities": own}
        found.append(Detections.from_boxes(xyxy=p.cells_xyxy, class_id=p.cell_class_ids, confidence=np.full(n, 0.95), **data))
    known = fit_familiarity(half, rest, found, half.median_cell_size)
    assert (len(known.sets), known.sets[0].images) == (1, 8)
    assert known.sets[0].centre[NAMES.index("size")] == pytest.approx(0, abs=0.1)
    assert fit_familiarity(half, rest, found, None) is None
    alone = fit_familiarity(half.subset(()), rest, found, half.median_cell_size)  # where all images were cross-validated
    assert (len(alone.sets), alone.sets[0].images) == (1, 4)


# --- error rates of other laboratories

SET = {"infected": 50, "detected": 40, "healthy": 5000, "false_alarms": 10}


def test_errors_elsewhere_are_read_in_both_forms(tmp_path):
    path = tmp_path / "elsewhere.json"
    for content in ({"a": SET, "b": SET}, {"errors_by_data_set": {"a": SET, "b": SET}}):
        path.write_text(json.dumps(content))
        errors = {"a": ErrorRates(50, 40, 5000, 10), "b": ErrorRates(50, 40, 5000, 10)}
        assert read_elsewhere(str(path)) == {"errors_elsewhere": errors, "unfamiliar": None}
    path.write_text(json.dumps({"errors_by_data_set": {"a": SET}, "unfamiliar": {"slope": 1.5, "offset": -6}, "folds": 2}))
    assert read_elsewhere(str(path))["unfamiliar"] == UnfamiliarSigmoid(1.5, -6.0)
    path.write_text(json.dumps({"a": {"infected": 50, "found": 40, "healthy": 5000, "false_alarms": 10}}))  # of an earlier version
    assert read_elsewhere(str(path))["errors_elsewhere"] == {"a": ErrorRates(50, 40, 5000, 10)}
    assert read_elsewhere(None) == {"errors_elsewhere": None, "unfamiliar": None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "Expecting"),
        ("[]", "expected the counts"),
        ('{"a": {"infected": 5}}', "'a': 'detected': Field required"),
        ("{}", "found {} instead of a data set"),
        ('{"errors_by_data_set": {}}', "instead of a data set"),
        ("null", "found None instead of a data set"),
        (json.dumps({"a": SET | {"detected": 60}}), "`detected` is at most `infected`"),
        # A model that holds such numbers could not be loaded: that must be known before the training.
        (json.dumps({"a": SET | {"misses_vary": math.nan}}), "'a': found .*nan.*variances from 0 to 1e"),
        (json.dumps({"a": SET | {"alarms_differ": math.inf}}), "'a': found .*inf"),
        (json.dumps({"a": SET | {"healthy": 10**20}}), "'a': found .* from 0 to 1e"),
        ("[" * 100_000, "expected the counts"),
        (b"\xff\xfe{", "expected the counts"),
        (json.dumps({"errors_by_data_set": {"a": SET}, "unfamiliar": {"slope": -1, "offset": 0}}), "greater than 0"),
        (json.dumps({"errors_by_data_set": {"a": SET}, "unfamiliar": {"slope": 10**12, "offset": 0}}), "up to 1e"),
        (json.dumps({"errors_by_data_set": {"a": SET}, "unfamiliar": {"slope": 1, "offset": math.nan}}), "unfamiliar"),
    ],
)
def test_a_wrong_file_of_errors_is_refused(tmp_path, content, message):
    path = tmp_path / "elsewhere.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_elsewhere(str(path))
    with pytest.raises(InputError, match=r"elsewhere: .*missing.json cannot be read"):
        read_elsewhere(str(tmp_path / "missing.json"))


# --- said with the results


def three_verdicts():
    return {
        "a.png": Familiarity(FAMILIAR, 0.8),
        "b.png": Familiarity(UNUSUAL, 2.5, "cells are 2.0 times as large as in the training images"),
        "c.png": Familiarity(UNLIKE, 9.0, "out of focus"),
    }


def three_results():
    found = {
        key: found_at(np.arange(4 * n).reshape(n, 4) + np.array([0, 0, 9, 9])) for key, n in (("a.png", 100), ("b.png", 50), ("c.png", 30))
    }
    return {key: replace(d, counted_as=np.where(d.index < 2, 1, d.counted_as)) for key, d in found.items()}


def finished_of(results, familiarity):
    return RunResults(results, familiarity=familiarity, sizes_wh=dict.fromkeys(results, (640, 480)))


def table(folder):
    return {row["image"]: row for row in csv.DictReader((folder / "counts.csv").read_text(encoding="utf-8").splitlines())}


ERRORS = ErrorRates(100, 90, 5000, 10)


def test_an_image_unlike_anything_learned_has_no_parasitemia_and_is_not_in_the_total(tmp_path, capsys):
    detector = Known(settings=DetectionSettings(), errors=ERRORS)
    output = DetectionOutput.start(tmp_path / "out", detector, tmp_path, three_results())
    finished = finished_of(three_results(), three_verdicts())
    output.tables(finished, None)
    rows = table(output.folder)
    assert [rows[key]["familiarity"] for key in three_verdicts()] == [FAMILIAR, UNUSUAL, UNLIKE]
    assert rows["a.png"]["parasitemia"] == "0.020000"
    assert rows["a.png"]["parasitemia_low"] != ""
    assert [rows["b.png"][k] for k in ("parasitemia", "parasitemia_low", "parasitemia_high")] == ["0.040000", "", ""]
    assert [rows["c.png"][k] for k in ("red_cells", "parasitemia", "parasitemia_low")] == ["30", "", ""]
    assert (rows["c.png"]["familiarity_reason"], rows["TOTAL"]["red_cells"]) == ("out of focus", "150")
    output.say(finished)
    said = capsys.readouterr().out
    assert "2 of 3 images: 150 cells, 4 of 150 red cells infected" in said
    assert "no interval, since errors on such images were not measured" in said
    assert "1 image is unlike anything learned: no parasitemia is given there, and the total excludes such images" in said
    assert "first: c.png (out of focus)" in said

    assert counted_headline(output.verdicts(finished).together, ERRORS, detector.labels, 2)[0].meaning.startswith("in all images")
    together = output.verdicts(finished).together
    assert counted_headline(together, ERRORS, detector.labels, 3)[0].meaning == "in 2 of 3 images, at the operating thresholds"


def test_force_gives_a_parasitemia_all_the_same(tmp_path):
    detector = Known(settings=DetectionSettings(), errors=ERRORS, errors_elsewhere={"x": ERRORS, "y": ErrorRates(50, 30, 4000, 40)})
    output = DetectionOutput.start(tmp_path / "out", detector, tmp_path, three_results(), force=True)
    output.tables(finished_of(three_results(), three_verdicts()), None)
    rows = table(output.folder)
    assert (rows["c.png"]["parasitemia"], rows["TOTAL"]["red_cells"]) == ("0.066667", "180")
    assert float(rows["c.png"]["parasitemia_high"]) > 0.1


def test_an_unusual_image_has_the_wider_interval_of_laboratories_left_out():
    detector = Known(settings=DetectionSettings(), errors=ERRORS, errors_elsewhere={"x": ERRORS, "y": ErrorRates(50, 30, 4000, 40)})
    from malaria_cells import CellDetector

    interface = CellDetector(detector, None)
    counted = interface.count(three_results()["a.png"])
    home, away = interface.interval(counted), interface.interval(counted, three_verdicts()["b.png"])
    assert away[0] <= home[0] < home[1] < away[1]
    assert interface.interval(counted, three_verdicts()["a.png"]) == home
    assert Known(settings=DetectionSettings(), errors=ERRORS).errors_for(three_verdicts()["b.png"]) is UNMEASURED


def test_an_image_like_those_of_a_laboratory_without_malaria_has_the_errors_of_laboratories_left_out(tmp_path):
    detector = Known(settings=DetectionSettings(), errors=ERRORS, errors_elsewhere={"x": ERRORS, "y": ErrorRates(50, 30, 4000, 40)})
    verdicts = {"a.png": Familiarity(FAMILIAR, 0.8, NO_INFECTED_CELLS, "healthy", infection_known=False)}
    together = Verdicts.of(detector, three_results(), verdicts)
    assert together.errors == detector.errors_for(three_verdicts()["b.png"])
    said = "1 image looks like those of laboratories whose infected cells the model was not trained on: error rates of"
    assert said in together.sentence
    # Where laboratories left out were not measured it keeps the interval of the validation images, and the sentence says so.
    alone = Verdicts.of(Known(settings=DetectionSettings(), errors=ERRORS), three_results(), verdicts)
    assert alone.errors is ERRORS
    assert "the fraction of infected cells that it misses there is unknown" in alone.sentence
    output = DetectionOutput.start(tmp_path / "out", detector, tmp_path, three_results())
    output.tables(finished_of(three_results(), verdicts), None)
    row = table(output.folder)["a.png"]
    assert (row["familiarity"], row["familiarity_reason"]) == (FAMILIAR, NO_INFECTED_CELLS)


def test_sets_without_an_infected_cell_are_told_where_others_have_some():
    labels = LabelSet(("red blood cell", "ring"), (), ("ring",), ("red blood cell",))

    def image(name: str, *class_ids: int) -> AnnotatedImage:
        boxes = np.tile(np.array([[0, 0, 9, 9]], dtype=np.float32), (len(class_ids), 1))
        return AnnotatedImage(
            name, Path(name), (10, 10), name, boxes, np.array(class_ids), np.zeros(len(class_ids), dtype=bool), data_set=name[0]
        )

    healthy, sick = image("a1", 0, 0), image("b1", 0, 1)
    assert sets_without_infected(AnnotationSet(labels, (healthy,)), AnnotationSet(labels, (sick,))) == {"a"}
    assert sets_without_infected(AnnotationSet(labels, (healthy,))) == set()  # nothing to tell apart


def test_a_model_that_knows_nothing_of_its_training_images_says_nothing(tmp_path):
    detector = Known(settings=DetectionSettings(), errors=ERRORS)
    assert detector.familiarity(np.zeros((50, 50, 3), dtype=np.uint8), NOTHING) is None
    verdicts = Verdicts.of(detector, three_results(), {})
    assert (verdicts.sentence, verdicts.errors, verdicts.together.red_cells) == ("", ERRORS, 180)


def test_the_report_warns_and_has_badges(tmp_path):
    detector = Known(settings=DetectionSettings(), errors=ERRORS)
    for key in three_results():
        cv2.imwrite(str(tmp_path / key), np.full((480, 640, 3), 200, dtype=np.uint8))
    output = DetectionOutput.start(tmp_path / "out", detector, tmp_path, three_results())
    finished = finished_of(three_results(), three_verdicts())
    output.tables(finished, None)
    write_run_report(output, finished, None, None, [], "run.py")
    page = (output.folder / "report.html").read_text(encoding="utf-8")
    assert '<p class="warning" role="alert">1 image is unusual: the parasitemia there may be far off' in page
    assert '<span class="badge lost">unlike anything learned</span>' in page
    assert '<span class="badge doubt">unusual</span>' in page
    assert page.index("c.png</td>") < page.index("b.png</td>")  # the least familiar first


def test_run_judges_each_image(untrained_model, known, sample, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(sorted((sample / "images").iterdir())[0], images / "smear.png")
    cv2.imwrite(str(images / "flat.png"), np.full((240, 320, 3), 200, dtype=np.uint8))
    folder = with_familiarity(untrained_model, known, tmp_path)
    assert main(["run", "--model", str(folder), "--image", str(images), "--output", str(tmp_path / "out")]) == 0
    rows = table(tmp_path / "out")
    assert (rows["flat.png"]["familiarity"], rows["flat.png"]["parasitemia"]) == (UNLIKE, "")
    assert rows["smear.png"]["familiarity"] in {FAMILIAR, UNUSUAL, UNLIKE}
    assert "unlike anything learned" in capsys.readouterr().out


# --- on real images


@pytest.fixture(scope="module")
def judging(iml, repository):
    """The shipped detector with what every twelfth of IML-Malaria's training images look like, and images between those."""
    from malaria_cells.inference.model_folder import load_detector

    detector, description = load_detector(repository / "pretrained" / "vivax")
    paths = {p.name: p for p in iml.rglob("*.JPG")}
    train = [paths[name] for name in json.loads((iml / "split.json").read_text(encoding="utf-8"))["train"]]
    values = []
    for path in train[::12]:
        image = read_image(path)
        values.append(measure(image, detector.detect(image), description.labels, description.cell_size))
    names = [""] * len(values)
    return replace(detector, known=fit(np.array(values), names, np.array(values), names)), train[3::24]


def levels_of(detector, paths):
    images = map(read_image, paths)
    return [detector.familiarity(image, detector.detect(image)).level for image in images]


@pytest.mark.slow
def test_images_of_the_same_laboratory_are_familiar(judging):
    detector, paths = judging
    assert levels_of(detector, paths).count(FAMILIAR) >= 0.9 * len(paths)


@pytest.mark.slow
def test_thick_films_are_unlike_anything_learned(judging, iml):
    folder = iml.parent / "labs" / "thick" / "images"
    if not folder.is_dir():
        pytest.skip(f"the thick films are not at {folder}")
    assert set(levels_of(judging[0], sorted(folder.iterdir()))) == {UNLIKE}


def test_a_model_has_the_signals_of_this_version(known):
    with pytest.raises(ValueError, match=r"familiarity\.signals"):
        FamiliarityModel(("light",), known.sets, 1.0)

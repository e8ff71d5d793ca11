"""Tuned values of the inference stand in ``model.yaml``, and are those by which the model detects."""

from dataclasses import asdict

import numpy as np
import pytest
import yaml

from malaria_cells.base.errors import InputError
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.inference.model_yaml import load_description, save_description
from tests.tiny_exports import save_export

# Of the models that were trained before the values stood in model.yaml.
PROPOSALS = {
    "min_score": 0.1,
    "confident": 0.4,
    "reference_range": [0.8, 1.3],
    "conclusive": [0.85, 1.2],
    "size_tolerance": 1.4,
    "min_consistent": 0.3,
    "min_cells": 5,
    "shrinkage_power": 1.5,
    "log_size_sd": 0.25,
    "known_preference": 0.9,
    "known_tolerance": 0.9,
    "scale_step": 1.35,
    "converged": [0.93, 1.1],
}
INFERENCE = {
    "refinement": {"min_infected": 0.1, "certain": 0.95, "further_views": 0.0},
    "nested_boxes": {"containment": 0.8, "decay": 0.3},
    "proposals": PROPOSALS,
}


@pytest.fixture
def folder(tmp_path):
    save_export(tmp_path, 2, refiner=True, infected_threshold=0.3)
    return tmp_path


def content_of(folder):
    return yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))


def write(folder, content):
    (folder / "model.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def changed(folder, group, key, value):
    """Change one value of `inference`."""
    content = content_of(folder)
    content["inference"][group][key] = value
    write(folder, content)


def detected(folder):
    image = np.random.default_rng(0).integers(0, 256, (150, 210, 3), dtype=np.uint8)
    found = load_detector(folder)[0].detect(image)
    return np.concatenate([found.xyxy, found.confidence[:, None], found.data["probabilities"]], axis=1)


def test_a_model_is_written_with_the_values_that_it_is_used_with(folder):
    assert content_of(folder)["inference"] == INFERENCE


@pytest.mark.parametrize("left_out", ["inference", "refinement", "nested_boxes", "proposals"])
def test_a_folder_without_the_values_detects_as_with_those_of_before(folder, left_out):
    expected, content = detected(folder), content_of(folder)
    assert len(expected) > 50
    del (content if left_out == "inference" else content["inference"])[left_out]
    write(folder, content)
    assert np.array_equal(detected(folder), expected)


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("refinement", "min_infected", 1.0),
        ("nested_boxes", "decay", 1.0),
        ("nested_boxes", "containment", 0.3),
        ("proposals", "min_score", 0.6),
    ],
)
def test_another_value_in_the_file_changes_what_is_detected(folder, group, key, value):
    before = detected(folder)
    changed(folder, group, key, value)
    after = detected(folder)
    assert after.shape != before.shape or not np.array_equal(after, before)


def test_other_values_are_kept_when_the_model_is_written_again(folder):
    changed(folder, "proposals", "converged", [0.9, 1.2])
    description = load_description(folder)[0]
    save_description(folder, [lambda p: np.zeros((len(p), 3), np.float32)] * 2, description)
    assert content_of(folder)["inference"] == INFERENCE | {"proposals": PROPOSALS | {"converged": [0.9, 1.2]}}


@pytest.mark.parametrize(
    ("group", "key", "value", "message"),
    [
        ("refinement", "min_infected", 1.5, r"inference\.refinement\.min_infected: .*less than or equal to 1, found 1\.5"),
        ("refinement", "certainty", 0.9, r"inference\.refinement\.certainty: Unexpected keyword argument"),
        ("nested_boxes", "containment", 0, r"inference\.nested_boxes\.containment: .*greater than 0"),
        ("proposals", "scale_step", 1, r"inference\.proposals\.scale_step: .*greater than or equal to 1\.05"),
        ("proposals", "converged", [1.1, 0.9], r"inference\.proposals\.converged\.0: .*less than or equal to 1"),
        ("proposals", "conclusive", [0.9], r"inference\.proposals\.conclusive\.1: Field required"),
        ("proposals", "min_cells", "many", r"inference\.proposals\.min_cells: .*valid integer"),
        ("proposals", "log_size_sd", float("nan"), r"inference\.proposals\.log_size_sd: found nan, expected a finite number"),
    ],
)
def test_a_wrong_value_is_named(folder, group, key, value, message):
    changed(folder, group, key, value)
    with pytest.raises(InputError, match=message):
        load_detector(folder)


def test_error_rates_of_an_earlier_version_are_read(folder):
    content, rates = content_of(folder), {"infected": 3, "found": 2, "healthy": 9, "false_alarms": 1}
    write(folder, content | {"errors": rates, "errors_elsewhere": {"lima": rates}})
    description = load_description(folder)[0]
    assert [asdict(errors)["detected"] for errors in (description.errors, description.errors_elsewhere["lima"])] == [2, 2]

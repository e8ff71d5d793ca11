"""A training that begins with the networks of a model folder."""

import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
import yaml

from malaria_cells.app.commands import crossvalidate_sets
from malaria_cells.base.errors import InputError
from malaria_cells.config import Config, load_config, make_config
from malaria_cells.data.labels import BACKGROUND, LabelSet
from malaria_cells.inference.classifier import both_classes
from malaria_cells.inference.model_description import ABOUT, file_fingerprint
from malaria_cells.inference.model_folder import PROPOSER, save_model
from malaria_cells.inference.model_yaml import load_description
from malaria_cells.models import build_classifier
from malaria_cells.models.stored.keras_files import load_network
from malaria_cells.proposals.learned import centre_network
from malaria_cells.training.class_transfer import Classes, classes_of, describe_classes
from malaria_cells.training.start_model import find_start, with_start
from malaria_cells.training.transfer import averaged_weights, start_classifiers, start_proposer, transfer
from tests.test_leaks import NAMES, slides

PIXELS = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def start_folder(untrained_model, tmp_path_factory):
    """A model folder with two looks and a proposer, none of which is trained."""
    description, _ = load_description(untrained_model)
    first = load_network(untrained_model / "classifier.keras")
    keras.utils.set_random_seed(3)
    second = build_classifier("compact", (48, 48), 7, 0.0)
    folder = tmp_path_factory.mktemp("start") / "start"
    folder.mkdir()
    described = replace(description, proposals="learned", refiner="compact", refiner_size_hw=(48, 48), context=1.5)
    save_model(folder, [first, second], described, centre_network.build())
    (folder / "config.yaml").write_text(
        make_config({"epochs": 10, "refiner": {"model": "compact", "epochs": 5, "learning_rate": 0.002}}, "test").to_yaml()
    )
    return folder


def resolved(folder, **settings):
    return with_start(make_config({"start_from": str(folder)} | settings, "my.yaml"))


def test_what_is_not_set_is_the_start_models(start_folder):
    config = resolved(start_folder)
    assert (config.model, config.image_size, config.context) == ("compact", (32, 32), 1.5)
    assert config.learning_rate == pytest.approx(0.3 * Config().learning_rate)
    look = config.refiner
    assert (look.model, look.image_size, look.weights) == ("compact", (48, 48), "none")
    assert (look.epochs, look.learning_rate) == (6, pytest.approx(0.0006))
    assert config.score_threshold == 0
    assert config.infected_labels is None  # which names alone say
    assert config.infected == ["gametocyte", "ring", "trophozoite", "schizont"]
    assert with_start(config) == config
    assert with_start(Config()) == Config()


def test_what_is_set_counts(start_folder):
    """Even where it is set to what is usual."""
    labels = ["red blood cell", "ring", "platelet"]
    config = resolved(start_folder, image_size=[64, 64], context=1.25, learning_rate=0.002, labels=labels, refiner=None, tta=1)
    assert (config.image_size, config.context, config.learning_rate, config.refiner) == ((64, 64), 1.25, 0.002, None)
    assert (config.labels, config.infected, config.red_cells) == (labels, ["ring"], ["red blood cell"])


def test_the_terms_of_the_start_model_go_on_beside_ones_own(start_folder, tmp_path):
    folder = tmp_path / "start"
    shutil.copytree(start_folder, folder)
    content = yaml.safe_load((folder / ABOUT).read_text()) | {"terms": "For research only."}
    (folder / ABOUT).write_text(yaml.safe_dump(content))
    assert load_description(folder)[0].terms == "For research only."
    assert resolved(folder).terms == "For research only."
    both = resolved(folder, terms="Ask us.")
    assert both.terms == "Ask us. For research only."
    assert with_start(both).terms == both.terms
    assert resolved(start_folder, terms="Ask us.").terms == "Ask us."
    content["terms"] = both.terms
    (folder / ABOUT).write_text(yaml.safe_dump(content))
    assert resolved(folder, terms="Ask us.").terms == both.terms  # the same recipe again
    with pytest.raises(InputError, match=r"terms: with those of `start_from: \S*start` they have 2,027 characters"):
        resolved(folder, terms="a" * 2000)
    with pytest.raises(InputError, match=r"terms: .*at least 1 character"):
        make_config({"terms": "  "}, "my.yaml")


def test_a_resolved_config_is_read_back_as_it_is(start_folder, tmp_path):
    config = resolved(start_folder)
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    again = load_config(tmp_path / "config.yaml")
    assert again == config
    assert with_start(again) == config
    assert "start_from" not in Config().to_yaml()


@pytest.mark.parametrize("settings", [{"model": "vgg", "image_size": [40, 40]}, {"weights": "imagenet"}, {"adapt_normalization": True}])
def test_another_classifier_begins_anew_and_the_network_that_finds_cells_goes_on(start_folder, settings, six_classes, caplog):
    config = resolved(start_folder, **settings)
    assert config.start_from == str(start_folder)
    assert (config.context, config.learning_rate, config.refiner) == (Config().context, Config().learning_rate, None)
    assert config.score_threshold == 0
    key, value = next(iter(settings.items()))
    assert f"only its proposal network is fine-tuned; the classifier is trained from scratch (`{key}: {str(value).lower()}`)" in caplog.text
    assert start_classifiers(find_start(start_folder), config, six_classes, 7) == [None]
    assert with_start(config) == config


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"detector": "yolo"}, "`detector: yolo` is another kind of network"),
        (
            {"model": "vgg", "background_per_image": 0},
            "`model: vgg` asks for another classifier, and `background_per_image: 0` trains no proposal network",
        ),
        (
            {"model": "vgg", "proposals": "watershed"},
            "`model: vgg` asks for another classifier, and `proposals: watershed` trains no proposal network",
        ),
    ],
)
def test_a_start_model_of_which_nothing_goes_on_is_left_out_and_that_is_said(start_folder, settings, why, caplog):
    config = resolved(start_folder, **settings)
    assert config == make_config(settings, "my.yaml")
    assert f"start_from: {start_folder} is ignored, since {why}; all networks are trained from scratch" in caplog.text


def test_beside_a_classifier_that_is_trained_from_scratch_no_refiner_goes_on(start_folder, six_classes):
    look = {"model": "compact", "weights": "none", "epochs": 1, "learning_rate": 0.1}
    config = resolved(start_folder, model="vgg", image_size=[40, 40], refiner=look)
    assert start_classifiers(find_start(start_folder), config, six_classes, 7) == [None, None]


def test_labels_by_other_names_are_left_to_be_asked_about(start_folder):
    """Rings may be infected; the start model's `ring`, by whose weights it begins, does not decide it."""
    config = resolved(start_folder, labels=["RBC", "Rings"])
    assert (config.infected_labels, config.red_cell_labels) == (None, None)


def test_another_refiner_begins_anew_beside_a_first_that_goes_on(start_folder, six_classes):
    look = {"model": "lite", "weights": "none", "epochs": 1, "learning_rate": 0.1}
    config = resolved(start_folder, refiner=look)
    assert (config.image_size, config.refiner.model, config.refiner.image_size) == ((32, 32), "lite", None)
    first, second = start_classifiers(find_start(start_folder), config, six_classes, 7)
    assert first is not None
    assert second is None


def test_folders_that_no_training_goes_on_from_are_refused(start_folder, untrained_model, tmp_path):
    with pytest.raises(InputError, match=r"start_from: .*nowhere: no such folder"):
        resolved(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"not a model folder"):
        resolved(tmp_path)
    with pytest.raises(InputError, match=r"has no network of learned proposals \(proposer\.keras"):
        resolved(untrained_model)
    (tmp_path / ABOUT).write_text((start_folder / ABOUT).read_text())
    (tmp_path / PROPOSER).write_bytes((start_folder / PROPOSER).read_bytes())
    with pytest.raises(InputError, match=r"holds no classifier\.keras; name the folder that training wrote"):
        resolved(tmp_path)


def test_the_model_is_known_by_its_description(start_folder):
    record = find_start(start_folder).record
    assert record == {"name": "start", "fingerprint": file_fingerprint((start_folder / ABOUT).read_text())}


def answers(model, names, kept):
    found = both_classes(np.asarray(model(PIXELS)))[:, [names.index(n) for n in kept]]
    return found / found.sum(axis=1, keepdims=True)


def random_network(n_classes, seed=0, name="compact"):
    keras.utils.set_random_seed(seed)
    model = build_classifier(name, (32, 32), n_classes, 0.3)
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(np.abs(rng.normal(0.5, 0.3, variable.shape)) if "moving" in variable.path else rng.normal(0, 0.2, variable.shape))
    return model


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (("a", "b", "c", BACKGROUND), ("c", "a", "b", BACKGROUND)),
        (("a", "b", "c", BACKGROUND), ("a", "new", "c", BACKGROUND)),
        (("a", "b", BACKGROUND), ("b", BACKGROUND)),
        (("a", BACKGROUND), ("a", "new", "newer", BACKGROUND)),
        (("a", "b"), ("b", "a")),
    ],
    ids=["another order", "one new, one gone", "to a sigmoid", "from a sigmoid", "a sigmoid turned round"],
)
def test_classes_of_both_answer_as_before(before, now):
    classes = Classes(before, now)
    old, new = random_network(len(before), 1), random_network(len(now), 2)
    transfer(old, new, classes, seed=0)
    assert answers(new, now, classes.kept) == pytest.approx(answers(old, before, classes.kept), abs=1e-5)


def test_new_classes_begin_apart_from_each_other_and_under_the_likeliest():
    before, now = ("a", "b", BACKGROUND), ("a", "b", "c", "d", BACKGROUND)
    old, new, again = random_network(3, 1), random_network(5, 2), random_network(5, 3)
    transfer(old, new, Classes(before, now), seed=4)
    transfer(old, again, Classes(before, now), seed=4)
    assert all(np.array_equal(a, b) for a, b in zip(new.get_weights(), again.get_weights(), strict=True))
    kernel = new.layers[-1].get_weights()[0]
    assert not np.allclose(kernel[:, 2], kernel[:, 3])
    assert np.corrcoef(kernel[:, 2], kernel[:, :2].mean(axis=1))[0, 1] > 0.9


def test_another_architecture_is_refused():
    with pytest.raises(InputError, match=r"old\.keras: is not the network that this version builds by that name"):
        transfer(
            random_network(3), build_classifier("baseline", (48, 48), 3, 0.0), Classes(("a", "b", "c"), ("a", "b", "c")), 0, "old.keras"
        )


def test_networks_of_every_look_begin_with_the_start_models(start_folder, six_classes):
    config = resolved(start_folder, image_size=[40, 40])
    first, second = start_classifiers(find_start(start_folder), config, six_classes, 7)
    assert (first.input_shape[1:3], second.input_shape[1:3]) == ((40, 40), (48, 48))
    for model, file in ((first, "classifier.keras"), (second, "refiner.keras")):
        before = load_network(start_folder / file)
        assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before.get_weights(), strict=True))
    assert start_proposer(find_start(start_folder)).output_shape[-1] == 5
    added = resolved(start_folder, refiner=None)
    assert len(start_classifiers(find_start(start_folder), added, six_classes, 7)) == 1
    # Of other things than cells the last layer alone begins anew.
    (other, _) = start_classifiers(find_start(start_folder), config, LabelSet(("cat", "dog")), 3)
    before = load_network(start_folder / "classifier.keras").get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(other.get_weights(), before, strict=False) if a.shape[-1] != 3)
    said = describe_classes(classes_of(find_start(start_folder), LabelSet(("cat", "dog")), 2), start_folder)
    assert said.endswith(
        "no label in common, so the last layer is new; new: cat, dog; removed: " + ", ".join((*six_classes.names, BACKGROUND))
    )


def test_a_class_of_another_name_for_the_same_goes_on_and_that_is_said(tmp_path):
    before, now = ("red blood cell", "leukocyte", "ring", BACKGROUND), ("WBC", "RBC", "Platelets", BACKGROUND)
    classes = Classes(before, now)
    assert classes.origins == {"WBC": "leukocyte", "RBC": "red blood cell", BACKGROUND: BACKGROUND}
    assert (classes.new, classes.gone) == (["Platelets"], ["ring"])
    old, new = random_network(4, 1), random_network(4, 2)
    transfer(old, new, classes, seed=0)
    assert answers(new, now, ["RBC", "WBC"]) == pytest.approx(answers(old, before, ["red blood cell", "leukocyte"]), abs=1e-5)
    assert "classes kept: WBC (as leukocyte), RBC (as red blood cell), background; new: Platelets; removed: ring" in describe_classes(
        classes, tmp_path
    )
    assert Classes(("RBC", "red blood cell"), ("red blood cell", "rbc")).origins == {"red blood cell": "red blood cell", "rbc": "RBC"}


def test_weights_are_averaged():
    old, new = [np.zeros(2), np.ones((1, 2))], [np.ones(2), np.full((1, 2), 3.0)]
    assert [w.tolist() for w in averaged_weights(old, new, 0.25)] == [[0.25, 0.25], [[1.5, 1.5]]]


def test_leaving_out_one_data_set_after_another_begins_with_the_start_model_too(start_folder, tmp_path, monkeypatch):
    """Its architecture and the terms of its weights go on, as in a training of all sets."""
    for name in ("a", "b"):
        slides(tmp_path / name, NAMES)
    sets = f"data_sets=[{{path: {tmp_path / 'a'}}}, {{path: {tmp_path / 'b'}}}]"
    (tmp_path / "c.yaml").write_text(f"{{start_from: {start_folder}, test_size: 0, labels: [ring]}}")
    asked = []

    def stop(name, config, data, **_):
        asked.append(config)
        raise InputError("enough")

    monkeypatch.setattr(crossvalidate_sets, "train_data_set", stop)
    with pytest.raises(InputError, match="enough"):
        crossvalidate_sets.crossvalidate_sets(tmp_path / "c.yaml", [sets], tmp_path / "out")
    assert (asked[0].image_size, asked[0].context, asked[0].refiner.model) == ((32, 32), 1.5, "compact")

import logging

import pytest
import yaml

from malaria_cells.base.errors import InputError
from malaria_cells.config import Config, load_config, make_config
from malaria_cells.config.reference import reference


def write(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_precedence_is_default_file_override(tmp_path):
    path = write(tmp_path, "epochs: 3\nbatch_size: 8\n")
    config = load_config(path, ["epochs=5", "labels=[a, b]", "steps_per_epoch=null"])
    assert (config.epochs, config.batch_size, config.context, config.labels) == (5, 8, 1.25, ["a", "b"])


def test_resolved_config_reads_back_equal(tmp_path):
    config = make_config({"labels": ["ring", "x"], "image_size": [141, 141], "group": r"(s\d+)_"}, "test")
    assert load_config(write(tmp_path, config.to_yaml())) == config


def test_unknown_key_names_the_nearest(tmp_path):
    with pytest.raises(InputError, match=r"c\.yaml: unknown key 'epoch' \(did you mean 'epochs'\?\)"):
        load_config(write(tmp_path, "epoch: 3"))
    with pytest.raises(InputError, match=r"unknown key 'refiner\.epoch' \(did you mean 'refiner\.epochs'\?\)"):
        load_config(write(tmp_path, "refiner: {epoch: 3, epochs: 3, learning_rate: 0.1}"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: many", r"epochs: .*integer.*found 'many'"),
        ("epochs: 0", r"epochs: .*greater than or equal to 1.*found 0"),
        ("labels: []", r"labels: expected at least one label"),
        ("image_size: [64]", r"image_size"),
        ("image_size: [8, 8]", r"image_size: \[8, 8\] is too small; expected at least 16 pixels"),
        ("balance: weights", r"balance: .*'class_weight'.*found 'weights'"),
        ("- a\n- b", r"found a list, expected keys"),
        ("a: [", r"not valid YAML"),
        ("test_size: 1.0", r"test_size: .*less than 1"),
        ("early_stopping: true", r"early_stopping"),
        ("image_size: 64", r"image_size: expected \[height, width\] in pixels; found 64"),
        ("detector_size: [64]", r"detector_size: expected \[height, width\] in pixels; found \[64\]"),
    ],
)
def test_wrong_values_say_key_and_finding(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_config(write(tmp_path, text))


def test_missing_file_and_malformed_override(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(InputError, match="expected a config file"):
            load_config(path)
    with pytest.raises(InputError, match="expected key=value"):
        load_config(write(tmp_path, ""), ["epochs"])


def test_what_was_set_on_the_command_line_is_not_blamed_on_the_file(tmp_path):
    path = write(tmp_path, "epochs: many")
    with pytest.raises(InputError) as raised:
        load_config(path, ["batch_size=few", "epochz=3"])
    assert sorted(line.split(": ")[:2] for line in str(raised.value).splitlines()) == [
        ["--set", "batch_size"],
        ["--set", "unknown key 'epochz' (did you mean 'epochs'?); the keys are listed in docs/config.md"],
        [str(path), "epochs"],
    ]


def test_exponents_without_a_dot_are_numbers(tmp_path):
    assert load_config(write(tmp_path, "learning_rate: 1e-3")).learning_rate == 0.001


def test_infected_and_red_cell_defaults_follow_the_labels():
    assert Config().infected == ["gametocyte", "ring", "trophozoite", "schizont"]
    assert make_config({"labels": ["RBC", "WBC"]}, "t").infected == []
    assert make_config({"labels": ["red blood cell", "ring"], "infected_labels": []}, "t").infected == []


def test_shipped_configs_are_valid(repository):
    files = [repository / "config.yaml", *(repository / "configs").glob("*.yaml")]
    assert len(files) > 1
    for path in files:
        load_config(path)


def test_every_key_is_documented(repository):
    text = (repository / "docs" / "config.md").read_text(encoding="utf-8")
    assert text == reference(), "run: malaria-cells keys > docs/config.md"
    assert "| `epochs` | whole number | `12` | Maximum number of epochs. |" in text


def test_shipped_config_comments_name_only_known_keys(repository):
    assert set(yaml.safe_load((repository / "config.yaml").read_text(encoding="utf-8"))) <= set(Config.model_fields)


def test_the_two_general_configs_differ_by_what_they_begin_with(repository):
    usual, scratch = (load_config(repository / name) for name in ("config.yaml", "configs/from_scratch.yaml"))
    differing = {key for key in Config.model_fields if getattr(usual, key) != getattr(scratch, key)}
    assert differing == {"start_from", "epochs", "proposer_epochs"}
    assert scratch.start_from is None


def test_a_start_model_may_be_named_relative_to_the_config(tmp_path, monkeypatch):
    (tmp_path / "models" / "a").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    path = write(tmp_path, "start_from: models/a")
    monkeypatch.chdir(tmp_path)
    assert load_config(path).start_from == "models/a"
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_config(path).start_from == str(tmp_path / "models" / "a")
    assert load_config(path, ["start_from=b"]).start_from == "b"


def test_exponents_are_numbers_in_every_key_for_numbers(tmp_path):
    text = (
        "learning_rate: 1e-3\nfocal_alpha: 1e-2\nscore_threshold: 1E-4\nfocal_gamma: 1e+0\nepochs: 1e1\nname: 1e3\nlabels: [1e5]\n"
        "refiner: {epochs: 2, learning_rate: 1e-4}\nanchors: {sizes: [1e1, 2e1, 4e1, 8e1, 160]}\nimage_size: [1e2, 80]"
    )
    config = load_config(write(tmp_path, text), ["refit=1e-1", "refiner.learning_rate=5e-5"])
    numbers = (config.learning_rate, config.focal_alpha, config.score_threshold, config.focal_gamma, config.epochs, config.refit)
    assert numbers == (0.001, 0.01, 0.0001, 1, 10, 0.1)
    assert isinstance(config.epochs, int)
    assert (config.name, config.labels) == ("1e3", ["1e5"])  # texts stay texts
    assert config.refiner.learning_rate == 5e-5
    assert (config.anchors.sizes[:2], config.image_size) == ([10, 20], (100, 80))


def test_the_former_name_of_a_key_goes_on_working(tmp_path, caplog):
    path = write(tmp_path, "second_look: {model: lite, epochs: 4, learning_rate: 0.001}")
    with caplog.at_level(logging.INFO):
        assert load_config(path, ["second_look.epochs=5"]).refiner.epochs == 5
    assert "second_look is now called refiner" in caplog.text
    path = write(tmp_path, "second_look: null\nrefiner: null")
    with pytest.raises(InputError, match="second_look is the previous name of refiner, and both are given"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate: .inf", "learning_rate: .*finite"),
        ("learning_rate: .nan", "learning_rate: .*finite"),
        ("learning_rate: 1e400", "learning_rate: .*valid number; found '1e400'"),
        ("learning_rate: '0,1'", "learning_rate: .*with a point, not a comma"),
        ("epochs: 1e-1", "epochs: .*valid integer"),
        ("epochs: " + "9" * 400, "epochs: .*less than or equal to 1000000000; found 9999.*400 characters"),
        ("epochs: " + "9" * 5000, r"c\.yaml: line 1: 9.*cannot be read as a whole number"),
        ("epochs: 0x" + "f" * 6000, r"c\.yaml: line 1: 0xf.*cannot be read as a whole number"),
        ("anchors: {sizes: [" + "9" * 400 + ", 1, 1, 1, 1]}", r"anchors\.sizes\.0: .*valid number"),
        ("anchors: {sizes: [0, 1, 1, 1, 1]}", r"anchors\.sizes\.0: .*greater than 0"),
        ("random_state: 4294967296", "random_state: .*less than or equal"),
        ("labels: [yes, no]", "labels.0: .*true and false: write it in quotes"),
        ("labels: [0, 1]", "labels.0: .*found 0; write it in quotes"),
        ("name: 2024-03-01", "name: .*found 2024-03-01; write it in quotes"),
        ("name: 2024-02-30", r"c\.yaml: line 1: 2024-02-30 cannot be read as a date"),
        ("labels: ring, trophozoite", r"labels: .*write it in brackets, as in \[ring, trophozoite\]"),
        ("train_images: []", "train_images: List should have at least 1 item"),
        ("train_images: ''", "train_images: .*at least 1 character"),
        ("train_images: ~nobody-of-this-name/x", "train_images: no home folder of that name"),
        ("label_map: [RBC]", "label_map: .*dictionary"),
        ("1: 2", r"c\.yaml: unknown key 1"),
        ("epochs: 3\nepochs: 4", r"c\.yaml: line 2: the key 'epochs' appears twice"),
        ("labels: [" + ",".join("1" * 5000) + "]", r"and 4990 more"),
    ],
)
def test_values_that_cannot_be_meant(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as refused:
        load_config(write(tmp_path, text))
    assert len(str(refused.value)) < 3000


def test_of_a_choice_of_types_one_problem_is_said(tmp_path):
    for text in ("tta: 9", "tta: {runs: 0, scan: 1}", "train_images: 3", "train_images: [1]", "tta: x"):
        with pytest.raises(InputError) as refused:
            load_config(write(tmp_path, text))
        assert len(str(refused.value).splitlines()) == 1


def test_home_folder_is_known_in_every_key_of_a_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    keys = ("output_models", "train_images", "annotations", "corrections", "test_annotations", "split_file", "patch_cache", "weights")
    config = make_config(dict.fromkeys(keys, "~/x") | {"refiner": {"epochs": 1, "learning_rate": 0.1, "weights": "~/x"}}, "test")
    assert {getattr(config, key) for key in keys} | {config.refiner.weights} == {str(tmp_path / "x")}
    assert make_config({"train_images": ["~/x", "y"]}, "test").train_images == [str(tmp_path / "x"), "y"]


def test_without_a_label_map_the_recipe_is_written_as_before_there_were_maps():
    assert "label_map" not in Config().to_yaml()
    assert "RBC: red blood cell" in make_config({"label_map": {"RBC": "red blood cell"}}, "test").to_yaml()


def test_a_config_of_another_encoding_says_what_to_save_it_as(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes("# Größe\nepochs: 3".encode("cp1252"))
    with pytest.raises(InputError, match=r"not in UTF-8: the byte 0xf6 in line 1; perhaps cp1252"):
        load_config(path)

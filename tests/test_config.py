import pytest
import yaml

from malaria_cells.config import Config, load_config, make_config
from malaria_cells.config.reference import reference
from malaria_cells.errors import InputError


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
    with pytest.raises(InputError, match=r"unknown key 'second_look\.epoch' \(did you mean 'second_look\.epochs'\?\)"):
        load_config(write(tmp_path, "second_look: {epoch: 3, epochs: 3, learning_rate: 0.1}"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: many", r"epochs: .*integer.*found 'many'"),
        ("epochs: 0", r"epochs: .*greater than or equal to 1.*found 0"),
        ("labels: []", r"labels: expected at least one label"),
        ("image_size: [64]", r"image_size"),
        ("image_size: [8, 8]", r"image_size: \[8, 8\] is under 16 pixels"),
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
    assert "| `epochs` | whole number | `12` | Passes at most. |" in text


def test_shipped_config_comments_name_only_known_keys(repository):
    assert set(yaml.safe_load((repository / "config.yaml").read_text(encoding="utf-8"))) <= set(Config.model_fields)

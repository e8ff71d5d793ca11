"""A search of better values of a config: the space is checked by name, trials are rows, a kill loses no finished fold."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import yaml

from malaria_cells.app.cli import main
from malaria_cells.app.commands.crossvalidate import TABLE as FOLDS_TABLE
from malaria_cells.app.commands.tune import TuneRequest, _check_same_data
from malaria_cells.base.errors import InputError
from malaria_cells.base.ray_cluster import check_installed
from malaria_cells.config import load_config, make_config
from malaria_cells.data.sample import write_sample
from malaria_cells.tuning.outcome import difference, sentences, write_best, write_report
from malaria_cells.tuning.space import Point, load_space, points_of
from malaria_cells.tuning.trials import FAILED, FIGURES, FINISHED, PLAN, STOPPED, TABLE, TRIALS, Journal

SHORT = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 16, "image_size": [24, 24], "proposals": "watershed", "tta": 1}
SPACE = "learning_rate: {log_uniform: [1e-4, 1e-2]}\naugmentation: {choice: [none, stain]}\nepochs: {int: [10, 40]}\n"


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"labels": ["ring", "red blood cell"], "train_images": "data", "start_from": None}))
    return path


def space_of(tmp_path, content):
    path = tmp_path / "space.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_points_lie_in_the_space_and_more_change_none(tmp_path, config):
    path = space_of(
        tmp_path, "learning_rate: {log_uniform: [1e-4, 1e-2]}\naugmentation: {choice: [none, stain]}\nepochs: {int: [10, 40]}\n"
    )
    space = load_space(path, config, [])
    points = points_of(path, space, config, ["batch_size=16"], 40)
    assert points[0].values == {}
    assert points[0].config == load_config(config, ["batch_size=16"])
    assert len(points) == 41
    assert len({p.config.to_yaml() for p in points}) == 41
    rates = [p.values["learning_rate"] for p in points[1:]]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert 12 <= sum(rate < 1e-3 for rate in rates) <= 28  # as many in each decade
    assert {p.values["augmentation"] for p in points[1:]} == {"none", "stain"}
    assert all(isinstance(p.values["epochs"], int) and 10 <= p.values["epochs"] <= 40 for p in points[1:])
    assert all((p.config.learning_rate, p.config.batch_size) == (p.values["learning_rate"], 16) for p in points[1:])
    assert [p.values for p in points_of(path, space, config, ["batch_size=16"], 5)] == [p.values for p in points[:6]]


def test_a_small_space_is_exhausted(tmp_path, config):
    path = space_of(tmp_path, {"optimizer": {"choice": ["adam", "adamw", "sgd"]}, "epochs": {"int": [11, 12]}})
    points = points_of(path, load_space(path, config, []), config, [], 100)
    assert len(points) == 6  # adamw with 12 epochs is the config as it is


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("learning_rat: {uniform: [1, 2]}", "space.yaml: unknown key 'learning_rat' (did you mean 'learning_rate'?)"),
        ("1: {uniform: [1, 2]}", "space.yaml: unknown key 1;"),
        ("test_size: {uniform: [0.1, 0.2]}", "test_size: cannot be searched, since it decides what is scored"),
        ("random_state: {int: [1, 9]}", "random_state: cannot be searched"),
        ("epochs: 5", "epochs: found 5, expected one of uniform, log_uniform, int, choice"),
        ("epochs: {itn: [1, 5]}", "epochs: unknown 'itn' (did you mean 'int'?)"),
        ("epochs: {int: [5, 1]}", "epochs: int: found [5, 1], expected [low, high], whole numbers with low < high"),
        ("epochs: {int: [0, 5]}", "space.yaml: epochs: Input should be greater than"),
        ("epochs: {uniform: [1, 5]}", "space.yaml: epochs: Input should be a valid integer"),
        ("dropout: {uniform: [0, 2]}", "space.yaml: dropout: Input should be less than 1; found 2"),
        ("learning_rate: {log_uniform: [0, 1]}", "expected [low, high] with 0 < low < high"),
        ("learning_rate: {uniform: [a, 1]}", "learning_rate: uniform: found ['a', 1], expected [low, high] with low < high"),
        ("learning_rate: {uniform: [0.1, .inf]}", "expected [low, high] with low < high"),
        ("optimizer: {choice: [adam, foo]}", "space.yaml: optimizer: Input should be 'adam', 'adamw', 'sgd' or 'rmsprop'; found 'foo'"),
        ("optimizer: {choice: []}", "expected a list of two values or more"),
        ("[epochs]", "space.yaml: found ['epochs'], expected keys of the config"),
    ],
)
def test_what_cannot_be_searched_is_refused_by_name(tmp_path, config, content, message):
    with pytest.raises(InputError) as error:
        load_space(space_of(tmp_path, content), config, [])
    assert message in str(error.value)


def test_an_unknown_name_is_refused_before_anything_is_trained(tmp_path, config, capsys):
    path = space_of(tmp_path, {"augmentation": {"choice": ["stain", "nonsense"]}})
    command = ["tune", f"--config={config}", f"--space={path}", f"--output={tmp_path / 'out'}"]
    assert main(command) == 2
    assert "space.yaml: augmentation=nonsense: " in capsys.readouterr().err
    assert main([*command, "--metric", "infected F2"]) == 2
    assert "--metric: unknown 'infected F2' (did you mean 'infected F1'?)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ray_is_optional():
    with pytest.raises(
        InputError, match=r"^--cluster: needs sun \(No module named 'sun'\); install it with: pip install 'malaria-cells\[ray\]'$"
    ):
        check_installed("--cluster", "sun")


def test_cluster_options_belong_to_folds(config, capsys):
    assert main(["crossvalidate", f"--config={config}", "--parallel", "2"]) == 2
    assert "--parallel: applies to --cluster only" in capsys.readouterr().err
    assert main(["crossvalidate", f"--config={config}", "--by", "data_set", "--cluster", "local"]) == 2
    assert "--cluster: applies to --by fold only" in capsys.readouterr().err


def metrics(value):
    return {"mAP50": value, "cell": {"AP50": 0.9}}


@pytest.fixture
def journal(tmp_path):
    journal = Journal.begin(
        tmp_path / "out", {"metric": "mAP50", "folds": 2}, [{}, {"epochs": 3}, {"epochs": 4}, {"epochs": 5}], resume=False
    )
    for trial, values, state in zip(
        journal.trials, ([0.5, 0.6], [0.6, 0.8], [0.9], []), (FINISHED, FINISHED, STOPPED, FAILED), strict=True
    ):
        trial.by_fold, trial.state, trial.reason = [metrics(v) for v in values], state, "no memory" * (state == FAILED)
        journal.save(trial)
    return journal


def test_the_best_has_all_folds_and_its_error_bars(journal, config):
    best = journal.best()
    assert best.number == 1  # not the one that was stopped after a good fold
    assert best.figure("mAP50") == pytest.approx((0.7, 0.1))
    assert difference(journal, best) == pytest.approx((0.15, 0.05))
    rows = list(csv.DictReader((journal.output / TABLE).read_text().splitlines()))
    assert [(row["trial"], row["state"], row["mAP50"], row["epochs"]) for row in rows] == [
        ("1", "finished", "0.700", "3"),
        ("0", "finished", "0.550", ""),
        ("2", "stopped", "0.900", "4"),
        ("3", "failed", "", "5"),
    ]
    assert rows[3]["reason"] == "no memory"
    wanted = load_config(config, ["epochs=3"])
    path = write_best(journal, best, wanted, "malaria-cells tune")
    assert "mAP50 0.700 ± 0.100 (mean and standard error over 2 folds)" in path.read_text()
    assert "+0.150 ± 0.050 against the config as it is" in path.read_text()
    assert load_config(path) == wanted
    assert load_config(path).model_fields_set == wanted.model_fields_set  # `start_from` fills in what is not set
    assert sentences(journal, journal.trials[0])[0].startswith("no trial was better than the config as it is: mAP50 0.550 ± 0.050")


def test_lower_is_better_for_errors(journal):
    for trial, error in zip(journal.trials[:2], (0.02, 0.01), strict=True):
        trial.by_fold = [{"mAP50": 0.1, "parasitemia": {"mean_absolute_error": error}}] * 2
    journal.metric = "parasitemia error"
    assert journal.best().number == 1
    assert [trial.number for trial in journal.ranked()][:2] == [1, 0]


def test_report_shows_every_trial(journal, tmp_path, config):
    space = load_space(space_of(tmp_path, {"epochs": {"int": [3, 5]}}), config, [])
    page = write_report(journal, space, journal.best(), "malaria-cells tune").read_text(encoding="utf-8")
    for text in ("0.700 ± 0.100", "+0.150 ± 0.050", "no memory", "stopped", "mAP50 by epochs"):
        assert text in page


def test_a_search_goes_on_only_as_it_was(journal):
    plan, values = {"metric": "mAP50", "folds": 2}, [trial.values for trial in journal.trials]
    with pytest.raises(InputError, match="holds an earlier search; add --resume"):
        Journal.begin(journal.output, plan, values, resume=False)
    with pytest.raises(InputError, match="holds a search with another folds; give the same"):
        Journal.begin(journal.output, plan | {"folds": 3}, values, resume=True)
    with pytest.raises(InputError, match=f"--resume: .*holds no search \\(no {PLAN}\\)"):
        Journal.begin(journal.output.parent, plan, values, resume=True)
    again = Journal.begin(journal.output, plan, [*values, {"epochs": 6}], resume=True)
    assert [trial.state for trial in again.trials] == ["finished", "finished", "stopped", "waiting", "waiting"]  # the failed one once more
    assert again.trials[1].by_fold == journal.trials[1].by_fold
    for name, content, message in (
        (f"{TRIALS}/0001/{FIGURES}", '{"number": 1}', "holds number, expected number, values, state"),
        (f"{TRIALS}/0001/{FIGURES}", "[1]", "is damaged"),
        (PLAN, '{"metric"', "is damaged"),
    ):
        (journal.output / name).write_text(content)
        with pytest.raises(InputError, match=f"{name}: {message}.*name another --output"):
            Journal.begin(journal.output, plan, values, resume=True)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A config of a short training on a few rendered smears."""
    folder = tmp_path_factory.mktemp("tuning")
    write_sample(folder / "sample", training=12, test=4, seed=7, size_wh=(320, 240))
    settings = {"train_images": str(folder / "sample"), "patch_cache": str(folder / "cache"), "output_models": str(folder / "models")}
    settings |= {"labels": ["red blood cell", "leukocyte", "ring"], "ignore_labels": ["gametocyte", "trophozoite", "schizont", "difficult"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings | SHORT))
    return folder


def test_a_bad_trial_stops_after_a_fold_and_the_first_never(journal):
    from malaria_cells.tuning.search import _scheduler

    journal.folds = 4
    asha = _scheduler(journal)  # it is told the earlier trials' 0.5, 0.6 and 0.9 after their first folds

    def decision(number, *values):
        trial = SimpleNamespace(trial_id=str(number), config={"trial": number})
        asha.on_trial_add(None, trial)
        result = {"figure": sum(values) / len(values), "training_iteration": len(values), "by_fold": [*values]}
        return asha.on_trial_result(None, trial, result)

    assert decision(4, 0.4) == "STOP"
    assert decision(5, 0.95) == "CONTINUE"
    assert decision(0, 0.1) == "CONTINUE"
    assert decision(0, 0.1, 0.1, 0.1, 0.1) == "STOP"  # all folds are done


def test_other_labels_of_a_start_model_are_refused(tmp_path):
    made = [make_config({"labels": labels}, "test") for labels in (["ring"], ["ring", "schizont"])]
    points = [Point({}, made[0]), Point({"start_from": "models/other"}, made[1])]
    request = TuneRequest(tmp_path / "c.yaml", [], tmp_path / "space.yaml", 1, 2, None, tmp_path / "out")
    _check_same_data(request, points, [made[0], made[0]])
    with pytest.raises(InputError, match=r"space.yaml: start_from=models/other: has other labels than the config as it is"):
        _check_same_data(request, points, made)


def by_fold(path):
    return json.loads(path.read_text(encoding="utf-8"))["by_fold"]


@pytest.mark.slow
def test_folds_on_a_cluster_have_the_same_figures(tiny, tmp_path, ray_here, capsys):
    command = ["crossvalidate", f"--config={tiny / 'config.yaml'}", "--folds=2"]
    assert main([*command, f"--output={tmp_path / 'here'}"]) == 0
    assert main([*command, f"--output={tmp_path / 'ray'}", "--cluster=local"]) == 0
    said = capsys.readouterr().out
    assert "fold 1 (" in said
    assert "(2 of 2 done): mAP50" in said
    assert (tmp_path / "here" / FOLDS_TABLE).read_text() == (tmp_path / "ray" / FOLDS_TABLE).read_text()
    assert "epoch 1/1" in (tmp_path / "ray" / "fold1.log").read_text(encoding="utf-8")
    # A folder of another recipe is refused before anything is trained; a fold that fails is named when the others are done.
    assert main([*command, f"--output={tmp_path / 'ray'}", "--cluster=local", "--set", "epochs=2"]) == 2
    assert "fold1: holds a model of another config" in capsys.readouterr().err


@pytest.mark.slow
def test_a_trial_that_fails_is_a_row_with_its_reason(tmp_path, ray_here, capsys):
    from ray import tune

    from malaria_cells.tuning.search import _callback, _quiet, _scheduler

    def failing(point):  # within the test, so that it is sent to the other process
        if point["trial"] == 0:
            raise InputError("weights: missing.h5: no such file\nsecond line")
        if point["trial"] == 1:
            raise KeyError("x")
        os._exit(3)

    journal = Journal.begin(tmp_path / "out", {"metric": "mAP50", "folds": 2}, [{}, {"epochs": 1}, {"epochs": 2}], resume=False)
    run = tune.RunConfig(storage_path=str(tmp_path / "ray"), callbacks=[_callback(journal)], verbose=0)
    with _quiet():
        trials = tune.TuneConfig(scheduler=_scheduler(journal))
        tune.Tuner(failing, param_space={"trial": tune.grid_search([0, 1, 2])}, tune_config=trials, run_config=run).fit()
    rows = list(csv.DictReader((journal.output / TABLE).read_text(encoding="utf-8").splitlines()))
    assert [row["reason"].split(";")[0] for row in rows] == ["weights: missing.h5: no such file", "KeyError: 'x'", "its process died"]
    assert "the config as it is (unchanged): failed: weights: missing.h5: no such file; none finished yet" in capsys.readouterr().out


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on(repository, tiny, tmp_path, ray_here, capsys):
    # That this network takes no weights is noticed when it is made.
    space = space_of(tmp_path, {"learning_rate": {"log_uniform": [1e-3, 1e-2]}, "weights": {"choice": ["none", "missing.weights.h5"]}})
    out = tmp_path / "out"
    command = ["tune", f"--config={tiny / 'config.yaml'}", f"--space={space}", "--samples=2", "--folds=2", f"--output={out}"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    killed = subprocess.Popen([sys.executable, "-m", "malaria_cells", *command], env=environment, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 400
    first = out / "trials" / "0000" / "figures.json"
    while not first.is_file() and time.monotonic() < until and killed.poll() is None:
        time.sleep(0.2)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = by_fold(first)
    assert not (out / "best.yaml").exists()
    assert main(command) == 2
    assert "holds an earlier search; add --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    said = capsys.readouterr().out
    assert by_fold(first)[: len(before)] == before
    log = (out / "trials" / "0000" / "log.txt").read_text(encoding="utf-8")
    assert log.count("0000/fold1\n") == 1  # it was trained once, before the kill
    rows = {row["trial"]: row for row in csv.DictReader((out / TABLE).read_text(encoding="utf-8").splitlines())}
    assert [rows[n]["state"] for n in "012"].count("failed") == 1
    assert rows["0"]["state"] == "finished"
    (reason,) = (row["reason"] for row in rows.values() if row["state"] == "failed")
    assert "'compact' has no pretrained backbone" in reason
    assert "1 trial failed, first: trial" in said
    best = load_config(out / "best.yaml")
    assert best.weights == "none"
    assert not list(out.glob("trials/*/fold*"))
    assert (out / "report.html").is_file()

"""A training that is killed at any of its file operations, and gone on with, ends as one that was let alone."""

import builtins
import io
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from malaria_cells.app.commands import train as command
from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.locks import LOCKS
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.dataset import DataSet
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.patch_store import PatchStore
from malaria_cells.fitting import run_folders, run_state
from malaria_cells.inference.model_description import ABOUT
from malaria_cells.training import classifier_data, fit_classifier, train_model
from malaria_cells.training.classifier_data import TrainingData
from malaria_cells.training.training_result import TrainingResult

# By pass: a plateau is met twice, and early stopping with a patience of 2 ends with the fifth of six epochs.
VAL_LOSS = (1.0, 1.1, 0.8, 0.9, 0.7, 0.6)
VAL_MACRO_F1 = (0.5, 0.4, 0.7, 0.6, 0.6, 0.8)


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


class Process:
    """Counts what is done to files, and dies before one of it; a dead process does nothing any more, in no `finally` either."""

    def __init__(self, monkeypatch):
        self.left = None
        for name in ("replace", "rename", "mkdir", "rmdir", "unlink", "remove"):
            monkeypatch.setattr(os, name, self.watched(getattr(os, name)))
        opened = self.watched(io.open, lambda _, mode="r", *__, **___: set(mode) & set("wax+"))
        for module in (io, builtins):
            monkeypatch.setattr(module, "open", opened)

    def watched(self, operation, counts=lambda *_, **__: True):
        def do(path, *arguments, **named):
            if LOCKS not in str(path) and counts(path, *arguments, **named):
                self.work()
            return operation(path, *arguments, **named)

        return do

    def work(self):
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            raise Killed

    def dies_at(self, number, work):
        """Whether it does; None: it is not let die."""
        self.left = number
        try:
            work()
        except Killed:
            return True
        finally:
            self.left = None
        return False


class Optimizer:
    """Has a learning rate as Keras's have: one that callbacks set, or one by the number of steps, which cannot be set."""

    built = True

    def __init__(self, config):
        self.by_steps, self.rate, self.iterations = config.schedule == "cosine", config.learning_rate, 0

    @property
    def learning_rate(self):
        return self.rate / (1 + self.iterations) if self.by_steps else self.rate

    @learning_rate.setter
    def learning_rate(self, value):
        assert not self.by_steps
        self.rate = float(value)

    def build(self, variables):
        """Nothing to build."""


class Tiny:
    """Stands for a network: one number, which an epoch moves by the learning rate."""

    def __init__(self, config, process):
        self.value, self.process, self.stop_training = 0.0, process, False
        self.layers, self.metrics, self.trainable_variables, self.non_trainable_variables = [], [], [], []
        self.optimizer = Optimizer(config)

    def save_weights(self, path):
        state = json.dumps([self.value, self.optimizer.rate, self.optimizer.iterations])
        with Path(path).open("w", encoding="utf-8") as file:
            file.write(state[:3])
            file.flush()
            self.process.work()  # so much of it is written
            file.write(state[3:])

    def load_weights(self, path):
        self.value, self.optimizer.rate, self.optimizer.iterations = json.loads(Path(path).read_text(encoding="utf-8"))


def fit(model, _, *, epochs, initial_epoch, steps_per_epoch, callbacks, **__):
    model.stop_training = False
    for callback in callbacks:
        callback.set_model(model)
        callback.on_train_begin()
    for epoch in range(initial_epoch, epochs):
        model.value += model.optimizer.learning_rate
        model.optimizer.iterations += steps_per_epoch
        logs = {"loss": model.value, "val_loss": VAL_LOSS[epoch], "val_macro_f1": VAL_MACRO_F1[epoch]}
        for callback in callbacks:
            callback.on_epoch_end(epoch, logs)
        if model.stop_training:
            break


def train_into(folder, config, data, run):
    """With `refit` two trainings, of which the second begins when the first is done."""
    ids = np.tile(np.arange(3), 4)
    store = PatchStore(np.zeros((12, 16, 16, 3), np.uint8), ids, ids * 0, np.zeros((12, 4), np.float32), ids > 5, ("a",), 3, "test")
    rows = np.arange(12)
    found = [
        fit_classifier.train_classifier(TrainingData(store, rows, rows, 3), config, run.part(i)) for i in range(2 if config.refit else 1)
    ]
    content = [[t.model.value, t.best_epoch, t.history] for t in found]
    (folder / ABOUT).write_text(json.dumps(content), encoding="utf-8")
    checkpoints = sorted(p.name for p in run.checkpoints.iterdir()) if run.checkpoints.exists() else []
    (folder / "checkpoints").write_text(json.dumps(checkpoints), encoding="utf-8")
    return TrainingResult(config, data, [], {"validation": {"accuracy": 1.0, "macro_f1": 1.0, "patches": 12}})


def grey_png(path, level):
    Image.new("RGB", (20, 20), (level, level, level)).save(path)


@pytest.fixture
def process(monkeypatch, tmp_path):
    """A process that can be killed, its networks and data tiny."""
    boxes, parts = np.array([[1, 1, 9, 9]], np.float32), []
    for name in ("a.png", "b.png"):
        grey_png(tmp_path / name, ord(name[0]))
        annotated = (AnnotatedImage(name, tmp_path / name, (20, 20), name, boxes, np.array([0]), np.array([False])),)
        parts.append(AnnotationSet(LabelSet(("a", "b", "c")), annotated))
    monkeypatch.setattr(train_model, "load_data_set", lambda _: DataSet(*parts, None))
    monkeypatch.setattr(train_model, "start_tensorflow", lambda: None)
    monkeypatch.setattr(train_model, "train_two_stage_into", train_into)
    monkeypatch.setattr(command, "write_training_files", lambda *_: None)
    for name in ("training_batches", "plain_batches", "make_batch_policy", "make_augmenter"):
        monkeypatch.setattr(classifier_data, name, lambda *_: None)
    monkeypatch.setattr(fit_classifier, "fit", fit)
    watched = Process(monkeypatch)
    monkeypatch.setattr(fit_classifier, "_compiled_model", lambda config, n, steps, ratio: Tiny(config, watched))
    return watched


def write_config(folder, **changes):
    folder.mkdir()
    settings = {"labels": ["a", "b", "c"], "epochs": 6, "steps_per_epoch": 5, "early_stopping": None, "augmentation": "none"}
    settings |= {"plateau_patience": 1, "name": "m", "output_models": str(folder / "models"), "learning_rate": 0.01}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings | changes), encoding="utf-8")
    return folder / "config.yaml"


def result(folder):
    found = {p.name: p.read_text(encoding="utf-8") for p in (folder / "models" / "m").iterdir()}
    if "metrics.json" in found:
        assert json.loads(found["metrics.json"]).keys() >= {"training_time"}
        found["metrics.json"] = json.dumps(json.loads(found["metrics.json"]) | {"training_time": None})
    return found


def resume(config, models):
    """Go on; or begin, where the kill came before there was anything to go on with."""
    assert command.train(config, [], True) == 0
    if (models / "m" / ABOUT).read_text(encoding="utf-8") == "older":
        assert not run_folders.is_there(run_folders.folder_of(models, "m"))
        assert command.train(config, [], False) == 0


RECIPES = [
    pytest.param({"schedule": "plateau", "early_stopping": 2, "keep_checkpoints": 2}, id="plateau"),
    pytest.param({"schedule": "plateau", "early_stopping": 2, "kept_weights": "last"}, id="plateau, last"),
    pytest.param({"schedule": "cosine", "refit": 0.5, "epochs": 4}, id="cosine, two trainings"),
    pytest.param({"schedule": "constant", "early_stopping": 2}, id="constant"),
]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_killed_at_every_file_operation(tmp_path, process, recipe):
    whole = tmp_path / "whole"
    assert command.train(write_config(whole, **recipe), [], False) == 0
    history = json.loads(result(whole)[ABOUT])[0][2]
    assert len(history) == (5 if "early_stopping" in recipe else 4)
    rates = [row["learning_rate"] for row in history]
    assert (len(set(rates)) > 2) == (recipe["schedule"] != "constant")
    for number in itertools.count():
        folder = tmp_path / str(number)
        config, models = write_config(folder, **recipe), folder / "models"
        older = models / "m" / ABOUT
        older.parent.mkdir(parents=True)
        older.write_text("older", encoding="utf-8")
        if not process.dies_at(number, lambda config=config: command.train(config, [], False)):
            assert result(folder) == result(whole)
            break
        model = files.former(models / "m") or models / "m"
        assert (model / ABOUT).read_text(encoding="utf-8") in {"older", result(whole)[ABOUT]}
        if number % 4 == 0:  # and soon again
            process.dies_at(number % 7, lambda config=config: command.train(config, [], True))
        resume(config, models)
        assert result(folder) == result(whole)
        assert sorted(p.name for p in models.iterdir()) == ["m"]
    assert number > 50


def begin(process, config):
    """A training that dies in the middle of its second epoch."""
    assert process.dies_at(22, lambda: command.train(config, [], False))


def test_resume_of_other_images_is_refused(tmp_path, process):
    config = write_config(tmp_path / "run")
    begin(process, config)
    grey_png(tmp_path / "a.png", 200)
    with pytest.raises(InputError, match="the train part has other image files; restore the old data"):
        command.train(config, [], True)
    grey_png(tmp_path / "a.png", ord("a"))
    assert command.train(config, [], True) == 0


def test_a_second_training_of_a_name_is_refused_while_the_first_runs(tmp_path, process, monkeypatch, caplog):
    config = write_config(tmp_path / "run")
    begin(process, config)
    into = train_model.train_two_stage_into

    def two(*arguments):
        for resume in (False, True):
            with pytest.raises(InputError, match=r"models/m: another training is writing to it"):
                command.train(config, [], resume)
        return into(*arguments)

    monkeypatch.setattr(train_model, "train_two_stage_into", two)
    assert command.train(config, [], False) == 0
    assert "models/m: starts from scratch; the same command with --resume continues the interrupted run" in caplog.text
    assert json.loads(result(tmp_path / "run")[ABOUT])[0][2]


def test_what_cannot_be_resumed_names_the_option(tmp_path, process):
    """The library knows no command line; the command adds its option to the error and to the advice."""
    config = write_config(tmp_path / "run")
    with pytest.raises(InputError, match=r"^--resume: found no unfinished run in .*/models; start a new run without --resume$"):
        command.train(config, [], True)
    (tmp_path / "run" / "models").mkdir()
    with pytest.raises(InputError, match=r"^--resume: found no unfinished run at .*m\.unfinished; start a new run without --resume$"):
        command.train(config, [], True)
    begin(process, config)
    with pytest.raises(InputError, match=r"^--resume: the config differs .* in epochs; restore .*, or start a new run without --resume$"):
        command.train(config, ["epochs=7"], True)


def test_a_training_that_was_killed_behind_its_last_step_is_complete(tmp_path, process, monkeypatch, capsys):
    remove = run_state.RunState.finish

    def die(_):
        raise Killed

    for name in ("m", None):
        config = write_config(tmp_path / str(name), name=name)
        monkeypatch.setattr(run_state.RunState, "finish", die)
        with pytest.raises(Killed):
            command.train(config, [], False)
        monkeypatch.setattr(run_state.RunState, "finish", remove)
        capsys.readouterr()
        assert command.train(config, [], True) == 0
        assert "is complete; there is nothing to resume" in capsys.readouterr().out
        assert len(list((tmp_path / str(name) / "models").iterdir())) == 1

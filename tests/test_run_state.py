"""What is kept of a training that was cut off: found, resumed, backed up, never lost."""

import json
import os
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

from malaria_cells.config import make_config
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.data_record import data_record
from malaria_cells.data.dataset import DataSet, load_data_set
from malaria_cells.fitting.run_folders import ResumeError, by_age, folder_of
from malaria_cells.fitting.run_state import RunState
from malaria_cells.fitting.training_time import TIME, TrainingTime, Used
from tests.conftest import write_bbbc041, write_image


def settings(**changes):
    return make_config(changes, "test")


def test_resume_wants_the_same_config(tmp_path):
    RunState.start(tmp_path / "run", settings())
    with pytest.raises(ResumeError, match=r"^the config differs from the unfinished run's in epochs, random_state; "):
        RunState.resume(tmp_path / "run", settings(epochs=9, random_state=1))
    with pytest.raises(ResumeError, match=r"^found no unfinished run .*; start a new run$"):
        RunState.resume(tmp_path / "other", settings())


def test_a_run_begun_anew_keeps_an_unfinished_one_as_a_backup(tmp_path, caplog):
    """Until it is finished; if it ends before it made anything, the unfinished one is there again."""
    folder, backup = folder_of(tmp_path, "m"), tmp_path / ".m.unfinished.before"
    (RunState.start(folder, settings()).folder / "night").write_text("long")
    for ends in (RunState.abort, lambda run: None):  # an error; a kill
        ends(RunState.start(folder, settings()))
        assert "it is kept as .m.unfinished.before" in caplog.text
        assert (folder if ends is RunState.abort else backup).joinpath("night").is_file()
    run = RunState.start(folder, settings())
    assert (backup / "night").is_file()
    assert by_age(tmp_path) == ["m"]
    (folder / "proposer.keras").write_text("")
    run.abort()
    assert [p.name for p in sorted(tmp_path.iterdir())] == [folder.name, backup.name]
    run.finish()
    assert not list(tmp_path.iterdir())


def test_unfinished_runs_come_by_their_age(tmp_path):
    assert by_age(tmp_path) == []
    for i, name in enumerate(("2026-01-02", "2026-01-01", "2026-01-03")):
        RunState.start(folder_of(tmp_path, name), settings())
        os.utime(folder_of(tmp_path, name), (1000 + i, 1000 + i))
    assert by_age(tmp_path) == ["2026-01-03", "2026-01-01", "2026-01-02"]
    aside = folder_of(tmp_path, "2026-01-03")
    aside.replace(aside.with_name(f"{aside.name}.before"))
    assert by_age(tmp_path)[0] == "2026-01-03"
    worked_on = RunState(folder_of(tmp_path, "2026-01-02")).part(1)
    worked_on.save(Weights(), {"loss": 1.0}, better=True)
    os.utime(worked_on.folder.parent, (1000, 1000))
    assert by_age(tmp_path)[0] == "2026-01-02"


class Weights:
    """Stands for a network."""

    trainable_variables = non_trainable_variables = ()

    def save_weights(self, path):
        path.write_text("weights")


def test_a_night_of_work_is_gone_on_with_where_the_run_begun_since_made_nothing(tmp_path):
    """As where --resume was forgotten, and the second run killed at once; where it is another recipe's, it is that one's turn."""
    folder = folder_of(tmp_path, "m")
    RunState.start(folder, settings()).save(Weights(), {"loss": 1.0}, better=True)
    RunState.start(folder, settings(epochs=3))
    assert RunState.resume(folder, settings(epochs=3)).history == []
    RunState.start(folder, settings())
    assert RunState.resume(folder, settings()).history == [{"loss": 1.0}]
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]
    folder.replace(folder.with_name(f"{folder.name}.before"))
    assert RunState.resume(folder, settings()).history == [{"loss": 1.0}]


def test_a_run_of_the_version_before_is_gone_on_with(tmp_path, caplog):
    run = RunState.start(folder_of(tmp_path, "m"), settings())
    run.state_file.parent.mkdir()
    run.state_file.write_text(json.dumps({"history": [{"loss": 1.0}], "best_epoch": 0}))
    (run.state_file.parent / "last.weights.h5").write_text("last")
    (run.folder / "best.weights.h5").write_text("best")
    run = RunState.resume(run.folder, settings(), {})
    assert (run.weights.read_text(), run.best_weights.read_text(), run.stopped) == ("last", "best", False)
    assert "changes of the annotation since the start of the run cannot be detected" in caplog.text
    run.save(Weights(), {"loss": 2.0}, better=False)
    again = RunState.resume(run.folder, settings())
    assert (again.weights.read_text(), again.best_weights.read_text(), len(again.history)) == ("weights", "best", 2)


def cells(*places):
    return [("red blood cell", x, 10, x + 20, 30) for x in places]


@pytest.fixture
def data(tmp_path):
    """Six images in three parts."""
    folder = tmp_path / "data"
    write_bbbc041(folder, {f"{i}.png": cells(10, 50) for i in range(6)})
    config = make_config({"train_images": str(folder), "labels": ["red blood cell"], "group": None}, "test")
    return load_data_set(config)


def changed(data, **changes):
    """The data set with another annotation of the first training image."""
    first, *others = data.train.images
    return replace(data, train=AnnotationSet(data.train.labels, (replace(first, **changes), *others)))


def test_resume_wants_the_same_data(tmp_path, data):
    """Annotation, files and parts of all images: a training further with other cells is of nothing that was ever annotated."""
    folder = tmp_path / "run"
    RunState.start(folder, settings(), data_record(data))
    RunState.resume(folder, settings(), data_record(data))

    def refused(now, match):
        with pytest.raises(ResumeError, match=rf"^the data differ .*: {match}; restore the old data, or start a new run$"):
            RunState.resume(folder, settings(), data_record(now))

    first, key = data.train.images[0], data.train.images[0].key
    refused(changed(data, boxes_xyxy=first.boxes_xyxy + np.float32(1)), "the train part has other annotation")
    refused(changed(data, ignore=~first.ignore), "the train part has other annotation")
    refused(DataSet(data.validation, data.train, data.test), r"the validation part has .* and lacks .*; the train part has .* and lacks .*")
    fewer = DataSet(data.train.subset(p.key for p in data.train.images[1:]), data.validation, data.test)
    refused(fewer, rf"the train part lacks 1 image \({key}\)")
    refused(DataSet(data.train, data.validation, None), "the test part is no longer there")
    shutil.copy(first.path, tmp_path / "kept.png")
    write_image(first.path, value=90)
    refused(data, "the train part has other image files")
    shutil.copy(tmp_path / "kept.png", first.path)
    RunState.resume(folder, settings(), data_record(data))


def test_the_time_of_a_run_is_that_of_all_its_sittings(tmp_path, caplog):
    run = RunState.start(tmp_path / "run", settings())
    run.part(1).save(Weights(), {"loss": 1.0}, better=True)  # of a later training of the same run
    recorded = json.loads((tmp_path / "run" / TIME).read_text())
    assert 0 < recorded["seconds"] <= recorded["core_seconds"]
    (tmp_path / "run" / TIME).write_text(json.dumps({"seconds": 100.0, "cpu_seconds": 190.0, "core_seconds": 200.0}))
    resumed = RunState.resume(tmp_path / "run", settings())
    assert 100 < resumed.time.used.seconds < 110
    assert resumed.time.used.to_json()["cores_busy"] > 0.8
    resumed.abort()
    assert json.loads((tmp_path / "run" / TIME).read_text())["seconds"] > 100
    (tmp_path / "run" / TIME).write_text("{}")
    assert RunState.resume(tmp_path / "run", settings()).time.used.seconds < 10
    assert "time.json: damaged; the time of the run's earlier sittings is unknown" in caplog.text


def test_cores_that_work_are_busy_and_those_that_wait_are_not():
    waiting = TrainingTime()
    time.sleep(0.3)
    assert waiting.used.to_json()["cores_busy"] < 0.3
    working, ends = TrainingTime(), time.process_time() + 0.3
    while time.process_time() < ends:
        pass
    assert working.used.cpu_seconds >= 0.25


def test_nothing_taken_is_no_division_by_zero():
    assert Used().to_json() == {"seconds": 0.0, "cores_busy": 0.0}

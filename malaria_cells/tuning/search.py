"""Searches the trials by Ray Tune: ASHA (Li et al. 2020, arXiv:1810.05934) stops after each fold those that are worse than half.

ASHA is told the mean over the folds that are done. All trials hold out the same images in the same order, so the means after as many
folds compare the same images. The config as it is is never stopped, so that there is always something to compare with.
"""

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.ray_cluster import Share, at_work
from malaria_cells.config import Config
from malaria_cells.data.dataset import DataSet
from malaria_cells.tuning.folds import folds_of, trained_and_scored
from malaria_cells.tuning.trials import FAILED, FINISHED, LOWER_IS_BETTER, STOPPED, WAITING, Journal, Trial, with_error

LOG = "log.txt"
HALVING = 2  # one in so many trials goes on at 1, 2, 4 .. folds


def search(journal: Journal, configs: list[Config], parts: list[DataSet], share: Share) -> None:
    """Train and score the trials that have not ended; each result is saved and said when it comes.

    Args:
        journal: the trials.
        configs: config of each trial; its `output_models` is the folder of the trial.
        parts: the parts of each fold.
        share: how many trials run at once, and what each may use.
    """
    from ray import tune

    waiting = [trial.number for trial in journal.trials if trial.state == WAITING]
    if not waiting:
        return
    trainable = tune.with_parameters(
        _train,
        configs=configs,
        parts=parts,
        scored=[trial.by_fold for trial in journal.trials],
        metric=journal.metric,
        place=(Path.cwd(), share.cpus),
    )
    scheduler = _scheduler(journal)
    with _quiet(), tempfile.TemporaryDirectory(prefix="malaria_cells_") as scratch:
        tune.Tuner(
            tune.with_resources(trainable, {"cpu": share.cpus, "gpu": share.gpus}),
            param_space={"trial": tune.grid_search(waiting)},
            tune_config=tune.TuneConfig(scheduler=scheduler, max_concurrent_trials=share.at_once),
            run_config=tune.RunConfig(storage_path=scratch, callbacks=[_callback(journal)], verbose=0),
        ).fit()


def _train(point: dict[str, Any], **given: Any) -> None:
    """Train a trial fold by fold in a process of the cluster, and report each."""
    from ray import tune

    number, metric = point["trial"], given["metric"]
    config, scored = given["configs"][number], given["scored"][number]
    folder, cpus = given["place"]
    done = Trial(number, {})
    with at_work(folder, (folder / config.output_models / LOG).absolute(), cpus):
        for index, fold in enumerate(folds_of(config, given["parts"])):
            started = time.monotonic()
            metrics = scored[index] if index < len(scored) else trained_and_scored(fold, _no_report)
            done.by_fold.append(metrics)
            figure = done.figure(metric)
            if figure is None and index == len(given["parts"]) - 1:
                raise InputError(f"no fold has the metric {metric}")
            # A fold may lack a metric, such as one of infected cells; ASHA compares only what has it.
            told = {} if figure is None else {"figure": figure[0]}
            tune.report({**told, "by_fold": done.by_fold, "seconds": time.monotonic() - started})


def _no_report(folder: Path, name: str, trained: Any) -> None:
    """A trial's models are removed, and a report with them."""


def _scheduler(journal: Journal) -> Any:
    """ASHA, which is told the figures of the trials that have ended before."""
    from ray.tune.schedulers import ASHAScheduler

    class KeepingFirst(ASHAScheduler):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            decision = super().on_trial_result(tune_controller, trial, result)
            is_first = trial.config["trial"] == 0
            return self.CONTINUE if is_first and len(result["by_fold"]) < journal.folds else decision

    mode = "min" if journal.metric in LOWER_IS_BETTER else "max"
    asha = KeepingFirst(metric="figure", mode=mode, max_t=journal.folds, grace_period=1, reduction_factor=HALVING)
    for trial in journal.trials:
        if trial.state == WAITING:
            continue
        earlier = SimpleNamespace(trial_id=f"earlier{trial.number}", config={"trial": trial.number})
        asha.on_trial_add(None, earlier)
        for folds in range(1, len(trial.by_fold) + 1):
            figure = Trial(trial.number, {}, by_fold=trial.by_fold[:folds]).figure(journal.metric)
            if figure is not None:
                asha.on_trial_result(None, earlier, {"figure": figure[0], "training_iteration": folds, "by_fold": trial.by_fold[:folds]})
    return asha


def _callback(journal: Journal) -> Any:
    """What Tune calls when a trial has a result or ends: it saves it, and prints a line."""
    from ray.tune import Callback

    class Saving(Callback):
        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
            own = journal.trials[trial.config["trial"]]
            if len(result["by_fold"]) > len(own.by_fold):  # otherwise it was done before
                own.by_fold, own.seconds = result["by_fold"], own.seconds + result["seconds"]
                journal.save(own)
                _say(journal, own, f"fold {len(own.by_fold)} of {journal.folds}, {_figure(journal, own)}")

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            own = journal.trials[trial.config["trial"]]
            own.state = FINISHED if len(own.by_fold) == journal.folds else STOPPED
            journal.save(own)
            after = "" if own.state == FINISHED else f" after fold {len(own.by_fold)}: worse than others"
            _say(journal, own, f"{own.state}{after}, {_figure(journal, own)}")

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            own = journal.trials[trial.config["trial"]]
            own.state, own.reason = FAILED, _reason(trial)
            journal.save(own)
            _say(journal, own, f"failed: {own.reason}")

    return Saving()


def _figure(journal: Journal, trial: Trial) -> str:
    return f"{journal.metric} {with_error(trial.figure(journal.metric))}"


def _say(journal: Journal, trial: Trial, what: str) -> None:
    ended = sum(other.state != WAITING for other in journal.trials)
    best = journal.best()
    so_far = "none finished yet" if best is None else f"best so far: {best.name}, {with_error(best.figure(journal.metric))}"
    print(f"[{ended} of {len(journal.trials)} done] {trial.name} ({trial.description}): {what}; {so_far}", flush=True)


def _reason(trial: Any) -> str:
    """The reason of a failed trial in one line, from the files in which Tune keeps the exception and its traceback."""
    from ray import cloudpickle
    from ray.exceptions import RayActorError

    # Tune's `get_pickled_error` reads a copy of the file that is made later.
    path = trial.pickled_error_file
    if path is None or not Path(path).is_file():
        lines = Path(trial.error_file).read_text(encoding="utf-8").strip().splitlines() if trial.error_file else []
        return lines[-1].strip() if lines else "unknown"
    error = cloudpickle.loads(Path(path).read_bytes())
    while isinstance(getattr(error, "cause", None), BaseException):
        error = error.cause
    if isinstance(error, RayActorError):
        return "its process died; perhaps memory was short: run fewer at once by --parallel"
    return reason(error) if isinstance(error, InputError) else f"{type(error).__name__}: {reason(error)}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Tune from printing tables and tracebacks of its own, and from catching the interruption by the user."""
    wanted = {"TUNE_DISABLE_SIGINT_HANDLER": "1", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    before = {name: os.environ.get(name) for name in wanted}
    logger = logging.getLogger("ray.tune")
    level = logger.level
    random_state = np.random.get_state()  # noqa: NPY002  ASHA draws from it
    os.environ.update(wanted)
    logger.setLevel(logging.CRITICAL)  # a failed trial is a row with its reason
    try:
        yield
    finally:
        logger.setLevel(level)
        np.random.set_state(random_state)  # noqa: NPY002
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})

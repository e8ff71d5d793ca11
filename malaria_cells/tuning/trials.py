"""The trials of a search and their record in the output folder, from which a search that was killed goes on."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from malaria_cells.base import files
from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.text import rounded
from malaria_cells.evaluation.by_data_set import DETECTION, at
from malaria_cells.tuning.fold_figures import CLASSIFICATION, figures_of, mean_and_error
from malaria_cells.tuning.space import as_text

PLAN, TABLE, TRIALS, FIGURES = "search.json", "trials.csv", "trials", "figures.json"
METRICS = DETECTION | CLASSIFICATION
LOWER_IS_BETTER = ("false alarms per 1,000", "parasitemia error")
# States of a trial. One that is stopped was worse than others after the same folds.
WAITING, FINISHED, STOPPED, FAILED = "waiting", "finished", "stopped", "failed"


def _stored(path: Path) -> dict[str, Any]:
    """What was written of a search.

    Raises:
        InputError: the file was damaged since.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: is damaged ({reason(error)}), expected JSON as it was written; name another --output") from None


@dataclass
class Trial:
    """A config that is cross-validated.

    Attributes:
        number: 0 for the config as it is.
        values: the values that differ from the config, by key.
        state: one of the four states.
        by_fold: metrics of the folds that are done, in order.
        reason: why it failed, or empty.
        seconds: time of its trainings.
    """

    number: int
    values: dict[str, Any]
    state: str = WAITING
    by_fold: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""
    seconds: float = 0.0

    def figure(self, metric: str) -> tuple[float, float | None] | None:
        """Mean of a metric over the folds that are done, and its standard error; None if no fold has it."""
        return mean_and_error(self.by_metric(metric))

    def by_metric(self, metric: str) -> list[float | None]:
        """A metric of each fold."""
        return [at(metrics, METRICS[metric]) for metrics in self.by_fold]

    @property
    def name(self) -> str:
        """The trial as it is called in messages."""
        return f"trial {self.number}" if self.number else "the config as it is"

    @property
    def description(self) -> str:
        """The values, in one line."""
        return ", ".join(f"{key}: {as_text(value)}" for key, value in self.values.items()) or "unchanged"


def with_error(figure: tuple[float, float | None] | None) -> str:
    """A mean and its standard error as text.

    >>> with_error((0.8123, 0.0111)), with_error((0.5, None)), with_error(None)
    ('0.812 ± 0.011', '0.500', 'none')
    """
    if figure is None:
        return "none"
    return rounded(figure[0]) + ("" if figure[1] is None else f" ± {rounded(figure[1])}")


@dataclass
class Journal:
    """All trials, and their files.

    Attributes:
        output: the output folder.
        metric: the metric that is to become best, a key of `METRICS`.
        folds: number of folds.
        trials: all trials in order of their numbers.
    """

    output: Path
    metric: str
    folds: int
    trials: list[Trial]

    @classmethod
    def begin(cls, output: Path, plan: dict[str, Any], values: list[dict[str, Any]], resume: bool) -> "Journal":
        """Start a search, or read what an earlier one has done. Failed trials wait to be tried again.

        Args:
            output: the output folder.
            plan: what decides the figures: metric, folds, hashes of config, space and images. It must be that of the earlier search.
            values: the values of each trial.
            resume: whether to go on with an earlier search.

        Raises:
            InputError: there is an earlier search and `resume` is False, or none and it is True, or it had another plan.
        """
        path = output / PLAN
        if path.is_file() and not resume:
            raise InputError(f"{output}: holds an earlier search; add --resume to go on with it, or name another --output")
        if resume and not path.is_file():
            raise InputError(f"--resume: {output} holds no search (no {PLAN}); leave out --resume to start one")
        if resume:
            earlier = _stored(path)
            if different := [key for key in plan if earlier.get(key) != plan[key]]:
                raise InputError(
                    f"--resume: {output} holds a search with another {', '.join(different)}; give the same, or name another --output"
                )
        else:
            files.write_json(path, plan)
        journal = cls(output, plan["metric"], plan["folds"], [])
        journal.trials = [journal._read(number, trial_values) for number, trial_values in enumerate(values)]
        journal._write_table()
        return journal

    def folder_of(self, trial: Trial) -> Path:
        """The folder of a trial."""
        return self.output / TRIALS / f"{trial.number:04}"

    def _read(self, number: int, values: dict[str, Any]) -> Trial:
        trial = Trial(number, values)
        path = self.folder_of(trial) / FIGURES
        if path.is_file():
            stored = _stored(path)
            if set(stored) != set(vars(trial)):
                raise InputError(
                    f"{path}: holds {', '.join(stored) or 'nothing'}, expected {', '.join(vars(trial))}; name another --output"
                )
            trial = Trial(**stored)
            if trial.state == FAILED:
                trial.state, trial.reason = WAITING, ""
        return trial

    def save(self, trial: Trial) -> None:
        """Write what is known of a trial. The models of a trial that has ended are removed."""
        files.write_json(self.folder_of(trial) / FIGURES, vars(trial))
        self._write_table()
        if trial.state != WAITING:
            for path in (*self.folder_of(trial).glob("fold*"), *self.folder_of(trial).glob(".fold*")):
                shutil.rmtree(path, ignore_errors=True)  # the process that wrote it may be ending

    def best(self) -> Trial | None:
        """The trial with the best mean of those that finished all folds; of equal ones the first."""
        figures = {trial.number: trial.figure(self.metric) for trial in self.trials if trial.state == FINISHED}
        means = {number: figure[0] for number, figure in figures.items() if figure is not None}
        if not means:
            return None
        choose = min if self.metric in LOWER_IS_BETTER else max
        return self.trials[choose(means, key=lambda number: means[number])]

    def _write_table(self) -> None:
        """Write the table of all trials, the best first."""
        keys = list(self.trials[-1].values) if self.trials else []
        scored = next((trial.by_fold for trial in self.trials if trial.by_fold), None)
        others = [heading for heading in (figures_of(scored) if scored else {}) if heading != self.metric]
        head = ("trial", "state", "folds", self.metric, "standard error", *keys, *others, "seconds", "reason")
        files.write_csv(self.output / TABLE, head, (self._row(trial, keys, others) for trial in self.ranked()))

    def ranked(self) -> list[Trial]:
        """The trials, those that finished first, each of a state in order of the metric."""
        sign = 1 if self.metric in LOWER_IS_BETTER else -1
        states = (FINISHED, STOPPED, FAILED, WAITING)

        def rank(trial: Trial) -> tuple[int, int, float]:
            figure = trial.figure(self.metric)
            return states.index(trial.state), -len(trial.by_fold), 0 if figure is None else sign * figure[0]

        return sorted(self.trials, key=rank)

    def _row(self, trial: Trial, keys: list[str], others: list[str]) -> list[Any]:
        mean, error = trial.figure(self.metric) or (None, None)
        figures = (trial.figure(heading) for heading in others)
        return [
            trial.number,
            trial.state,
            len(trial.by_fold),
            rounded(mean, ""),
            rounded(error, ""),
            *(as_text(trial.values[key]) if key in trial.values else "" for key in keys),
            *("" if figure is None else rounded(figure[0]) for figure in figures),
            f"{trial.seconds:.0f}",
            trial.reason,
        ]

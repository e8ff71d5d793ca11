"""What a search has found: the config of the best trial, and a report of one page."""

from pathlib import Path
from typing import Any

import yaml

from malaria_cells.base import files
from malaria_cells.base.text import number_of, rounded
from malaria_cells.config import Config
from malaria_cells.results.document import NAME, Document, Headline, Inlined, Section, plot
from malaria_cells.results.style import PALETTE, figure
from malaria_cells.tuning.fold_figures import mean_and_error
from malaria_cells.tuning.space import Dimension
from malaria_cells.tuning.trials import FAILED, FINISHED, STOPPED, Journal, Trial, with_error

BEST = "best.yaml"
CAUTION = "The best of several trials is partly chance, so its mean is too high; the test part, which was not used, gives an honest figure"


def difference(journal: Journal, trial: Trial) -> tuple[float, float | None] | None:
    """Mean difference of a trial from the config as it is over the same folds, and its standard error; None if either lacks folds."""
    pairs = zip(trial.by_metric(journal.metric), journal.trials[0].by_metric(journal.metric), strict=False)
    return mean_and_error([None if a is None or b is None else a - b for a, b in pairs])


def _difference_text(journal: Journal, trial: Trial) -> str:
    found = difference(journal, trial)
    if found is None:
        return "none"
    return f"{found[0]:+.3f}" + ("" if found[1] is None else f" ± {rounded(found[1])}")


def sentences(journal: Journal, best: Trial) -> list[str]:
    """What is to be said of the best trial."""
    scored = f"{journal.metric} {with_error(best.figure(journal.metric))} (mean and standard error over {journal.folds} folds)"
    if best.number == 0:
        return [f"no trial was better than the config as it is: {scored}"]
    compared = f"{_difference_text(journal, best)} against the config as it is on the same folds"
    return [f"best of {number_of(len(journal.trials), 'trial')}: {best.name} ({best.description}), {scored}", compared, CAUTION]


def write_best(journal: Journal, best: Trial, config: Config, command: str) -> Path:
    """Write the config of the best trial, with its figures as comments. It holds the keys that were set, so `start_from` acts as before.

    Args:
        journal: the trials.
        best: the best trial.
        config: its config as it was read.
        command: the command of the search.

    Returns:
        The file.
    """
    path = journal.output / BEST
    keys = config.model_dump(mode="json", exclude_unset=True, exclude={"start_from"} if config.start_from is None else None)
    comments = "".join(f"# {' '.join(line.split())}\n" for line in (f"Written by: {command}", *sentences(journal, best)))
    files.write_text(path, comments + yaml.safe_dump(keys, sort_keys=False, allow_unicode=True))
    return path


def write_report(journal: Journal, space: list[Dimension], best: Trial, command: str) -> Path:
    """Write the report: the best trial, all trials, and the metric by each key.

    Returns:
        The file.
    """
    states = {state: sum(trial.state == state for trial in journal.trials) for state in (FINISHED, STOPPED, FAILED)}
    document = Document("Search for a better config", f"{journal.metric} by cross-validation", command)
    document.facts = [
        ("Trials", ", ".join(f"{n} {state}" for state, n in states.items() if n)),
        ("Folds", f"{journal.folds}, by slide or image; the test part was not used"),
        ("Best", f"{best.name}: {best.description}"),
    ]
    document.headline = [
        Headline(journal.metric, with_error(best.figure(journal.metric)), "mean and standard error over the folds, of the best trial"),
        Headline("Difference", _difference_text(journal, best), "from the config as it is, on the same folds"),
    ]
    keys = [dimension.key for dimension in space]
    rows = tuple(_row(journal, trial, keys) for trial in journal.ranked())
    caution = f"{CAUTION}. A trial is stopped after a fold if it is worse than half of the others after as many folds."
    columns = ("trial", journal.metric, "folds", "difference", *keys, "state", "reason")
    document.sections.append(Section("All trials", caution, (), columns, rows))
    document.sections.append(Section("By key", "Trials that finished are filled.", tuple(_plot(journal, d) for d in space)))
    path = journal.output / NAME
    document.write(path)
    return path


def _row(journal: Journal, trial: Trial, keys: list[str]) -> tuple[str, ...]:
    values = (str(trial.values.get(key, "")) for key in keys)
    figures = (with_error(trial.figure(journal.metric)), str(len(trial.by_fold)), _difference_text(journal, trial))
    return (str(trial.number), *figures, *values, trial.state, trial.reason)


def _plot(journal: Journal, dimension: Dimension) -> Inlined:
    """Draw the metric by the values of a key, with standard errors."""

    def draw(path: Path) -> None:
        with figure(path, 6, 3.2) as ax:
            for trial in journal.trials[1:]:
                if (mean := trial.figure(journal.metric)) is None:
                    continue
                value: Any = trial.values[dimension.key]
                x = dimension.values.index(value) if dimension.kind == "choice" else value
                filled = PALETTE[1] if trial.state == FINISHED else "none"
                ax.errorbar(x, mean[0], mean[1] or 0, fmt="o", color=PALETTE[1], markerfacecolor=filled)
            if dimension.kind == "choice":
                ax.set_xticks(range(len(dimension.values)), [str(value) for value in dimension.values])
            elif dimension.kind == "log_uniform":
                ax.set_xscale("log")
            ax.set(xlabel=dimension.key, ylabel=journal.metric)

    return plot(draw, f"{journal.metric} by {dimension.key}")

"""``tune``: searches values of a config's keys by cross-validation, without the test part."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malaria_cells.base import files
from malaria_cells.base.errors import InputError, nearest
from malaria_cells.base.locks import locked
from malaria_cells.base.ray_cluster import LOCAL, Share, check_installed, connected, share_of
from malaria_cells.base.text import number_of
from malaria_cells.config import Config
from malaria_cells.config.data_keys import DataKeys
from malaria_cells.data.dataset import DataSet, load_data_set, with_labels
from malaria_cells.data.seen_before import say_seen
from malaria_cells.inference.model_description import file_fingerprint
from malaria_cells.training.start_model import start_of, with_start
from malaria_cells.training.train_model import check_request
from malaria_cells.tuning.folds import images_to_fold, parts_of_folds
from malaria_cells.tuning.outcome import sentences, write_best, write_report
from malaria_cells.tuning.space import Dimension, Point, load_space, points_of
from malaria_cells.tuning.trials import METRICS, PLAN, TABLE, Journal


@dataclass(frozen=True)
class TuneRequest:
    """The arguments of ``tune``.

    Attributes:
        config: YAML file of the config.
        set: ``KEY=VALUE`` for the config.
        space: YAML file of the space.
        samples: number of combinations of values to try.
        folds: number of folds.
        metric: what is to become best, a heading of the table of cross-validation; None: mAP50, or macro F1 of whole images.
        output: folder for the trials and the outcome.
        cluster: ``local`` or the address of a Ray cluster.
        parallel: how many trials run at once; None: as many as there are graphics processors, or processors.
        resume: whether to go on with an earlier search.
    """

    config: Path
    set: list[str]
    space: Path
    samples: int
    folds: int
    metric: str | None
    output: Path
    cluster: str = LOCAL
    parallel: int | None = None
    resume: bool = False

    @property
    def command_line(self) -> str:
        """The command of this search."""
        sets = [part for pair in self.set for part in ("--set", pair)]
        words = ["--config", self.config, *sets, "--space", self.space, "--samples", self.samples, "--folds", self.folds]
        words += ["--output", self.output, *([] if self.metric is None else ["--metric", self.metric])]
        return shlex.join(["malaria-cells", "tune", *map(str, words)])


def tune(request: TuneRequest) -> int:
    """Search, or go on with a search; then write the best config, a table of all trials and a report.

    Everything that can be checked without a training is checked first.

    Returns:
        Exit code.

    Raises:
        InputError: config, space or data are invalid, Ray is not installed, the output holds another search, or no trial finished.
    """
    check_installed("tune", "ray.tune")
    space = load_space(request.space, request.config, request.set)
    points = points_of(request.space, space, request.config, request.set, request.samples)
    metric = _metric(request, points[0].config)
    configs = [_config_of(point, number, request) for number, point in enumerate(points)]
    _check_same_data(request, points, configs)
    data = load_data_set(configs[0])
    if (start := start_of(configs[0])) is not None:
        say_seen(start.folder, {"cross-validated": images_to_fold(data)})
    parts = parts_of_folds(data, request.folds, configs[0])
    files.check_replaceable(request.output, PLAN)
    with locked(request.output, f"{request.output}: another search is writing to it; wait until it ends, or name another --output"):
        plan = _plan(request, metric, points[0].config, space, data)
        journal = Journal.begin(request.output, plan, [point.values for point in points], request.resume)
        _say_start(journal, request)
        try:
            _search(journal, configs, parts, request)
        except KeyboardInterrupt:
            print(f"{request.output}: finished folds are kept; the same command with --resume goes on", file=sys.stderr)
            raise
        return _finish(journal, space, points, request)


def _search(journal: Journal, configs: list[Config], parts: list[DataSet], request: TuneRequest) -> None:
    from malaria_cells.tuning.search import search

    with connected(request.cluster):
        share: Share = share_of(len(configs), request.parallel)
        print(f"{number_of(share.at_once, 'trial')} at once, {number_of(share.cpus, 'processor')} each", flush=True)
        search(journal, configs, parts, share)


def _metric(request: TuneRequest, config: Config) -> str:
    classifies_images = config.detector == "two_stage" and config.background_per_image == 0
    if request.metric is None:
        return "macro F1" if classifies_images else "mAP50"
    if request.metric not in METRICS:
        raise InputError(f"--metric: unknown {request.metric!r}{nearest(request.metric, METRICS)}; expected one of {', '.join(METRICS)}")
    return request.metric


def _config_of(point: Point, number: int, request: TuneRequest) -> Config:
    """The config of a trial, with labels and start model filled in; checked as far as it can be without the data.

    Raises:
        InputError: the config is invalid, or scores something else than the config as it is.
    """
    folder = request.output / "trials" / f"{number:04}"
    config = with_start(with_labels(point.config)).model_copy(update={"output_models": str(folder), "name": None})
    try:
        check_request(config)
    except InputError as error:
        raise InputError(f"{request.space}: {_described(point)}{error}") from error
    return config


def _check_same_data(request: TuneRequest, points: list[Point], configs: list[Config]) -> None:
    """Check that a start model that is searched for does not bring labels of its own: the trials score the same cells."""
    keys = set(DataKeys.model_fields)
    for point, config in zip(points, configs, strict=True):
        here, there = configs[0].model_dump(include=keys), config.model_dump(include=keys)
        if different := [key for key in here if here[key] != there[key]]:
            raise InputError(
                f"{request.space}: {_described(point)}has other {', '.join(different)} than the config as it is, so the figures cannot be "
                "compared; set them in the config"
            )


def _described(point: Point) -> str:
    return "".join(f"{key}={value} " for key, value in point.values.items()).strip() + (": " if point.values else "")


def _plan(request: TuneRequest, metric: str, config: Config, space: list[Dimension], data: DataSet) -> dict[str, Any]:
    """What decides the figures of a search, but for the number of samples, which may grow."""
    return {
        "metric": metric,
        "folds": request.folds,
        "config": file_fingerprint(config.to_yaml()),
        "space": [[d.key, d.kind, list(d.values)] for d in space],
        "images": images_to_fold(data).fingerprint,
    }


def _say_start(journal: Journal, request: TuneRequest) -> None:
    n_trials, ended = len(journal.trials), sum(trial.state != "waiting" for trial in journal.trials)
    if n_trials <= request.samples:
        print(f"{request.space}: has {number_of(n_trials - 1, 'combination')}, so {request.samples} cannot be drawn; all are tried")
    done = f", {ended} done before" if ended else ""
    print(f"{number_of(n_trials, 'trial')} (the first is the config as it is), {journal.folds} folds each{done}", flush=True)


def _finish(journal: Journal, space: list[Dimension], points: list[Point], request: TuneRequest) -> int:
    best = journal.best()
    failed = [trial for trial in journal.trials if trial.reason]
    if best is None:
        reasons = "".join(f"; {trial.name} failed: {trial.reason}" for trial in failed[:1])
        raise InputError(f"{journal.output / TABLE}: no trial finished, so there is no best config{reasons}; change config or space")
    path = write_best(journal, best, points[best.number].config, request.command_line)
    report = write_report(journal, space, best, request.command_line)
    print("\n".join(sentences(journal, best)))
    if failed:
        print(f"{number_of(len(failed), 'trial')} failed, first: {failed[0].name}: {failed[0].reason}")
    print(f"all trials: {journal.output / TABLE}\nreport: {report}\nbest config: {path}\nnext:  malaria-cells train --config {path}")
    return 0

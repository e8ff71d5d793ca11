"""``crossvalidate``: estimates the figures of a config and their standard errors without the test part."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.ray_cluster import check_installed, connected, results_of, share_of
from malaria_cells.base.text import number_of, rounded
from malaria_cells.config import load_config
from malaria_cells.data.dataset import load_data_set, with_labels
from malaria_cells.data.seen_before import say_seen
from malaria_cells.training.start_model import start_of, with_start
from malaria_cells.tuning.fold_figures import figures_of, mean_and_error
from malaria_cells.tuning.folds import Fold, folds_of, images_to_fold, is_trained, parts_of_folds, trained_and_scored

TABLE = "crossvalidation.json"


@dataclass(frozen=True)
class Where:
    """Where trainings run.

    Attributes:
        cluster: ``local`` or the address of a Ray cluster; None: one after the other in this process.
        parallel: how many run at once on the cluster; None: as many as there are graphics processors, or processors.
    """

    cluster: str | None = None
    parallel: int | None = None


def crossvalidate(config_path: Path, overrides: list[str], folds: int, output: Path, where: Where | None = None) -> int:
    """Train once for each fold on the other folds, and score on the fold. A fold that was trained before is only scored again.

    The folds divide the training and validation images. Each training draws its validation part, by which thresholds are chosen, from
    its own images. The test part is not used, so configs can be compared any number of times.

    Args:
        config_path: YAML file of the config.
        overrides: ``KEY=VALUE`` for the config.
        folds: number of folds.
        output: folder for the models ``fold1`` .. and `TABLE`.
        where: where the trainings run; None: in this process. The figures are the same.

    Returns:
        Exit code.

    Raises:
        InputError: the config or the data are invalid, or Ray is asked for and not there.
    """
    where = where or Where()
    if where.cluster is not None:
        check_installed("--cluster", "ray")
    config = with_start(with_labels(load_config(config_path, overrides))).model_copy(update={"output_models": str(output)})
    data = load_data_set(config)
    start = start_of(config)
    seen_before = {} if start is None else say_seen(start.folder, {"cross-validated": images_to_fold(data)})
    jobs = folds_of(config, parts_of_folds(data, folds, config))
    scored: dict[int, dict[str, Any]] = {}
    for index, metrics in _one_by_one(jobs) if where.cluster is None else _on_cluster(jobs, where.cluster, where.parallel):
        scored[index] = metrics
        files.write_json(output / TABLE, summary([scored[i] for i in sorted(scored)], folds, overrides) | seen_before)
    print(table([scored[i] for i in sorted(scored)]))
    print(f"figures of each fold: {output / TABLE}")
    return 0


def _one_by_one(folds: list[Fold]) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, fold in enumerate(folds):
        print(f"fold {index + 1} of {len(folds)}: {len(fold.held_out)} images held out", flush=True)
        yield index, trained_and_scored(fold)


def _on_cluster(folds: list[Fold], cluster: str, parallel: int | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield index and metrics of each fold when it is done.

    Raises:
        InputError: a fold could not be trained; the others are finished before.
    """
    for fold in folds:
        is_trained(fold.folder, fold.config, fold.parts)  # refuses a folder of another model before anything is trained
    failed: list[str] = []
    logs = [fold.folder.with_name(f"{fold.name}.log") for fold in folds]
    with connected(cluster):
        share = share_of(len(folds), parallel)
        what = f"{share.at_once} at once, {number_of(share.cpus, 'processor')} each"
        print(f"{len(folds)} folds, {what}; what each says: {logs[0]} ..", flush=True)
        for done, (index, result) in enumerate(results_of(trained_and_scored, folds, share, logs), start=1):
            said = f"fold {index + 1} ({done} of {len(folds)} done)"
            if isinstance(result, InputError):
                failed.append(f"fold {index + 1}: {result}")
                print(f"{said}: failed", flush=True)
                continue
            figures = ", ".join(f"{heading} {rounded(values[0])}" for heading, values in list(figures_of([result]).items())[:2])
            print(f"{said}: {figures} on {number_of(len(folds[index].held_out), 'image')}", flush=True)
            yield index, result
    if failed:
        raise InputError("\n".join([*failed, "the other folds are finished; the same command trains what is missing"]))


def summary(scored: list[dict[str, Any]], folds: int, overrides: list[str]) -> dict[str, Any]:
    """The content of `TABLE`.

    Args:
        scored: metrics of each finished fold.
        folds: number of folds.
        overrides: ``KEY=VALUE`` for the config.
    """
    means = {heading: mean_and_error(values) or (None, None) for heading, values in figures_of(scored).items()}
    return {
        "folds": folds,
        "finished": len(scored),
        "set": overrides,
        "mean": {heading: mean for heading, (mean, _) in means.items()},
        "standard_error": {heading: error for heading, (_, error) in means.items()},
        "by_fold": scored,
    }


def table(scored: list[dict[str, Any]], heading: str = "fold", names: list[str] | None = None) -> str:
    """The figures as a table in Markdown.

    Args:
        scored: metrics of each fold.
        heading: heading of the first column.
        names: names of the folds; None: their numbers.
    """
    figures = figures_of(scored)
    rows = [(heading, *figures)]
    names = names or [str(number) for number in range(1, len(scored) + 1)]
    rows += [(name, *map(rounded, values)) for name, values in zip(names, zip(*figures.values(), strict=True), strict=True)]
    means = (mean_and_error(values) or (None, None) for values in figures.values())
    cells = (rounded(mean) + ("" if error is None else f" ± {rounded(error)}") for mean, error in means)
    rows.append(("mean ± standard error", *cells))
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])

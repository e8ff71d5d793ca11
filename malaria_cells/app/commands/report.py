"""``report``: makes the tables, drawings and report of a run from the Parquet tables that a run on a cluster wrote."""

import fnmatch
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from malaria_cells.app.commands.run import warn_of_unusual_sizes
from malaria_cells.app.commands.run_cluster import fingerprint_of
from malaria_cells.app.commands.run_model import LoadedModel, load
from malaria_cells.app.commands.run_request import RunRequest
from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.parallel import imap_ordered
from malaria_cells.base.progress import progress
from malaria_cells.base.text import number_of
from malaria_cells.results.output_folder import check_output, claimed
from malaria_cells.results.review import most_doubtful
from malaria_cells.results.run_outputs import DetectionOutput
from malaria_cells.results.run_report import write_run_report
from malaria_cells.results.run_results import Detected, RunResults
from malaria_cells.results.sections import MAX_DOUBTFUL

if TYPE_CHECKING:
    from malaria_cells.cluster.output import ClusterOutput


@dataclass(frozen=True)
class ReportRequest:
    """The arguments of ``report``.

    Attributes:
        source: path or address of what a run on a cluster wrote.
        output: folder for tables, drawings and report.
        model: the model of the run; None: where the run found it.
        select: pattern of the images to report; None: all.
        images: path or address of the folder of the images; None: where the run found them.
    """

    source: str
    output: Path
    model: Path | None = None
    select: str | None = None
    images: str | None = None


def report(request: ReportRequest) -> int:
    """Write what a run of these images on this machine would write.

    Returns:
        Exit code: 0, or 3 if images failed in the run or could not be drawn.

    Raises:
        InputError: the source is no finished run, or its model is not at hand.
    """
    from malaria_cells.base.ray_cluster import check_installed

    check_installed("report", "pyarrow", "fsspec")
    from malaria_cells.cluster.output import ClusterOutput
    from malaria_cells.cluster.places import Place, local_path

    run = ClusterOutput.open(Place(request.source))
    if not run.is_complete:
        missing = sum(len(run.keys_of(part)) for part in run.unfinished_parts())
        raise InputError(f"{request.source}: {number_of(missing, 'image')} are not done yet; go on with: {run.plan.command}")
    loaded, model = _model(request, run)
    root = request.images or run.plan.root
    local = local_path(root)
    check_output(request.output, () if local is None else (local / key for key in run.keys))
    with claimed(request.output), tempfile.TemporaryDirectory() as fetched:
        finished = _results(run, loaded, request.select)
        output = DetectionOutput.start(request.output, loaded.detector, Path(root), finished.results, run.plan.options.get("force", False))
        _draw(output, finished, root)
        warn_of_unusual_sizes(loaded.detector, finished)
        output.tables(finished, None)
        if local is None:
            _fetch_doubtful(output, finished, root, Path(fetched))
        facts = [("Images", root), ("Model", str(model)), ("Engine", loaded.engine)]
        facts += [("Terms of the model", loaded.terms)] if loaded.terms is not None else []
        write_run_report(output, finished, None, None, facts, run.plan.command)
        output.say(finished)
    return finished.exit_code


def _model(request: ReportRequest, run: "ClusterOutput") -> tuple[LoadedModel, Path]:
    """Load the model of the run, for its labels, thresholds and error rates."""
    model = request.model or Path(run.plan.model)
    if not model.exists():
        raise InputError(f"{model}: the model of the run is not there; name it with --model")
    if fingerprint_of(model) != run.plan.fingerprint:
        raise InputError(f"{model}: is not the model of the run, its files are others; name that one with --model")
    return load(RunRequest("", request.output, model, engine=run.plan.engine, **run.plan.options), model), model


def _results(run: "ClusterOutput", loaded: LoadedModel, select: str | None) -> RunResults:
    """Read the rows of the selected images."""
    finished = RunResults()
    for result in run.results(loaded.labels, lambda key: select is None or fnmatch.fnmatchcase(key, select)):
        finished.add(result.key, result.size_wh, Detected(result.detections, result.familiarity))
        finished.seconds += result.seconds
    finished.failed = {key: why for key, why in run.failed().items() if select is None or fnmatch.fnmatchcase(key, select)}
    if not finished.results and not finished.failed:
        raise InputError(f"--select {select}: matches none of {number_of(len(run.keys), 'image')}; first: {run.keys[0]}")
    return finished


def _draw(output: DetectionOutput, finished: RunResults, root: str) -> None:
    """Draw the cells of all images; an image that is gone is in the tables, and its reason in ``failed.csv``."""
    from malaria_cells.cluster.images import UnreachableError, read

    def draw(key: str) -> None:
        output.image(key, read(root, key), finished.results[key])

    for key, drawing in progress(imap_ordered(draw, list(finished.results)), len(finished.results), "drawing", "image"):
        try:
            drawing.result()
        except (InputError, UnreachableError, OSError) as error:
            finished.not_drawn[key] = reason(error)


def _fetch_doubtful(output: DetectionOutput, finished: RunResults, root: str, folder: Path) -> None:
    """Fetch the images of the report's sheet of doubtful cells; without one of them the sheet shows the others."""
    from malaria_cells.cluster.images import fetch

    finished_there = {key: finished.results[key] for key in finished.results if key not in finished.not_drawn}
    for key in {cell.key for cell in most_doubtful(finished_there, output.labels, MAX_DOUBTFUL)}:
        fetch(root, key, folder / key)
    output.images = folder

"""``run --cluster``: detects the cells of many images on a Ray cluster, and writes Parquet tables."""

import hashlib
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from malaria_cells.app.commands.run_model import LoadedModel, load
from malaria_cells.app.commands.run_request import DETECTION_OPTIONS, RunRequest
from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of, shortened
from malaria_cells.cluster import PART_IMAGES
from malaria_cells.inference.model_folder import shipped
from malaria_cells.results.tables import LONGEST_REASON

if TYPE_CHECKING:
    from malaria_cells.cluster.images import Images
    from malaria_cells.cluster.output import ClusterOutput, RunPlan
    from malaria_cells.inference.detector import Detector

# Options that need all images at once, or the annotation; they apply to a run without --cluster.
LOCAL_ONLY = ("annotations", "split", "review", "compare", "ignore_labels", "label_map", "annotated_labels")
DECIDING = (*DETECTION_OPTIONS, "force")  # a run goes on only with the same ones; `counts.parquet` is written meanwhile


@dataclass(frozen=True)
class ClusterRequest:
    """The arguments of ``run --cluster``.

    Attributes:
        run: the arguments that every run has; its `output` is not used.
        output: path or address of the output.
        cluster: ``local``, or the address of a Ray cluster.
        part_images: number of images that are written together.
        workers: number of processes that detect; None: one for each processor.
    """

    run: RunRequest
    output: str
    cluster: str
    part_images: int = PART_IMAGES
    workers: int | None = None

    def command_line(self) -> str:
        """The command that repeats the run, or goes on with it."""
        cluster = ["--cluster", self.cluster, *([] if self.part_images == PART_IMAGES else ["--part-images", str(self.part_images)])]
        return replace(self.run, output=Path(self.output)).command_line(self.output, cluster)


def run_cluster(request: ClusterRequest) -> int:
    """Detect on a cluster, or go on with what a run that was killed has left.

    Returns:
        Exit code: 0, 3 (some images failed), 130 (interrupted; finished parts are written).

    Raises:
        InputError: the request is invalid, or cluster or store cannot be reached.
    """
    from malaria_cells.base.ray_cluster import check_installed

    check_installed("--cluster", "pyarrow", "fsspec", "ray.data")
    from malaria_cells.cluster.images import find_images
    from malaria_cells.cluster.output import ClusterOutput
    from malaria_cells.cluster.pipeline import run_parts
    from malaria_cells.cluster.places import Place
    from malaria_cells.cluster.rows import cell_schema, count_schema

    _check_options(request.run)
    images = find_images(request.run.image)
    model = shipped() if request.run.model is None else request.run.model
    if not model.exists():
        raise InputError(f"--model {model}: no such model; train.py writes models to the folder `output_models` (models/)")
    loaded = load(request.run, model)
    if not loaded.detects and request.run.mode != "detect":
        raise InputError(f"--model {model}: classifies whole images, and --cluster detects cells only; leave --cluster out")
    cell_schema(loaded.labels), count_schema(loaded.labels)  # refuses labels that are other columns' names
    plan, job = _plan(request, images, model, loaded)
    output = ClusterOutput.begin(Place(request.output), plan, images)
    missing = sum(len(output.keys_of(part)) for part in output.unfinished_parts())
    if missing < len(images.keys):
        print(f"{request.output}: {len(images.keys) - missing:,} of {number_of(len(images.keys), 'image')} are written", file=sys.stderr)
    done = run_parts(output, job, request.cluster, request.workers)
    if done.interrupted:
        print(f"interrupted: what was finished is in {request.output}; the same command goes on from there")
        return 130
    output.complete()
    return _say(output, request.output)


def _check_options(request: RunRequest) -> None:
    defaults = RunRequest("", Path())
    given = [name for name in LOCAL_ONLY if getattr(request, name) != getattr(defaults, name)]
    if given:
        flag = f"--{given[0].replace('_', '-')}"
        raise InputError(f"{flag}: applies to a run without --cluster; leave out one of the two")
    if request.mode == "classify":
        raise InputError("--mode classify: --cluster detects cells only; leave --cluster out")


def _plan(request: ClusterRequest, images: "Images", model: Path, loaded: LoadedModel) -> tuple["RunPlan", Any]:
    from malaria_cells.cluster.output import RunPlan
    from malaria_cells.cluster.worker import Job, packed

    archive = packed(model)
    options = {name: value for name in DECIDING if (value := getattr(request.run, name)) not in (None, False)}
    plan = RunPlan(
        images.root,
        len(images.keys),
        request.part_images,
        str(model),
        fingerprint_of(model),
        loaded.engine,
        options,
        request.command_line(),
    )
    # The engine is the same on every machine, since the results of two differ in the last digits.
    opened = partial(_open, replace(request.run, engine=loaded.engine))
    return plan, Job(images.root, model.name, archive, opened, request.run.force, request.output)


def fingerprint_of(model: Path) -> str:
    """Hash of the files of a model."""
    digest = hashlib.blake2b(digest_size=16)
    paths = sorted(p for p in model.rglob("*") if p.is_file()) if model.is_dir() else [model]
    for path in paths:
        digest.update(path.relative_to(model.parent if model.is_file() else model).as_posix().encode() + b"\0")
        digest.update(files.file_hash(path))
    return digest.hexdigest()


def _open(request: RunRequest, model: Path) -> "Detector":
    return load(request, model, sys.maxsize).detector  # of many images; the other processors have processes of their own


def _say(output: "ClusterOutput", where: str) -> int:
    """Print what the run wrote, and return the exit code."""
    failed = output.failed()
    n_images = len(output.keys)
    print(f"{number_of(n_images - len(failed), 'image')} done: cells {where}/cells, counts {where}/counts.parquet")
    print(f"tables, report and drawings: malaria-cells report {where}")
    if failed:
        key, why = next(iter(failed.items()))
        first = shortened(" ".join((why if key in why else f"{key}: {why}").split()), LONGEST_REASON)
        print(f"{number_of(len(failed), 'image')} failed: {where}/failed.parquet; first: {first}")
    return 3 if failed else 0

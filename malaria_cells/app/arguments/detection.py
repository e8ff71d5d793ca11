"""Arguments of `run`."""

import argparse
from pathlib import Path
from typing import Any

from malaria_cells.app.arguments.shared import Commands, add_label_meanings, command
from malaria_cells.app.arguments.values import cell_size, count, divisor, fraction, names, one_map, path_or_url
from malaria_cells.base.errors import InputError
from malaria_cells.cluster import PART_IMAGES
from malaria_cells.inference.engines import engine_names

INPUT_RANGES = ("0,1", "-1,1", "0,255")


def add_run(commands: Commands) -> None:
    """Add the command `run`."""

    def run(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.run import run
        from malaria_cells.app.commands.run_request import RunRequest

        values = {k: v for k, v in vars(options).items() if k != "command"}
        values["labels"] = names(values["labels"]) if values["labels"] else None
        values["ignore_labels"] = [name for names in values["ignore_labels"] for name in names] or None
        values["annotated_labels"] = [name for names in values["annotated_labels"] for name in names] or None
        values["label_map"] = one_map(values["label_map"])
        cluster = {name: values.pop(name) for name in ("cluster", "part_images", "workers")}
        if cluster["cluster"] is not None:
            from malaria_cells.app.commands.run_cluster import ClusterRequest, run_cluster

            output = str(values.pop("output"))
            given = {name: value for name, value in cluster.items() if value is not None}
            return run_cluster(ClusterRequest(RunRequest(**values, output=Path(output)), output, **given))
        _check_local(values, cluster)
        return run(RunRequest(**values))

    parser = command(commands, "run", "Detect cells in images, or classify images.", run)
    parser.add_argument("--model", type=Path, help="model folder, or .keras or .h5 classifier (default: the shipped pretrained/thin_smear)")
    parser.add_argument("--image", required=True, help="image, directory (searched recursively), or glob in quotes")
    parser.add_argument("--output", type=path_or_url, default=Path("results"), help="folder for the results (default: %(default)s)")
    parser.add_argument(
        "--mode",
        choices=("auto", "classify", "detect"),
        default="auto",
        help="auto: detect if the model was trained for it (default: %(default)s)",
    )
    _add_scoring(parser)
    _add_decisions(parser)
    _add_networks(parser)
    _add_outputs(parser)
    _add_cluster(parser)


def _check_local(values: dict[str, Any], cluster: dict[str, Any]) -> None:
    """Check that nothing of a run without a cluster needs one.

    Raises:
        InputError: images or output have an address, or an option of a cluster is given.
    """
    for name, value in cluster.items():
        if value is not None:
            raise InputError(f"--{name.replace('_', '-')}: applies to a run with --cluster; leave it out, or add --cluster local")
    for name in ("image", "output"):
        if "://" in str(values[name]):
            raise InputError(f"--{name} {values[name]}: is an address, expected a path; add --cluster local, or copy the files")


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    """Add what predictions are scored by."""
    parser.add_argument("--annotations", type=Path, help="annotation file that predictions are scored against")
    add_label_meanings(parser, "categories of the annotation to treat as ignore regions, which are not scored", "labels of the model")
    parser.add_argument(
        "--annotated-labels",
        type=names,
        action="append",
        default=[],
        metavar="A,B,..",
        help="labels of the model that are annotated completely; detections of other labels that match no annotated cell are not scored "
        "(default: all); may be repeated",
    )
    parser.add_argument("--split", type=Path, metavar="FILE", help='JSON {"test": [images], ..}; use the images of one part only')
    parser.add_argument("--part", default="test", help="part of --split to use (default: %(default)s)")


def _add_decisions(parser: argparse.ArgumentParser) -> None:
    """Add what is proposed, averaged and kept."""
    parser.add_argument("--score-threshold", type=fraction, metavar="S", help="minimum score of a detection, 0 to 1 (default: the model's)")
    parser.add_argument(
        "--nms",
        choices=("agnostic", "class"),
        help="non-maximum suppression across labels, or for each label separately (default: the model's)",
    )
    parser.add_argument(
        "--nms-iou",
        type=fraction,
        metavar="IOU",
        help="IoU from which the lower-scored of two boxes is suppressed (default: the model's)",
    )
    parser.add_argument(
        "--tta",
        type=int,
        choices=range(1, 9),
        metavar="N",
        help="test-time augmentation: views averaged for each cell, 1 to 8 (default: the model's)",
    )
    parser.add_argument(
        "--proposals",
        metavar="METHOD",
        help="method that proposes boxes: learned, watershed, sliding, or a plugin's (default: the model's)",
    )
    parser.add_argument(
        "--cell-size",
        type=cell_size,
        metavar="PIXELS",
        help="median longer side of a cell in these images (default: the model's, unless the size estimated from an image clearly differs)",
    )


def _add_networks(parser: argparse.ArgumentParser) -> None:
    """Add what runs the networks, and what a bare network does not say of itself."""
    parser.add_argument(
        "--engine",
        choices=("auto", *engine_names()),
        default="auto",
        help="inference engine; auto: the fastest of those whose files are in MODEL (see export) and that are installed, measured once on "
        "this machine if there are several (default: %(default)s)",
    )
    parser.add_argument("--labels", metavar="A,B,..", help="class names of a bare .keras or .h5 model")
    parser.add_argument(
        "--input-range",
        choices=INPUT_RANGES,
        metavar="{0,1|-1,1|0,255}",
        help="range of the pixel values that a bare model was trained on: 0 to 1, -1 to 1, or 0 to 255 (default: 0,255)",
    )
    parser.add_argument(
        "--input-divisor", type=divisor, metavar="N", help="divide pixel values by N, instead of --input-range; 255 is the range 0,1"
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add what is written beside tables and report."""
    parser.add_argument(
        "--review",
        type=count,
        metavar="N",
        help="write the N least certain cells as a sheet, and their images as a data set to correct and train on",
    )
    parser.add_argument(
        "--force", action="store_true", help="report a parasitemia also for images that are unlike all training images of the model"
    )
    parser.add_argument("--compare", action="store_true", help="draw annotations beside detections (needs --annotations)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with an unfinished run in --output, which was killed or interrupted; its finished images are kept",
    )


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add what concerns a run on a cluster."""
    parser.add_argument(
        "--cluster",
        metavar="local|ADDRESS",
        help="detect by Ray, on the processors of this machine or on the cluster at an address, and write Parquet; --image may also be a "
        "list (.txt), and --image and --output addresses such as s3://bucket/folder",
    )
    parser.add_argument(
        "--part-images",
        type=count,
        metavar="N",
        help=f"--cluster: images that are written together (default: {PART_IMAGES})",
    )
    parser.add_argument("--workers", type=count, metavar="N", help="--cluster: processes that detect (default: one for each processor)")

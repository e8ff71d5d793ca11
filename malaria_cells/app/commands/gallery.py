"""``gallery``: writes contact sheets and animations of the cells of each class, from a data set or from the detections of a run."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from malaria_cells.app.commands.explore import AnnotationRequest
from malaria_cells.base.errors import InputError
from malaria_cells.base.file_names import LONGEST, distinct, stem_of_label
from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.explain import Explainer
from malaria_cells.inference.model_folder import shipped

CONTEXT = 1.25  # side of the square crop divided by the longer side of the box, if no model defines it
DETECTIONS = "detections.json"
EXPLAINED = "_explained"


def gallery(request: AnnotationRequest, output: Path, count: int, model: Path | None, explain: bool) -> int:
    """Write ``<class>.png`` and ``<class>.gif`` for each class, and with `explain` ``<class>_explained.png``.

    Args:
        request: annotation file, data set folder, or a folder that ``run.py`` wrote.
        output: folder to write.
        count: maximum number of cells of a class.
        model: model folder for Grad-CAM maps; None: the shipped model.
        explain: whether to draw Grad-CAM maps.

    Raises:
        InputError: there is no cell, the model knows none of the classes, a file would be overwritten that no gallery wrote, or the
            annotation cannot be read.
    """
    from malaria_cells.results.cell_gallery import animation, contact_sheet, cut_cells

    source = request.source
    annotations = detected_cells(source / DETECTIONS) if (source / DETECTIONS).is_file() else request.read()
    if not sum(len(p.cells_xyxy) for p in annotations.images):
        raise InputError(f"{source}: holds no cell to draw; name annotated images, or a run that detected cells")
    stems = _stems(annotations.labels)
    _check_output(output, stems.values())
    explainer = _explainer(model, annotations.labels) if explain else None
    needs_stains = explainer is not None and explainer.stain != "none"
    for cells in cut_cells(annotations, count, explainer.context if explainer else CONTEXT, stained=needs_stains):
        stem = stems[cells.name]
        contact_sheet(cells, output / f"{stem}.png")
        animation(cells, output / f"{stem}.gif")
        if explainer is not None and cells.name in explainer.labels.names:
            contact_sheet(cells, output / f"{stem}{EXPLAINED}.png", explainer.overlays(cells.patches, cells.name, cells.stains))
        print(f"{cells.name}: {len(cells.patches)} of {cells.total:,} cells, {output / stem}.png and .gif")
    return 0


def _stems(labels: LabelSet) -> dict[str, str]:
    """File names by class. All classes get one, also those without cells, so a class has the same name in every gallery of a data set."""

    def files_of(stem: str) -> tuple[str, ...]:
        return f"{stem}.png", f"{stem}.gif", f"{stem}{EXPLAINED}.png"

    wanted = [stem_of_label(name) for name in labels.names]
    stems = distinct(wanted, files_of, LONGEST - len(f"{EXPLAINED}.png"), "{stem}{suffix}_{number}")
    return dict(zip(labels.names, stems, strict=True))


def _check_output(output: Path, stems: Iterable[str]) -> None:
    """Check that only files of an earlier gallery are overwritten. Its sheets are recognised by the program named in their metadata."""
    if output.exists() and not output.is_dir():
        raise InputError(f"--output {output}: is a file; name a folder")
    for stem in stems:
        sheet, explained, gif = (output / f"{stem}{end}" for end in (".png", f"{EXPLAINED}.png", ".gif"))
        for path, evidence in ((sheet, sheet), (explained, explained), (gif, sheet)):
            if path.exists() and not _is_sheet(evidence):
                raise InputError(f"--output {output}: holds {path.name}, which no gallery wrote; move it away, or name another --output")


def _is_sheet(path: Path) -> bool:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return str(image.info.get("Software", "")).startswith("Matplotlib")
    except (OSError, ValueError, SyntaxError):  # the file is missing or no PNG
        return False


def detected_cells(path: Path) -> AnnotationSet:
    """The counted cells of a run's ``detections.json``, with the labels under which they are counted.

    Raises:
        InputError: the file was written by another version, or an image does not exist any more.
    """
    try:
        content = json.loads(path.read_bytes())
        root = Path(content["info"].get("folder") or content["info"]["pictures"])  # the former name of the key
        labels = LabelSet(tuple(c["name"] for c in content["categories"]))
        by_image: dict[int, list[dict[str, Any]]] = {entry["id"]: [] for entry in content["images"]}
        for row in content["annotations"]:
            if row["counted_as"] is not None:
                by_image[row["image_id"]].append(row)
        images = tuple(_counted_cells(entry, by_image[entry["id"]], root, len(labels)) for entry in content["images"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path}: not a file that this version's run.py wrote ({excerpt(error)}); run the detection again") from error
    for image in images:
        if not image.path.is_file():
            raise InputError(f"{path}: {image.path}: the image does not exist any more; put it back or run the detection again")
    return AnnotationSet(labels, images)


def _counted_cells(entry: dict[str, Any], rows: list[dict[str, Any]], root: Path, n_labels: int) -> AnnotatedImage:
    xywh = np.array([row["bbox"] for row in rows], dtype=np.float32).reshape(-1, 4)
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    ids = np.array([row["counted_as"] - 1 for row in rows], dtype=np.int64)
    if not np.isfinite(xyxy).all() or (ids < 0).any() or (ids >= n_labels).any():
        raise ValueError(f"{entry['file_name']}: found a box or a class that is invalid")
    key = entry["file_name"]
    return AnnotatedImage(key, root / key, (entry["width"], entry["height"]), key, xyxy, ids, np.zeros(len(ids), dtype=bool))


def _explainer(folder: Path | None, labels: LabelSet) -> Explainer:
    explainer = Explainer.load(folder or shipped())
    if not set(labels.names) & set(explainer.labels.names):
        raise InputError(
            f"--explain: the model knows none of these classes; its classes are {', '.join(explainer.labels.names)}; choose another --model"
        )
    return explainer

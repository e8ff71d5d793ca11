"""``gallery``: cells of each class as contact sheets and animations, from a data set or from a run's detections."""

import json
import re
from pathlib import Path

import numpy as np

from malaria_cells.annotations import AnnotationSet, Picture
from malaria_cells.commands.explore import AnnotationRequest
from malaria_cells.errors import InputError
from malaria_cells.explain import Explainer
from malaria_cells.labels import LabelSet
from malaria_cells.model_folder import shipped

CONTEXT = 1.25  # side of the square shown, by the longer side of the box, where no model says how much it sees
DETECTIONS = "detections.json"


def gallery(request: AnnotationRequest, output: Path, count: int, model: Path | None, explain: bool) -> int:
    """Write ``<class>.png`` and ``<class>.gif`` for each class, and with `explain` ``<class>_explained.png``.

    Args:
        request: annotation file, data set folder, or a folder that ``run.py`` wrote.
        output: folder to write.
        count: cells of a class at most.
        model: folder of the model that is asked where it looks; None: the shipped one.
        explain: whether to ask it.

    Raises:
        InputError: nothing to show, a class that the model does not know, or whatever the readers find wrong.
    """
    from malaria_cells.report.gallery import animation, contact_sheet, cut_cells

    source = request.source
    annotations = detected_cells(source / DETECTIONS) if (source / DETECTIONS).is_file() else request.read()
    if not sum(len(p.cells_xyxy) for p in annotations.pictures):
        raise InputError(f"{source}: holds no cell that could be shown")
    explainer = _explainer(model, annotations.labels) if explain else None
    for cells in cut_cells(annotations, count, explainer.context if explainer else CONTEXT):
        stem = re.sub(r"[^\w.-]+", "_", cells.name)
        contact_sheet(cells, output / f"{stem}.png")
        animation(cells, output / f"{stem}.gif")
        if explainer is not None and cells.name in explainer.labels.names:
            contact_sheet(cells, output / f"{stem}_explained.png", explainer.overlays(cells.patches, cells.name))
        print(f"{cells.name}: {len(cells.patches)} of {cells.total:,} cells, {output / stem}.png and .gif")
    return 0


def detected_cells(path: Path) -> AnnotationSet:
    """The counted cells of a run's ``detections.json``, as what they are counted as.

    Raises:
        InputError: the file is of an older version, or the photographs are not where they were.
    """
    try:
        content = json.loads(path.read_bytes())
        root = Path(content["info"]["pictures"])
        labels = LabelSet(tuple(c["name"] for c in content["categories"]))
        by_picture: dict[int, list[dict]] = {image["id"]: [] for image in content["images"]}
        for row in content["annotations"]:
            if row["counted_as"] is not None:
                by_picture[row["image_id"]].append(row)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a file that this version's run.py wrote ({error!r}); run the detection again") from error
    pictures = []
    for image in content["images"]:
        rows, file = by_picture[image["id"]], root / image["file_name"]
        if not file.is_file():
            raise InputError(f"{path}: {file}: the photograph is not there any more; put it back or run the detection again")
        xywh = np.array([row["bbox"] for row in rows], dtype=np.float32).reshape(-1, 4)
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        ids = np.array([row["counted_as"] - 1 for row in rows], dtype=np.int64)
        key = image["file_name"]
        pictures.append(Picture(key, file, (image["width"], image["height"]), key, xyxy, ids, np.zeros(len(ids), dtype=bool)))
    return AnnotationSet(labels, tuple(pictures))


def _explainer(folder: Path | None, labels: LabelSet) -> Explainer:
    explainer = Explainer.load(folder or shipped())
    if not set(labels.names) & set(explainer.labels.names):
        raise InputError(f"--explain: the model knows none of these classes; its own are {', '.join(explainer.labels.names)}")
    return explainer

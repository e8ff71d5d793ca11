"""Corrections made on the page, kept as a data set that ``train.py`` takes: COCO with the pictures beside it."""

import tempfile
from pathlib import Path, PurePath

import numpy as np

from malaria_cells.annotations import AnnotationSet, Picture, load_annotations
from malaria_cells.labels import LabelSet
from malaria_cells.page.photographs import Photograph
from malaria_cells.writers import WRITERS

ANNOTATIONS = "annotations.json"
NO_CELL = -1


def save_correction(folder: Path, photograph: Photograph, boxes_xyxy: np.ndarray, class_ids: np.ndarray, labels: LabelSet) -> int:
    """Put a corrected photograph into the review, in the place of an earlier version of it.

    Args:
        folder: of the review; made if it is not there.
        photograph: its file goes into the review as it is.
        boxes_xyxy: all its cells, float32 (n, 4).
        class_ids: int (n,), `NO_CELL` for what is none.
        labels: the classes.

    Returns:
        How many photographs the review holds now.
    """
    before = load_annotations(folder / ANNOTATIONS, labels).pictures if (folder / ANNOTATIONS).is_file() else ()
    kept = class_ids != NO_CELL
    key = PurePath(photograph.name).name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
        path = Path(beside) / key
        path.write_bytes(photograph.content)
        size_wh = (photograph.pixels.shape[1], photograph.pixels.shape[0])
        corrected = Picture(key, path, size_wh, key, boxes_xyxy[kept], class_ids[kept], np.zeros(int(kept.sum()), dtype=bool))
        others = tuple(p for p in before if PurePath(p.key).name != key)
        everything = tuple(sorted((*others, corrected), key=lambda p: p.key))
        written = Path(beside) / "written"
        WRITERS["coco"](AnnotationSet(labels, everything), written)
        # Photographs first: whatever happens, the annotation lists none that is not there. What else lies in the folder stays.
        for file in (*(p for p in (written / "images").rglob("*") if p.is_file()), written / ANNOTATIONS):
            target = folder / file.relative_to(written)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    return len(everything)

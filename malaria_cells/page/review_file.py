"""Corrections made on the page, kept as a data set that ``train.py`` takes: COCO with the pictures beside it."""

import shutil
import tempfile
from pathlib import Path, PurePath

import numpy as np

from malaria_cells import files
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
    with tempfile.TemporaryDirectory() as elsewhere:
        path = Path(elsewhere) / key
        path.write_bytes(photograph.content)
        size_wh = (photograph.pixels.shape[1], photograph.pixels.shape[0])
        corrected = Picture(key, path, size_wh, key, boxes_xyxy[kept], class_ids[kept], np.zeros(int(kept.sum()), dtype=bool))
        others = tuple(p for p in before if PurePath(p.key).name != key)
        everything = tuple(sorted((*others, corrected), key=lambda p: p.key))
        written = Path(elsewhere) / "written"
        WRITERS["coco"](AnnotationSet(labels, everything), written)
        # Photographs first: whatever happens, the annotation lists none that is not there. What else lies in the folder stays.
        shutil.copytree(written / "images", folder / "images", copy_function=_copy, dirs_exist_ok=True)
        files.write_text(folder / ANNOTATIONS, (written / ANNOTATIONS).read_text(encoding="utf-8"))
    return len(everything)


def _copy(source: str, target: str) -> None:
    with files.replacing(Path(target)) as beside:
        shutil.copyfile(source, beside)

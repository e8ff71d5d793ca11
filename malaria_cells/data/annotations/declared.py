"""Compares the size that an annotation declares of an image with the size that the image has."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from malaria_cells.data.annotations.cleaning import AnnotationIssues
from malaria_cells.data.annotations.source import RawImage
from malaria_cells.data.images import stored_turn

_AS_DECLARED = 1  # pixel: as far as a size may be off by rounding


def compare_sizes(raw: RawImage, file: Path, size_wh: tuple[int, int], issues: AnnotationIssues) -> RawImage:
    """Compare the declared size with that of the upright image, and take a note where they differ.

    Some tools draw on the image as it is stored, others on the image as its EXIF data turn it. Where the declared size is that of
    the stored image lying on its side, the boxes are turned with the image. Any other difference cannot be mended, since nobody knows
    whether the size is wrong or the boxes are.

    Args:
        raw: the image as the annotation has it.
        file: the image's file.
        size_wh: width and height of the upright image in pixels.
        issues: takes the note.
    """
    declared = raw.size_wh
    if declared is None or raw.whole or raw.relative or np.abs(np.subtract(declared, size_wh)).max() <= _AS_DECLARED:
        return raw
    shown = f"{raw.name} is declared {declared[0]} x {declared[1]}, is {size_wh[0]} x {size_wh[1]}"
    within = bool((raw.boxes_xyxy <= [*declared, *declared]).all())  # else they were not drawn on an image of that size
    turn = stored_turn(file) if declared == size_wh[::-1] and within else None
    if turn is not None:
        issues.note("image", "annotated as it is stored, lying on its side; the boxes were turned upright with it", shown)
        return replace(raw, boxes_xyxy=_turned(raw.boxes_xyxy, declared, turn), size_wh=size_wh)
    what = "of another size than the annotation declares, whose boxes may lie wrong; use the images that were annotated, or scale the boxes"
    issues.note("image", what, shown)
    return raw


def _turned(boxes_xyxy: np.ndarray, stored_wh: tuple[int, int], orientation: int) -> np.ndarray:
    """Boxes on the stored image as boxes on the upright one, by EXIF orientations 5 to 8 (EXIF 2.32, 4.6.4 A, Orientation)."""
    width, height = stored_wh
    left, top, right, bottom = boxes_xyxy.T
    upright = {
        5: (top, left, bottom, right),
        6: (height - bottom, left, height - top, right),
        7: (height - bottom, width - right, height - top, width - left),
        8: (top, width - right, bottom, width - left),
    }[orientation]
    return np.stack(upright, axis=1).reshape(-1, 4)

"""Compares the image sizes that an annotation declares with those of the image files, and corrects boxes for EXIF orientation."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from malaria_cells.data.annotations.cleaning import AnnotationIssues
from malaria_cells.data.annotations.source import RawImage
from malaria_cells.data.images import stored_turn

_MAX_DIFFERENCE = 1  # pixel, between the declared and the actual size, which may be due to rounding


def compare_sizes(raw: RawImage, file: Path, size_wh: tuple[int, int], issues: AnnotationIssues) -> RawImage:
    """Compare the declared size with that of the upright image; a difference is added to the issues.

    Some tools show the stored pixels, others rotate the image by its EXIF orientation. If the declared size is that of the stored
    pixels, which are rotated by 90 degrees, the boxes are rotated with the image. Any other difference cannot be corrected, since either
    the size or the boxes may be wrong.

    Args:
        raw: the image as read from the annotation.
        file: path of the image file.
        size_wh: width and height of the upright image in pixels.
        issues: a difference is added to it.

    Returns:
        The image, with rotated boxes and the upright size if the boxes were drawn on the stored pixels.
    """
    declared = raw.size_wh
    if declared is None or raw.whole or raw.relative or np.abs(np.subtract(declared, size_wh)).max() <= _MAX_DIFFERENCE:
        return raw
    example = f"{raw.name} is declared {declared[0]} x {declared[1]}, is {size_wh[0]} x {size_wh[1]}"
    within = bool((raw.boxes_xyxy <= [*declared, *declared]).all())  # otherwise the boxes were not drawn on an image of the declared size
    turn = stored_turn(file) if declared == size_wh[::-1] and within else None
    if turn is not None:
        issues.note("image", "annotated without its EXIF orientation; its boxes were rotated with it", example)
        return replace(raw, boxes_xyxy=_rotated(raw.boxes_xyxy, declared, turn), size_wh=size_wh)
    reason = "of another size than the annotation declares, so its boxes may be misplaced; use the annotated images, or scale the boxes"
    issues.note("image", reason, example)
    return raw


def _rotated(boxes_xyxy: np.ndarray, stored_wh: tuple[int, int], orientation: int) -> np.ndarray:
    """Convert boxes on the stored pixels to boxes on the upright image; EXIF orientations 5 to 8 (EXIF 2.32, 4.6.4 A, Orientation)."""
    width, height = stored_wh
    left, top, right, bottom = boxes_xyxy.T
    upright = {
        5: (top, left, bottom, right),
        6: (height - bottom, left, height - top, right),
        7: (height - bottom, width - right, height - top, width - left),
        8: (top, width - right, bottom, width - left),
    }[orientation]
    return np.stack(upright, axis=1).reshape(-1, 4)

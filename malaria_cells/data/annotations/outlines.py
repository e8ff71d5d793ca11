"""Bounding boxes of polygons, run-length encoded masks, and rotated rectangles and ellipses."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Box = tuple[float, float, float, float]

MAX_MASK_PIXELS = 2**53  # pixels; larger integers are not exact as floats


def outline_bounds(segmentation: Any, size_wh: tuple[int, int] | None) -> Box | None:
    """The bounding box of COCO's `segmentation`: polygons, or a mask in run-length encoding (RLE), compressed or not.

    Args:
        segmentation: a list of polygons (flat lists ``[x1, y1, x2, y2, ..]``, or lists of points), one such flat list, or
            ``{"counts": .., "size": [height, width]}``.
        size_wh: width and height of the image in pixels, which a mask must have; None: not checked.

    Returns:
        Left, top, right and bottom in pixels; right and bottom are exclusive for a mask. None if no polygon has three points, or the
        mask is empty. Coordinates that are not finite are passed on.

    Raises:
        TypeError: `segmentation` is none of these; the message says what was found.

    Examples:
        >>> outline_bounds([[10, 20, 40, 20, 40, 50]], None)
        (10.0, 20.0, 40.0, 50.0)
        >>> outline_bounds({"size": [3, 4], "counts": [4, 1, 7]}, (4, 3))
        (1.0, 1.0, 2.0, 2.0)
    """
    if isinstance(segmentation, dict):
        return _mask_bounds(segmentation, size_wh)
    if not isinstance(segmentation, list):
        raise TypeError(f"found an outline of the type {type(segmentation).__name__}; expected polygons or a mask")
    polygons = [segmentation] if segmentation and isinstance(segmentation[0], int | float) else segmentation
    points = [point for polygon in polygons if len(corners := _points(polygon)) >= 3 for point in corners]
    return points_bounds(points) if points else None


def points_bounds(points: Sequence[Sequence[float]]) -> Box:
    """The bounding box of one or more points ``(x, y)``; a coordinate that is NaN makes its sides NaN.

    Raises:
        TypeError: a point is not two numbers.
    """
    coordinates = np.array([_pair(point) for point in points], dtype=np.float64)
    (left, top), (right, bottom) = coordinates.min(axis=0).tolist(), coordinates.max(axis=0).tolist()
    return left, top, right, bottom


def rotated_bounds(centre: tuple[float, float], half: tuple[float, float], degrees: float, *, ellipse: bool) -> Box:
    """The axis-aligned bounding box of a rectangle or an ellipse that is rotated about its centre.

    Args:
        centre: x and y in pixels.
        half: half of the unrotated width and height in pixels; the radii of an ellipse.
        degrees: angle of the rotation.
        ellipse: True for an ellipse, False for a rectangle.

    Examples:
        >>> [round(v) for v in rotated_bounds((50, 50), (20, 10), 90, ellipse=False)]
        [40, 30, 60, 70]
    """
    if not all(map(math.isfinite, (*centre, *half, degrees))):
        return math.nan, math.nan, math.nan, math.nan
    (x, y), (half_width, half_height), angle = centre, half, math.radians(math.remainder(degrees, 360))
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    projections = (half_width * cos, half_height * sin), (half_width * sin, half_height * cos)
    right, down = (math.hypot(*pair) if ellipse else sum(pair) for pair in projections)
    return x - right, y - down, x + right, y + down


def _points(polygon: Any) -> list[Any]:
    """A polygon's points, from a flat list or from a list of points."""
    if not isinstance(polygon, list):
        raise TypeError(f"found an outline with a {type(polygon).__name__} instead of a polygon")
    if all(isinstance(point, list) for point in polygon):
        return polygon
    if len(polygon) % 2:
        raise TypeError(f"found an outline of {len(polygon)} numbers; expected pairs of x and y")
    return list(zip(polygon[0::2], polygon[1::2], strict=True))


def _pair(point: Any) -> tuple[float, float]:
    x, y = point[:2] if isinstance(point, list | tuple) and len(point) >= 2 else (None, None)
    if type(x) not in {int, float} or type(y) not in {int, float}:
        raise TypeError(f"found a {type(point).__name__} that is not two numbers instead of a point of an outline")
    try:
        return float(x), float(y)
    except OverflowError:
        raise TypeError("found a coordinate of an outline that is too large") from None


def _mask_bounds(mask: dict[str, Any], size_wh: tuple[int, int] | None) -> Box | None:
    height, width = _mask_size(mask.get("size"), size_wh)
    counts = mask.get("counts")
    runs = _decompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != height * width:
        raise TypeError(f"found a mask whose run lengths do not fill its {width} x {height} pixels")
    ends = np.cumsum(np.array(runs, dtype=np.int64))
    first, stop = ends[0:-1:2], ends[1::2]  # every second run is foreground; pixels are counted down one column after the other
    first, stop = first[first < stop], stop[first < stop]
    if not len(first):
        return None
    left, right = first // height, (stop - 1) // height
    wraps = left < right  # a run that continues in the next column touches the image's lower and upper border
    top, bottom = np.where(wraps, 0, first % height), np.where(wraps, height - 1, (stop - 1) % height)
    return float(left.min()), float(top.min()), float(right.max() + 1), float(bottom.max() + 1)


def _mask_size(size: Any, size_wh: tuple[int, int] | None) -> tuple[int, int]:
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise TypeError("found a mask without its size; expected [height, width]")
    height, width = size
    if height * width > MAX_MASK_PIXELS:
        raise TypeError("found a mask with more pixels than any image has")
    if size_wh is not None and size_wh != (width, height):
        raise TypeError(f"found a mask of {width} x {height} pixels in an image of {size_wh[0]} x {size_wh[1]}")
    return height, width


def _decompressed(counts: str) -> list[int]:
    """Run lengths of COCO's compressed RLE: six bits per character; from the third run on, the difference to the last but one.

    pycocotools is not used, since its C code reads past the end of a damaged text.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise TypeError(f"found a mask with the character {character!r}, which is invalid in run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise TypeError("found a mask whose run lengths are cut off")
    return runs

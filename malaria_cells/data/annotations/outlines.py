"""Bounding boxes of outlines and masks, in whichever way an annotation tool writes them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Box = tuple[float, float, float, float]

LARGEST_MASK = 2**53  # pixels; whole numbers beyond it are no longer exact as a float


def outline_bounds(segmentation: Any, size_wh: tuple[int, int] | None) -> Box | None:
    """The bounding box of COCO's `segmentation`: polygons, or a mask in run lengths, compressed or not.

    Args:
        segmentation: a list of polygons (flat lists ``[x1, y1, x2, y2, ..]``, or lists of points), one such flat list, or
            ``{"counts": .., "size": [height, width]}``.
        size_wh: the image's size in pixels, with which a mask's own is compared; None: it is not.

    Returns:
        Left, top, right and bottom in pixels, the latter two outside of it; None where the outline has no polygon of three points or
        more, or the mask no pixel. Coordinates that are not finite are passed on.

    Raises:
        TypeError: anything else; says what was found.

    Examples:
        >>> outline_bounds([[10, 20, 40, 20, 40, 50]], None)
        (10.0, 20.0, 40.0, 50.0)
        >>> outline_bounds({"size": [3, 4], "counts": [4, 1, 7]}, (4, 3))
        (1.0, 1.0, 2.0, 2.0)
    """
    if isinstance(segmentation, dict):
        return _mask_bounds(segmentation, size_wh)
    if not isinstance(segmentation, list):
        raise TypeError(f"found an outline that is a {type(segmentation).__name__}, neither polygons nor a mask")
    polygons = [segmentation] if segmentation and isinstance(segmentation[0], int | float) else segmentation
    points = [point for polygon in polygons if len(own := _points(polygon)) >= 3 for point in own]
    return points_bounds(points) if points else None


def points_bounds(points: Sequence[Sequence[float]]) -> Box:
    """The bounding box of points ``(x, y)``, of which there is at least one; a coordinate that is no number makes its side NaN.

    Raises:
        TypeError: a point that is not two numbers.
    """
    coordinates = np.array([_pair(point) for point in points], dtype=np.float64)
    (left, top), (right, bottom) = coordinates.min(axis=0).tolist(), coordinates.max(axis=0).tolist()
    return left, top, right, bottom


def turned_bounds(centre: tuple[float, float], half: tuple[float, float], degrees: float, *, ellipse: bool) -> Box:
    """The bounding box of a rectangle or an ellipse that is turned about its centre.

    Args:
        centre: x and y in pixels.
        half: half of its width and of its height before it is turned; the radii of an ellipse.
        degrees: by which it is turned.
        ellipse: an ellipse, not a rectangle.

    Examples:
        >>> [round(v) for v in turned_bounds((50, 50), (20, 10), 90, ellipse=False)]
        [40, 30, 60, 70]
    """
    if not all(map(math.isfinite, (*centre, *half, degrees))):
        return math.nan, math.nan, math.nan, math.nan
    (x, y), (across, down), turn = centre, half, math.radians(math.remainder(degrees, 360))
    cos, sin = abs(math.cos(turn)), abs(math.sin(turn))
    parts = (across * cos, down * sin), (across * sin, down * cos)
    width, height = (math.hypot(*p) if ellipse else sum(p) for p in parts)
    return x - width, y - height, x + width, y + height


def _points(polygon: Any) -> list[Any]:
    """A polygon's points, of a flat list or of a list of points."""
    if not isinstance(polygon, list):
        raise TypeError(f"found an outline with a {type(polygon).__name__} in the place of a polygon")
    if all(isinstance(point, list) for point in polygon):
        return polygon
    if len(polygon) % 2:
        raise TypeError(f"found an outline of {len(polygon)} numbers, which are no pairs")
    return list(zip(polygon[0::2], polygon[1::2], strict=True))


def _pair(point: Any) -> tuple[float, float]:
    x, y = point[:2] if isinstance(point, list | tuple) and len(point) >= 2 else (None, None)
    if type(x) not in {int, float} or type(y) not in {int, float}:
        raise TypeError(f"found a {type(point).__name__} that is not two numbers in the place of a point of an outline")
    try:
        return float(x), float(y)
    except OverflowError:
        raise TypeError("found a coordinate of an outline that is too large") from None


def _mask_bounds(mask: dict, size_wh: tuple[int, int] | None) -> Box | None:
    height, width = _mask_size(mask.get("size"), size_wh)
    counts = mask.get("counts")
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != height * width:
        raise TypeError(f"found a mask whose run lengths do not fill its {width} x {height} pixels")
    ends = np.cumsum(np.array(runs, dtype=np.int64))
    first, behind = ends[0:-1:2], ends[1::2]  # every second run is of the cell's pixels, down one column after the other
    first, behind = first[first < behind], behind[first < behind]
    if not len(first):
        return None
    left, right = first // height, (behind - 1) // height
    over = left < right  # a run that goes on in the next column touches the image's lower and upper border
    top, bottom = np.where(over, 0, first % height), np.where(over, height - 1, (behind - 1) % height)
    return float(left.min()), float(top.min()), float(right.max() + 1), float(bottom.max() + 1)


def _mask_size(size: Any, size_wh: tuple[int, int] | None) -> tuple[int, int]:
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise TypeError("found a mask without its size; expected [height, width]")
    height, width = size
    if height * width > LARGEST_MASK:
        raise TypeError("found a mask of more pixels than any image has")
    if size_wh is not None and size_wh != (width, height):
        raise TypeError(f"found a mask of {width} x {height} pixels in an image of {size_wh[0]} x {size_wh[1]}")
    return height, width


def _unpacked(counts: str) -> list[int]:
    """Run lengths of COCO's compressed text: six bits a character, from the third on as the difference to the last but one.

    It is read here, since the C code of pycocotools and its like reads past the end of a damaged text.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise TypeError(f"found a mask with the character {character!r} where no run length has it")
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

"""Draws the cells of a large image without holding it: as a TIFF in tiles with smaller levels, and as an overview.

Viewers of slides (QuPath, OpenSlide, Fiji with Bio-Formats) open such a TIFF at any magnification.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import cv2
import numpy as np

from malaria_cells.base import files
from malaria_cells.base.parallel import cores, imap_ordered
from malaria_cells.data import boxes
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import LargeImage
from malaria_cells.data.images.refusal import UnreadableError
from malaria_cells.data.images.scratch import Scratch
from malaria_cells.data.labels import LabelSet
from malaria_cells.results.overlay import draw_detections
from malaria_cells.results.style import class_colours

TILE = 512  # pixels: sides of a tile, and rows that are drawn at a time
QUALITY = 85  # of JPEG
CELL = 80.0  # pixels: size of a cell in which lines and names have the size that `draw_detections` gives those of a photograph
NAME_REACH = 60  # pixels, if cells have that size: how far a name reaches above its box, and lines beyond it
AT_ONCE = 2  # strips: one is decoded and drawn while another is compressed
SMALL_FILE = 2_900_000_000  # bytes of pixels of an image whose file surely has less than the 4 GB that a plain TIFF may have
OVERVIEW_LINE = 2  # pixels around the boxes of the overview


def write_drawn(path: Path, image: LargeImage, detections: Detections, labels: LabelSet) -> None:
    """Draw the counted cells as `draw_detections` does, into a TIFF that is as large as the image.

    Args:
        path: the file, which is replaced.
        image: the image.
        detections: its cells.
        labels: the classes.

    Raises:
        OSError: the file cannot be written, or there is no room for temporary files.
        InputError: the image is gone or broken.
    """
    import tifffile  # slow to import

    height, width = image.shape[:2]
    is_big = height * width * 3 > SMALL_FILE
    with ExitStack() as opened, files.replacing(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=is_big) as writer:
        opened.enter_context(closing(image))
        strips, size_wh, level = _drawn_strips(image, detections, labels), (width, height), 0
        while True:
            is_last = max(size_wh) <= 2 * TILE or min(size_wh) < 2
            smaller = None if is_last else opened.enter_context(closing(_room((size_wh[0] // 2, size_wh[1] // 2))))
            writer.write(
                _tiles(strips, smaller),
                shape=(size_wh[1], size_wh[0], 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",  # of the pixels; with a subsampling, JPEG stores YCbCr
                subsampling=(1, 1),  # lines are thin and coloured
                compression="jpeg",
                compressionargs={"level": QUALITY},
                subfiletype=1 if level else 0,
                metadata=None,
                maxworkers=cores(),
                buffersize=2**25,
            )
            if smaller is None:
                return
            strips, size_wh, level = _strips(smaller), smaller.size_wh, level + 1


def overview(image: LargeImage, detections: Detections, labels: LabelSet) -> np.ndarray:
    """A small picture of a large image with the places of all counted cells but healthy red cells: uint8 RGB (h, w, 3)."""
    scene = image.overview.reduced.copy()
    counted = detections[detections.counted_as >= 0]
    loud = counted[~labels.is_healthy_red_cell[counted.counted_as]]
    scale = np.array([scene.shape[1] / image.shape[1], scene.shape[0] / image.shape[0]] * 2)
    colours = [tuple(bytes.fromhex(c.removeprefix("#"))) for c in class_colours(labels, labels.is_healthy_red_cell).values()]
    around = np.rint(loud.xyxy * scale + np.array([-1, -1, 1, 1]) * 2 * OVERVIEW_LINE).astype(int).tolist()
    for (left, top, right, bottom), label in zip(around, loud.counted_as.tolist(), strict=True):
        cv2.rectangle(scene, (left, top), (right, bottom), colours[label], OVERVIEW_LINE)
    return scene


def _drawn_strips(image: LargeImage, detections: Detections, labels: LabelSet) -> Iterator[np.ndarray]:
    """Yield the image from top to bottom with its cells, uint8 RGB (TILE or fewer, W, 3); what crosses strips is drawn in each."""
    height, width = image.shape[:2]
    sizes = boxes.cell_sizes(detections.xyxy)
    unit = max(float(np.median(sizes)) / CELL, 0.5) if len(sizes) else 1.0
    reach = NAME_REACH * unit
    whole = np.floor(detections.xyxy)

    def drawn(top: int) -> np.ndarray:
        rows = min(TILE, height - top)
        is_here = (whole[:, 1] - reach < top + rows) & (whole[:, 3] + reach > top)
        here = detections[is_here]
        moved = Detections.from_boxes(whole[is_here] - np.array([0, top, 0, top], np.float32), here.class_id, here.confidence)
        counted = Detections(**{**vars(moved), "counted_as": here.counted_as})
        return draw_detections(image.read(0, top, width, rows), counted, labels, unit=unit)

    for _, strip in imap_ordered(drawn, range(0, height, TILE), AT_ONCE):
        yield strip.result()


def _strips(level: Scratch) -> Iterator[np.ndarray]:
    width, height = level.size_wh
    for top in range(0, height, TILE):
        yield level.read(0, top, width, min(TILE, height - top))


def _room(size_wh: tuple[int, int]) -> Scratch:
    try:
        return Scratch(size_wh)
    except UnreadableError as error:
        raise OSError(str(error)) from None


def _tiles(strips: Iterator[np.ndarray], smaller: Scratch | None) -> Iterator[np.ndarray]:
    """Cut strips into tiles, padded with white; and write the image at half the size."""
    top = 0
    for strip in strips:
        height, width = strip.shape[:2]
        if smaller is not None and height > 1:
            half = cv2.resize(strip[: height & -2, : width & -2], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
            smaller.write(top // 2, half)
        top += height
        for left in range(0, width, TILE):
            part = strip[:, left : left + TILE]
            missing = ((0, TILE - part.shape[0]), (0, TILE - part.shape[1]), (0, 0))
            yield np.ascontiguousarray(part) if not any(after for _, after in missing) else np.pad(part, missing, constant_values=255)

"""Images that were dropped on the page, and what the networks saw in them, once."""

import functools
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import supervision as sv
from PIL import Image

from malaria_cells.base.errors import InputError
from malaria_cells.data.images import SUFFIXES, image_size, read_image
from malaria_cells.data.sample import Slide, render_smear
from malaria_cells.inference.counting import counted_ids
from malaria_cells.inference.detector import Predictions
from malaria_cells.inference.familiarity import Familiarity

MOST_MEGABYTES = 50  # of a file
MOST_MEGAPIXELS = 50  # of an image: some 150 MB in memory
SAMPLE = "sample smear.png"
SAMPLE_SEED = 0


@dataclass(frozen=True)
class UploadedImage:
    """An image with the networks' answers, from which any threshold is decided without asking them again.

    Attributes:
        name: of the file.
        content: of the file, byte by byte: by that corrections are known to be of the same image.
        pixels: uint8 RGB (H, W, 3).
        predictions: see `detection.Detector.predict`.
        familiarity: how like the training images it is; None where the model does not know.
    """

    name: str
    content: bytes
    pixels: np.ndarray
    predictions: Predictions
    familiarity: Familiarity | None = None


def read_upload(name: str, content: bytes) -> np.ndarray:
    """Read a dropped file by the one reader of images: uint8 RGB (H, W, 3).

    Raises:
        InputError: no image, a broken one, or one over the page's limits; in a sentence for the page.
    """
    if len(content) > MOST_MEGABYTES * 1e6:
        raise InputError(
            f"{name} has {len(content) / 1e6:.0f} MB; the page takes up to {MOST_MEGABYTES} MB a file. run.py takes larger ones."
        )
    suffix = PurePath(name).suffix.lower()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{suffix if suffix in SUFFIXES else '.png'}"
        path.write_bytes(content)
        try:
            width, height = image_size(path)
            if width * height > MOST_MEGAPIXELS * 1e6:
                raise InputError(
                    f"{path} has {width} x {height} pixels; the page takes up to {MOST_MEGAPIXELS} megapixels. run.py takes larger ones."
                )
            return read_image(path)
        except InputError as error:
            raise InputError(str(error).replace(str(path), name)) from error


@functools.cache
def sample_smear() -> bytes:
    """A rendered image to try the page with, always the same: a PNG file's content."""
    rng = np.random.default_rng(SAMPLE_SEED)
    buffer = io.BytesIO()
    Image.fromarray(render_smear(Slide.draw(rng), rng).image).save(buffer, format="PNG")
    return buffer.getvalue()


def counted_cells(found: sv.Detections) -> sv.Detections:
    """Detections above the counting thresholds, with class_id set to the counted label.

    ``data["index"]`` is their place among all detections, which thresholds do not change.
    """
    if not len(found):
        return found
    found.data["index"] = np.arange(len(found))
    kept = found[counted_ids(found) >= 0]
    kept.class_id = counted_ids(kept)
    return kept

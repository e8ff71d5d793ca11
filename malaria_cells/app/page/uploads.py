"""The images that were uploaded to the page, with the predictions of the networks."""

import functools
import io
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from malaria_cells.base.errors import InputError
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import SUFFIXES, image_size, read_image
from malaria_cells.data.sample import Slide, render_smear
from malaria_cells.inference.detector import Predictions
from malaria_cells.inference.familiarity import Familiarity

MAX_MEGABYTES = 50  # MB, size of a file
MAX_IMAGES = 200  # images at a time; their pixels stay in memory as long as they are shown
MAX_MEGAPIXELS = 50  # megapixels of an image, 150 MB in memory
SAMPLE = "sample smear.png"
SAMPLE_SEED = 0


@dataclass(frozen=True)
class UploadedImage:
    """An image with the networks' predictions, to which any thresholds can be applied without another prediction.

    Attributes:
        name: file name.
        content: bytes of the file, by which corrections of the same image are recognised.
        pixels: uint8 RGB (H, W, 3).
        predictions: see `Detector.predict`.
        familiarity: similarity to the training images; None if the model holds no statistics of them.
    """

    name: str
    content: bytes
    pixels: np.ndarray
    predictions: Predictions
    familiarity: Familiarity | None = None


def read_upload(name: str, content: bytes) -> np.ndarray:
    """Read an uploaded file with `read_image`: uint8 RGB (H, W, 3).

    Raises:
        InputError: the file is no image, is damaged, or exceeds the page's limits; the message names the uploaded file.
    """
    if len(content) > MAX_MEGABYTES * 1e6:
        raise InputError(
            f"{name} has {len(content) / 1e6:.0f} MB; the page takes files of up to {MAX_MEGABYTES} MB. run.py takes larger ones."
        )
    suffix = PurePath(name).suffix.lower()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{suffix if suffix in SUFFIXES else '.png'}"
        path.write_bytes(content)
        try:
            width, height = image_size(path)
            if width * height > MAX_MEGAPIXELS * 1e6:
                raise InputError(
                    f"{path} has {width} x {height} pixels; the page takes up to {MAX_MEGAPIXELS} megapixels. run.py takes larger images."
                )
            return read_image(path)
        except InputError as error:
            raise InputError(str(error).replace(str(path), name)) from error


@functools.cache
def sample_smear() -> bytes:
    """A rendered image to try the page with, always the same, as the content of a PNG file."""
    rng = np.random.default_rng(SAMPLE_SEED)
    buffer = io.BytesIO()
    Image.fromarray(render_smear(Slide.draw(rng), rng).image).save(buffer, format="PNG")
    return buffer.getvalue()


def counted_cells(detections: Detections) -> Detections:
    """Detections above the counting thresholds, with `class_id` set to the counted label."""
    counted = detections[detections.counted_as >= 0]
    return replace(counted, class_id=counted.counted_as)

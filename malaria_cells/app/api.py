"""The Python API. All its names can be imported from `malaria_cells`."""

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.base.parallel import imap_ordered
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import open_image
from malaria_cells.data.patches import crop_boxes
from malaria_cells.data.stain import Stain
from malaria_cells.inference.counting import Count, count_detected, total
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.explain import Explainer
from malaria_cells.inference.familiarity import Familiarity
from malaria_cells.inference.model_folder import load_by_engine, shipped
from malaria_cells.inference.two_stage_detector import TwoStageDetector
from malaria_cells.results.overlay import draw_detections

EXPLAINED_SIZE = 300  # pixels, side of a Grad-CAM overlay


class CellDetector:
    """A trained detector, ready for images.

    Examples:
        >>> from malaria_cells import CellDetector
        >>> detector = CellDetector.load("pretrained/thin_smear")
        >>> detector.labels
        ('red blood cell', 'leukocyte', 'gametocyte', 'ring', 'trophozoite', 'schizont', 'platelet')
        >>> detections = detector.detect("docs/images/smear.jpg")
        >>> 50 < detector.count(detections).red_cells < 100
        True
    """

    def __init__(self, detector: Detector, folder: Path, engine: str | None = None):
        self._detector = detector
        self._folder = folder
        self.engine = engine

    @classmethod
    def load(
        cls, folder: str | Path | None = None, engine: str = "auto", cell_size: float | None = None, threads: int | None = None
    ) -> "CellDetector":
        """Load a model folder.

        Args:
            folder: model folder that ``train.py`` or ``malaria-cells export`` wrote; None: the shipped model, which `run.py` uses too.
            engine: ``keras``, ``onnx``, ``openvino``, ``litert`` or ``savedmodel``; ``auto``: the fastest of those whose files the folder
                holds and that are installed. The attribute `engine` is the one that runs.
            cell_size: median longer side of a cell in your images, in pixels; None: the size of the training images, unless the
                size estimated from an image clearly differs.
            threads: number of threads that ONNX Runtime takes for an image; None: one for each core, which is best for one image at a
                time. With 1, `detect_each` is faster, since it works on as many images at once.

        Raises:
            InputError: the folder is no model folder or is damaged, or the engine is not installed, or the model was not exported for it.

        Examples:
            >>> CellDetector.load("docs")
            Traceback (most recent call last):
            ...
            malaria_cells.InputError: docs: not a model folder, model.yaml is missing; train.py writes one, below `output_models`
        """
        folder = shipped() if folder is None else Path(folder)
        detector, description, chosen = load_by_engine(folder, engine, threads)
        if not description.has_background:
            raise InputError(f"{folder}: this model classifies whole images and detects no cells; use run.py --mode classify")
        if cell_size is not None:
            if not isinstance(detector, TwoStageDetector):
                raise InputError(
                    f"cell_size: {folder} is a one-stage {description.detector} detector, which scales whole images to its input; "
                    "leave cell_size out"
                )
            detector = detector.with_cell_size(cell_size)
        return cls(detector, folder, chosen)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; `class_id` of a detection is an index into them."""
        return self._detector.labels.names

    def detect(self, image: str | Path | np.ndarray) -> Detections:
        """Detect and classify the cells of one image.

        Args:
            image: path of an image file, or uint8 RGB (H, W, 3), upright, values 0 to 255. Of a file of more than 100 million pixels only
                regions are read.

        Returns:
            Detections, best score first: boxes in pixels, right and bottom exclusive; calibrated probabilities. `Detections` describes
            shapes and ranges.

        Raises:
            InputError: the file cannot be read, or the array has another type or shape.

        Examples:
            >>> detections = CellDetector.load("pretrained/thin_smear").detect("docs/images/smear.jpg")
            >>> detections.xyxy.shape[1], detections.probabilities.shape[1]
            (4, 8)
        """
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise InputError(f"image: expected uint8 RGB (H, W, 3), found {image.dtype} {image.shape}; see read_image")
        elif not isinstance(image, str | os.PathLike):
            raise InputError(f"image: expected a file or a NumPy array, found {type(image).__name__}; numpy.asarray may convert it")
        return self._detector.detect(image)

    def detect_each(self, images: Iterable[str | Path | np.ndarray]) -> Iterator[Detections]:
        """Detect and classify the cells of many images in parallel, a fifth faster than a loop. Results are in the order of the images.

        Args:
            images: files or arrays as for `detect`. They are taken when they are needed, so a generator fills no memory.

        Raises:
            InputError: an image cannot be read, see `detect`; raised after the results of the images before it.

        Examples:
            >>> detector = CellDetector.load("pretrained/thin_smear")
            >>> detections = list(detector.detect_each(["docs/images/smear.jpg"] * 3))
            >>> detector.count(*detections).red_cells == 3 * detector.count(detections[0]).red_cells
            True
        """
        for _, detecting in imap_ordered(self.detect, images):
            yield detecting.result()

    def count(self, *detections: Detections) -> Count:
        """Count the cells of one or more images.

        Returns:
            ``by_label``, int (n_labels,); ``infected`` and ``red_cells``, int; ``parasitemia``, 0 to 1, or None without red cells.

        Examples:
            >>> detector = CellDetector.load("pretrained/thin_smear")
            >>> counted = detector.count(detector.detect("docs/images/smear.jpg"))
            >>> counted.infected <= counted.red_cells
            True
        """
        labels = self._detector.labels
        return total((count_detected(of_image, labels) for of_image in detections), labels)

    def familiarity(self, image: str | Path | np.ndarray, detections: Detections) -> Familiarity | None:
        """Compare an image with the training images; None if the model holds no statistics of the training images.

        Args:
            image: uint8 RGB (H, W, 3), see `read_image`; or the file, which need not fit into the memory.
            detections: all detections that `detect` returned for the image.

        Returns:
            ``level``: ``familiar``, ``unusual`` or ``unlike anything learned``, for which a parasitemia is meaningless; ``reason``, a
            sentence; ``distance`` to the training images and ``nearest`` data set; ``infection_known``, whether the training data sets
            that the image resembles have infected cells; ``is_as_learned``, whether ``level`` is familiar and ``infection_known`` holds.

        Examples:
            >>> from malaria_cells import read_image
            >>> detector, image = CellDetector.load("pretrained/thin_smear"), read_image("docs/images/smear.jpg")
            >>> verdict = detector.familiarity(image, detector.detect(image))
            >>> verdict is None or verdict.level in {"familiar", "unusual", "unlike anything learned"}
            True
        """
        return self._detector.familiarity(image if isinstance(image, np.ndarray) else open_image(image), detections)

    def interval(self, counted: Count, *familiarities: Familiarity | None) -> tuple[float, float] | None:
        """95 % interval of the parasitemia, 0 to 1, which accounts for the detector's errors (see `Count.interval`).

        Args:
            counted: cells of one or more images, see `count`.
            familiarities: familiarity of each image, see `familiarity`. If ``is_as_learned`` is false for one, the error rates are those
                measured on laboratories left out of training. The interval is None if these were not measured, except for familiar images.

        Examples:
            >>> detector = CellDetector.load("pretrained/thin_smear")
            >>> low, high = detector.interval(detector.count(detector.detect("docs/images/smear.jpg")))
            >>> 0 <= low <= high <= 1
            True
        """
        return counted.interval(self._detector.errors_for(*familiarities))

    def draw(self, image: np.ndarray, detections: Detections) -> np.ndarray:
        """Draw the counted cells on a copy of an image, uint8 RGB (H, W, 3), with infected cells highlighted.

        Examples:
            >>> from malaria_cells import read_image
            >>> detector, image = CellDetector.load("pretrained/thin_smear"), read_image("docs/images/smear.jpg")
            >>> detector.draw(image, detector.detect(image)).shape == image.shape
            True
        """
        return draw_detections(image, detections, self._detector.labels)

    @cached_property
    def _explainer(self) -> Explainer:
        return Explainer.load(self._folder)

    def explain(self, image: np.ndarray, box_xyxy: np.ndarray, label: str) -> np.ndarray:
        """Draw a Grad-CAM map of the evidence for a label in a cell (see `inference.explain`).

        Args:
            image: uint8 RGB (H, W, 3).
            box_xyxy: box of the cell, (4,), pixels.
            label: one of `labels`.

        Returns:
            uint8 RGB (300, 300, 3): the cell with its surroundings, bright where the evidence is.

        Raises:
            InputError: the label is unknown, or the detector is one-stage or exported and has no Keras classifier.

        Examples:
            >>> from malaria_cells import read_image
            >>> detector, image = CellDetector.load("pretrained/thin_smear"), read_image("docs/images/smear.jpg")
            >>> detector.explain(image, detector.detect(image).xyxy[0], "ring").shape
            (300, 300, 3)
        """
        if label not in self.labels:
            raise InputError(f"label: '{label}' is not one of {', '.join(self.labels)}")
        patch = crop_boxes(image, np.asarray(box_xyxy)[None], self._explainer.context, (EXPLAINED_SIZE, EXPLAINED_SIZE))
        return self._explainer.overlays(patch, label, [Stain.of(image)])[0]

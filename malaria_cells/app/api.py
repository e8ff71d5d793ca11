"""What programs use: few names, all importable from `malaria_cells` itself."""

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import supervision as sv

from malaria_cells.base.errors import InputError
from malaria_cells.base.parallel import imap_ordered
from malaria_cells.data.patches import crop_boxes
from malaria_cells.data.stain import Stain
from malaria_cells.inference.counting import Count, count_detected, total
from malaria_cells.inference.detector import Detector, TwoStageDetector
from malaria_cells.inference.explain import Explainer
from malaria_cells.inference.familiarity import Familiarity
from malaria_cells.inference.model_folder import load_detector, shipped
from malaria_cells.results.overlay import draw_detections

EXPLAINED = 300  # pixels a side


class CellDetector:
    """A trained detector, ready for images.

    Examples:
        >>> from malaria_cells import CellDetector
        >>> detector = CellDetector.load("pretrained/thin_smear")
        >>> detector.labels
        ('red blood cell', 'leukocyte', 'gametocyte', 'ring', 'trophozoite', 'schizont', 'platelet')
        >>> found = detector.detect("docs/images/smear.jpg")
        >>> 50 < detector.count(found).red_cells < 100
        True
    """

    def __init__(self, detector: Detector, folder: Path):
        self._detector = detector
        self._folder = folder

    @classmethod
    def load(cls, folder: str | Path | None = None, engine: str | None = None, cell_size: float | None = None) -> "CellDetector":
        """Load a model folder.

        Args:
            folder: as ``train.py`` or ``malaria-cells export`` wrote it; None: the shipped model, as `run.py` uses it.
            engine: ``keras``, ``onnx``, ``openvino``, ``litert`` or ``savedmodel``; None: what the folder holds.
            cell_size: median longer side of a cell in your images in pixels; None: as in the training, or an image's own where
                it is plainly another.

        Raises:
            InputError: no model folder, a damaged one, an engine that it was not exported for or that is not installed.

        Examples:
            >>> CellDetector.load("docs")
            Traceback (most recent call last):
            ...
            malaria_cells.InputError: docs: not a model folder, model.yaml is missing; train.py writes one, below `output_models`
        """
        folder = shipped() if folder is None else Path(folder)
        detector, description = load_detector(folder, engine)
        if not description.has_background:
            raise InputError(f"{folder}: classifies whole images and detects no cells; use run.py --mode classify")
        if cell_size is not None:
            if not isinstance(detector, TwoStageDetector):
                raise InputError(f"cell_size: {folder} is a {description.detector} detector, which fits whole images to its input")
            detector = detector.with_cell_size(cell_size)
        return cls(detector, folder)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; `class_id` of a detection is an index into them."""
        return self._detector.labels.names

    def detect(self, image: str | Path | np.ndarray) -> sv.Detections:
        """Find and name the cells of one image.

        Args:
            image: a file, or uint8 RGB (H, W, 3), upright, values 0 to 255.

        Returns:
            Detections, best score first: ``xyxy``, float32 (n, 4), pixels, right and bottom exclusive; ``confidence``, float32
            (n,), 0 to 1; ``class_id``, int (n,); in ``data``: ``class_name``; ``probabilities``, float32 (n, n_labels + 1),
            calibrated, the last being "no cell"; ``objectness``, float32 (n,), the probability of being a cell; ``label_scores``,
            float32 (n, n_labels), what it is ranked by under each label that it may have, 0 under others; ``counted_as``, int (n,),
            the label that it counts as at the operating thresholds, -1 for a mere suspicion.

        Raises:
            InputError: a file that cannot be read, or an array of another format.

        Examples:
            >>> found = CellDetector.load("pretrained/thin_smear").detect("docs/images/smear.jpg")
            >>> found.xyxy.shape[1], found.data["probabilities"].shape[1]
            (4, 8)
        """
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise InputError(f"image: expected uint8 RGB (H, W, 3), found {image.dtype} {image.shape}; see read_image")
        elif not isinstance(image, str | os.PathLike):
            raise InputError(f"image: expected a file or a NumPy array, found {type(image).__name__}; numpy.asarray may make one of it")
        return self._detector.detect(image)

    def detect_each(self, images: Iterable[str | Path | np.ndarray]) -> Iterator[sv.Detections]:
        """Find and name the cells of many images: in their order, some at once, which takes a fifth less time than a loop.

        Args:
            images: each as for `detect`; taken as they are needed, so that a generator fills no memory.

        Raises:
            InputError: as `detect`, when it is the image's turn; the images before have been handed out.

        Examples:
            >>> detector = CellDetector.load("pretrained/thin_smear")
            >>> found = list(detector.detect_each(["docs/images/smear.jpg"] * 3))
            >>> detector.count(*found).red_cells == 3 * detector.count(found[0]).red_cells
            True
        """
        for _, detecting in imap_ordered(self.detect, images):
            yield detecting.result()

    def count(self, *detections: sv.Detections) -> Count:
        """Count the cells of one or more images.

        Returns:
            ``by_label``, int (n_labels,); ``infected`` and ``red_cells``; ``parasitemia``, a fraction of 1, or None without
            red cells.

        Examples:
            >>> detector = CellDetector.load("pretrained/thin_smear")
            >>> counted = detector.count(detector.detect("docs/images/smear.jpg"))
            >>> counted.infected <= counted.red_cells
            True
        """
        labels = self._detector.labels
        return total((count_detected(found, labels) for found in detections), labels)

    def familiarity(self, image: np.ndarray, detections: sv.Detections) -> Familiarity | None:
        """How like the training images an image is; None of a model that does not know what those look like.

        Args:
            image: uint8 RGB (H, W, 3), see `read_image`.
            detections: what `detect` found in it, all of them.

        Returns:
            ``level``: ``familiar``, ``unusual`` or ``unlike anything learned``; the ``reason`` in words; ``distance`` and ``nearest``;
            ``infection_known``, whether the data sets that it is like have infected cells; and ``is_as_learned``, whether it is
            familiar and they have. A parasitemia of the last level means nothing.

        Examples:
            >>> from malaria_cells import read_image
            >>> detector, image = CellDetector.load("pretrained/thin_smear"), read_image("docs/images/smear.jpg")
            >>> verdict = detector.familiarity(image, detector.detect(image))
            >>> verdict is None or verdict.level in {"familiar", "unusual", "unlike anything learned"}
            True
        """
        return self._detector.familiarity(image, detections)

    def interval(self, counted: Count, *familiarities: Familiarity | None) -> tuple[float, float] | None:
        """95 % interval of the parasitemia, fractions of 1, the detector's own errors included (see `Count.interval`).

        Args:
            counted: cells of one or more images.
            familiarities: theirs. With one that is not as learned the interval is that of laboratories that the training left out; where
                errors there were not measured it is None, but for familiar images.

        Examples:
            >>> detector = CellDetector.load("pretrained/thin_smear")
            >>> low, high = detector.interval(detector.count(detector.detect("docs/images/smear.jpg")))
            >>> 0 <= low <= high <= 1
            True
        """
        return counted.interval(self._detector.errors_for(*familiarities))

    def draw(self, image: np.ndarray, detections: sv.Detections) -> np.ndarray:
        """Draw the counted cells on a copy of an image, uint8 RGB (H, W, 3), infected ones standing out.

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
        """Draw what of a cell speaks for a label, by Grad-CAM (see `explain`).

        Args:
            image: uint8 RGB (H, W, 3).
            box_xyxy: of the cell, (4,), pixels.
            label: one of `labels`.

        Returns:
            uint8 RGB (300, 300, 3): the cell with its surroundings, bright where the evidence is.

        Raises:
            InputError: an unknown label; a one-stage or exported detector, which has no classifier to ask.

        Examples:
            >>> from malaria_cells import read_image
            >>> detector, image = CellDetector.load("pretrained/thin_smear"), read_image("docs/images/smear.jpg")
            >>> detector.explain(image, detector.detect(image).xyxy[0], "ring").shape
            (300, 300, 3)
        """
        if label not in self.labels:
            raise InputError(f"label: '{label}' is not one of {', '.join(self.labels)}")
        patch = crop_boxes(image, np.asarray(box_xyxy)[None], self._explainer.context, (EXPLAINED, EXPLAINED))
        return self._explainer.overlays(patch, label, [Stain.of(image)])[0]

"""Annotated images in memory, independent of the file format that they were read from."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.labels import LabelSet

MAX_SIZE_RATIO = 1.3  # ratio of two images' median cell sizes, up to which they count as photographed at the same magnification


@dataclass(frozen=True)
class AnnotatedImage:
    """One annotated image.

    Attributes:
        key: path relative to the data set's folder, with forward slashes; identifies the image everywhere.
        path: path of the image file.
        size_wh: width and height of the upright image in pixels.
        group: name of the slide or patient, all of whose images stay in one part of a split; the key itself without grouping.
        boxes_xyxy: float32 (n, 4), in pixels, clipped to the image, with a positive area.
        class_ids: int64 (n,), indices into the labels; -1 for ignore regions without a class.
        ignore: bool (n,), True for ignore regions, which are neither trained on nor scored.
        part: ``train``, ``validation`` or ``test``, if the data set itself assigns the image to one; else None.
        whole: True if the image has one label as a whole (classification); its only box is the entire image.
        data_set: name of the data set that the image comes from; empty if there is only one.
        unannotated: ids of the classes that the data set does not annotate; cells of these classes may lie outside every box.
        weight: sampling weight of the image in training, relative to the other images.
        one_of: ids of the candidate classes of a single-cell image with a coarse label; empty: `class_ids` holds the class.
    """

    key: str
    path: Path
    size_wh: tuple[int, int]
    group: str
    boxes_xyxy: np.ndarray
    class_ids: np.ndarray
    ignore: np.ndarray
    part: str | None = None
    whole: bool = False
    data_set: str = ""
    unannotated: tuple[int, ...] = ()
    weight: float = 1.0
    one_of: tuple[int, ...] = ()

    @property
    def cells_xyxy(self) -> np.ndarray:
        """Boxes of the cells, without ignore regions: float32 (m, 4), in pixels."""
        return self.boxes_xyxy[~self.ignore]

    @property
    def cell_class_ids(self) -> np.ndarray:
        """Class ids of `cells_xyxy`: int64 (m,)."""
        return self.class_ids[~self.ignore]

    @property
    def ignored_xyxy(self) -> np.ndarray:
        """Boxes of the ignore regions: float32 (k, 4), in pixels."""
        return self.boxes_xyxy[self.ignore]


@dataclass(frozen=True)
class AnnotationSet:
    """Images with boxes, in the order of their keys, and the labels that the class ids refer to.

    Attributes:
        labels: names and meanings of the classes.
        images: one entry per image, including images without boxes.
        issues: annotation warnings, one line for each kind of fault that was corrected or left out.
        read_as: the recognised format and its files, as text.

    Examples:
        >>> no_boxes = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
        >>> field = AnnotatedImage("slide1/a.png", Path("slide1/a.png"), (640, 480), "slide1", *no_boxes)
        >>> annotations = AnnotationSet(LabelSet(("cell",)), (field,))
        >>> len(annotations), annotations.class_counts.tolist()
        (1, [0])
    """

    labels: LabelSet
    images: tuple[AnnotatedImage, ...]
    issues: tuple[str, ...] = ()
    read_as: str = ""

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, keys: Iterable[str]) -> "AnnotationSet":
        """The annotation set restricted to the given keys, in this set's order."""
        wanted = set(keys)
        return replace(self, images=tuple(image for image in self.images if image.key in wanted))

    def by_data_set(self) -> "dict[str, AnnotationSet]":
        """One annotation set per data set, by its name, sorted by name; a single data set without a name has the empty one."""
        names = sorted({image.data_set for image in self.images})
        return {name: replace(self, images=tuple(image for image in self.images if image.data_set == name)) for name in names}

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Number of cells of each class: int64 (n_labels,); ignore regions are not counted."""
        return self.class_counts_by_image.sum(axis=0)

    @cached_property
    def class_counts_by_image(self) -> np.ndarray:
        """Number of cells of each class in each image: int64 (n_images, n_labels)."""
        counts = [np.bincount(image.cell_class_ids, minlength=len(self.labels)) for image in self.images]
        return np.array(counts, dtype=np.int64).reshape(len(self.images), len(self.labels))

    @cached_property
    def whole(self) -> bool:
        """Whether every image has one label as a whole (classification) instead of boxes."""
        return all(image.whole for image in self.images)

    def sizing_cells(self, image: AnnotatedImage) -> np.ndarray:
        """Boxes that an image's cell size is measured on: float32 (n, 4), in pixels.

        They are the red cells if the set has any, else all cells: leukocytes are twice as large as red cells and frequent in some images.
        """
        is_red = self.labels.is_red_cell
        return image.cells_xyxy[is_red[image.cell_class_ids]] if self.class_counts[is_red].any() else image.cells_xyxy

    @cached_property
    def median_cell_size(self) -> float:
        """Median of the longer sides of all cells (of red cells, see `sizing_cells`), in pixels; 0 without cells.

        If images of several magnifications are combined, only images of the most frequent one are used, since the median of all could
        be a size that no image has. Single-cell images are used only if the set has no other images.
        """
        cells = [self.sizing_cells(image) for image in self.images if self.whole or not image.whole]
        medians = [boxes.median_size(cells_xyxy) for cells_xyxy in cells]
        sizes = np.sort([size for size in medians if size is not None])
        low, high = 0.0, np.inf
        if len(sizes):
            n_similar = np.searchsorted(sizes, sizes * MAX_SIZE_RATIO, "right") - np.searchsorted(sizes, sizes / MAX_SIZE_RATIO)
            low, high = sizes[n_similar.argmax()] / MAX_SIZE_RATIO, sizes[n_similar.argmax()] * MAX_SIZE_RATIO
        counted = [cells_xyxy for cells_xyxy, size in zip(cells, medians, strict=True) if size is None or low <= size <= high]
        return float(np.median(boxes.cell_sizes(np.concatenate(counted)))) if sum(map(len, counted)) else 0.0

    @property
    def is_of_several_sets(self) -> bool:
        """Whether the images come from several data sets."""
        return len({image.data_set for image in self.images}) > 1

    @cached_property
    def median_cell_sizes(self) -> dict[str, float]:
        """`median_cell_size` of each data set with cells, by its name."""
        return {name: part.median_cell_size for name, part in self.by_data_set().items() if part.median_cell_size > 0}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the annotation (labels; keys, sizes, groups and boxes of the images), but not of the images' pixels."""
        digest = hashlib.blake2b(repr(self.labels).encode(), digest_size=16)
        for image in self.images:
            digest.update(f"\0{image.key}\0{image.size_wh}\0{image.group}\0".encode())
            for array in (image.boxes_xyxy, image.class_ids, image.ignore):
                digest.update(np.ascontiguousarray(array).tobytes())
            # These are hashed only if set, so that other annotations keep the hash by which earlier versions named their patch stores.
            if image.whole:
                digest.update(b"\0whole")
            if image.unannotated:
                digest.update(f"\0unannotated{image.unannotated}".encode())
            if image.one_of:
                digest.update(f"\0one of{image.one_of}".encode())
        return digest.hexdigest()

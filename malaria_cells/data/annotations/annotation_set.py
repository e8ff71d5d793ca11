"""The one in-memory format of annotated images that everything after the readers works on."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.labels import LabelSet

ALIKE = 1.3  # times: as much as the median cell of one image may be larger than another's at the same magnification


@dataclass(frozen=True)
class AnnotatedImage:
    """One annotated image.

    Attributes:
        key: path relative to the data set's folder, with forward slashes; what everything is keyed by.
        path: where the file is.
        size_wh: width and height of the upright image in pixels.
        group: images of one group (a slide, a patient) never straddle a split; the key itself where nothing groups.
        boxes_xyxy: float32 (n, 4), pixels, inside the image, with area.
        class_ids: int64 (n,), index into the labels; -1 for ignore regions of no class.
        ignore: bool (n,), True for regions that are neither trained on nor scored.
        part: ``train``, ``validation`` or ``test``, where the data set itself says so.
        whole: the one label is of the image as a whole, which is the only box.
        data_set: name of the data set that the image comes from; empty where there is only one.
        unannotated: ids of the classes that the annotators of its data set did not mark: where no box is, there may be such a cell.
        weight: how often the image is shown in training, relative to others.
        one_of: of an image of a single cell, ids of the classes of which its label says that it is one; empty: `class_ids` says which.
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
        """Boxes that are not ignore regions: float32 (m, 4)."""
        return self.boxes_xyxy[~self.ignore]

    @property
    def cell_class_ids(self) -> np.ndarray:
        """Class ids of `cells_xyxy`: int64 (m,)."""
        return self.class_ids[~self.ignore]

    @property
    def ignored_xyxy(self) -> np.ndarray:
        """Ignore regions: float32 (k, 4)."""
        return self.boxes_xyxy[self.ignore]


@dataclass(frozen=True)
class AnnotationSet:
    """Images with boxes, in the order of their keys, and the labels that the class ids refer to.

    Attributes:
        labels: names and meanings of the classes.
        images: one entry an image, those without boxes included.
        issues: one line for each kind of fault that was met and mended or dropped, as it was warned of.
        read_as: the format that was recognised, with its files, in words.

    Examples:
        >>> nothing = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
        >>> field = AnnotatedImage("slide1/a.png", Path("slide1/a.png"), (640, 480), "slide1", *nothing)
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
        """The images with the given keys, in this set's order."""
        wanted = set(keys)
        return replace(self, images=tuple(p for p in self.images if p.key in wanted))

    def by_data_set(self) -> "dict[str, AnnotationSet]":
        """The images of each data set by its name, in the order of the names; one set under an empty name where there is only one."""
        names = sorted({p.data_set for p in self.images})
        return {name: replace(self, images=tuple(p for p in self.images if p.data_set == name)) for name in names}

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Cells of each class: int64 (n_labels,); ignore regions are not counted."""
        return self.class_counts_by_image.sum(axis=0)

    @cached_property
    def class_counts_by_image(self) -> np.ndarray:
        """Cells of each class in each image: int64 (n_images, n_labels)."""
        counts = [np.bincount(p.cell_class_ids, minlength=len(self.labels)) for p in self.images]
        return np.array(counts, dtype=np.int64).reshape(len(self.images), len(self.labels))

    @cached_property
    def whole(self) -> bool:
        """Whether labels are of whole images, not of boxes."""
        return all(p.whole for p in self.images)

    def sizing_cells(self, image: AnnotatedImage) -> np.ndarray:
        """Boxes by which the magnification of an image is told: red cells where the set has any, else all cells: float32 (n, 4).

        Leukocytes are twice as large as red cells, and a photographer who looks for them has many in his images.
        """
        is_red = self.labels.is_red_cell
        return image.cells_xyxy[is_red[image.cell_class_ids]] if self.class_counts[is_red].any() else image.cells_xyxy

    @cached_property
    def median_cell_size(self) -> float:
        """Median of the longer sides of all cells (of red cells, see `sizing_cells`), in pixels; 0 without cells.

        Where images of several magnifications are put together, it is that of the commonest one: else it could be a size that no
        image has. Images of single cells do not count beside images.
        """
        cells = [self.sizing_cells(p) for p in self.images if self.whole or not p.whole]
        by_image = [boxes.median_size(own) for own in cells]
        own = np.sort([size for size in by_image if size is not None])
        low, high = 0.0, np.inf
        if len(own):
            alike = np.searchsorted(own, own * ALIKE, "right") - np.searchsorted(own, own / ALIKE)
            low, high = own[alike.argmax()] / ALIKE, own[alike.argmax()] * ALIKE
        counted = [each for each, size in zip(cells, by_image, strict=True) if size is None or low <= size <= high]
        return float(np.median(boxes.cell_sizes(np.concatenate(counted)))) if sum(map(len, counted)) else 0.0

    @property
    def is_of_several_sets(self) -> bool:
        """Whether images of several data sets are put together."""
        return len({p.data_set for p in self.images}) > 1

    @cached_property
    def median_cell_sizes(self) -> dict[str, float]:
        """`median_cell_size` of each data set by its name, of those that have cells."""
        return {name: own.median_cell_size for name, own in self.by_data_set().items() if own.median_cell_size > 0}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the annotation (keys, sizes, boxes, classes, labels, what labels are of), not of the images' pixels."""
        digest = hashlib.blake2b(repr(self.labels).encode(), digest_size=16)
        for p in self.images:
            digest.update(f"\0{p.key}\0{p.size_wh}\0{p.group}\0".encode())
            for array in (p.boxes_xyxy, p.class_ids, p.ignore):
                digest.update(np.ascontiguousarray(array).tobytes())
            # Images without any of these keep the hash that stores of older versions are named by.
            if p.whole:
                digest.update(b"\0whole")
            if p.unannotated:
                digest.update(f"\0unannotated{p.unannotated}".encode())
            if p.one_of:
                digest.update(f"\0one of{p.one_of}".encode())
        return digest.hexdigest()

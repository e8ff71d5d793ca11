"""The one in-memory form of annotated pictures that everything after the readers works on."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.labels import LabelSet

ALIKE = 1.3  # times: as much as the median cell of one picture may be larger than another's at the same magnification


@dataclass(frozen=True)
class Picture:
    """One annotated picture.

    Attributes:
        key: path relative to the data set's folder, with forward slashes; what everything is keyed by.
        path: where the file is.
        size_wh: width and height of the upright picture in pixels.
        group: pictures of one group (a slide, a patient) never straddle a split; the key itself where nothing groups.
        boxes_xyxy: float32 (n, 4), pixels, inside the picture, with area.
        class_ids: int64 (n,), index into the labels; -1 for ignore regions of no class.
        ignore: bool (n,), True for regions that are neither trained on nor scored.
        part: ``train``, ``validation`` or ``test``, where the data set itself says so.
        whole: the one label is of the picture as a whole, which is the only box.
        data_set: name of the data set that the picture comes from; empty where there is only one.
        unannotated: ids of the classes that the annotators of its data set did not mark: where no box is, there may be such a cell.
        weight: how often the picture is shown in training, relative to others.
        one_of: of a picture of a single cell, ids of the classes of which its label says that it is one; empty: `class_ids` says which.
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
    """Pictures with boxes, in the order of their keys, and the labels that the class ids refer to.

    Attributes:
        labels: names and meanings of the classes.
        pictures: one entry a picture, those without boxes included.
        issues: one line for each kind of fault that was met and mended or dropped, as it was warned of.
        read_as: the form that was recognised, with its files, in words.

    Examples:
        >>> nothing = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
        >>> field = Picture("slide1/a.png", Path("slide1/a.png"), (640, 480), "slide1", *nothing)
        >>> annotations = AnnotationSet(LabelSet(("cell",)), (field,))
        >>> len(annotations), annotations.class_counts.tolist()
        (1, [0])
    """

    labels: LabelSet
    pictures: tuple[Picture, ...]
    issues: tuple[str, ...] = ()
    read_as: str = ""

    def __len__(self) -> int:
        return len(self.pictures)

    def subset(self, keys: Iterable[str]) -> "AnnotationSet":
        """The pictures with the given keys, in this set's order."""
        wanted = set(keys)
        return replace(self, pictures=tuple(p for p in self.pictures if p.key in wanted))

    def by_data_set(self) -> "dict[str, AnnotationSet]":
        """The pictures of each data set by its name, in the order of the names; one set under an empty name where there is only one."""
        names = sorted({p.data_set for p in self.pictures})
        return {name: replace(self, pictures=tuple(p for p in self.pictures if p.data_set == name)) for name in names}

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Cells of each class: int64 (n_labels,); ignore regions are not counted."""
        return self.class_counts_by_picture.sum(axis=0)

    @cached_property
    def class_counts_by_picture(self) -> np.ndarray:
        """Cells of each class in each picture: int64 (n_pictures, n_labels)."""
        counts = [np.bincount(p.cell_class_ids, minlength=len(self.labels)) for p in self.pictures]
        return np.array(counts, dtype=np.int64).reshape(len(self.pictures), len(self.labels))

    @cached_property
    def whole(self) -> bool:
        """Whether labels are of whole pictures, not of boxes."""
        return all(p.whole for p in self.pictures)

    def sizing_cells(self, picture: Picture) -> np.ndarray:
        """Boxes by which the magnification of a picture is told: red cells where the set has any, else all cells: float32 (n, 4).

        Leukocytes are twice as large as red cells, and a photographer who looks for them has many in his pictures.
        """
        is_red = self.labels.is_red_cell
        return picture.cells_xyxy[is_red[picture.cell_class_ids]] if self.class_counts[is_red].any() else picture.cells_xyxy

    @cached_property
    def median_cell_size(self) -> float:
        """Median of the longer sides of all cells (of red cells, see `sizing_cells`), in pixels; 0 without cells.

        Where pictures of several magnifications are put together, it is that of the commonest one: else it could be a size that no
        picture has. Pictures of single cells do not count beside photographs.
        """
        cells = [self.sizing_cells(p) for p in self.pictures if self.whole or not p.whole]
        by_picture = [boxes.median_size(own) for own in cells]
        own = np.sort([size for size in by_picture if size is not None])
        low, high = 0.0, np.inf
        if len(own):
            alike = np.searchsorted(own, own * ALIKE, "right") - np.searchsorted(own, own / ALIKE)
            low, high = own[alike.argmax()] / ALIKE, own[alike.argmax()] * ALIKE
        counted = [each for each, size in zip(cells, by_picture, strict=True) if size is None or low <= size <= high]
        return float(np.median(boxes.cell_sizes(np.concatenate(counted)))) if sum(map(len, counted)) else 0.0

    @property
    def is_of_several_sets(self) -> bool:
        """Whether pictures of several data sets are put together."""
        return len({p.data_set for p in self.pictures}) > 1

    @cached_property
    def median_cell_sizes(self) -> dict[str, float]:
        """`median_cell_size` of each data set by its name, of those that have cells."""
        return {name: own.median_cell_size for name, own in self.by_data_set().items() if own.median_cell_size > 0}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the annotation (keys, sizes, boxes, classes, labels, what labels are of), not of the pictures' pixels."""
        digest = hashlib.blake2b(repr(self.labels).encode(), digest_size=16)
        for p in self.pictures:
            digest.update(f"\0{p.key}\0{p.size_wh}\0{p.group}\0".encode())
            for array in (p.boxes_xyxy, p.class_ids, p.ignore):
                digest.update(np.ascontiguousarray(array).tobytes())
            # Pictures without any of these keep the hash that stores of older versions are named by.
            if p.whole:
                digest.update(b"\0whole")
            if p.unannotated:
                digest.update(f"\0unannotated{p.unannotated}".encode())
            if p.one_of:
                digest.update(f"\0one of{p.one_of}".encode())
        return digest.hexdigest()

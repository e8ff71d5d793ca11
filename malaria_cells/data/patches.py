"""Cuts cells out of images and keeps them in one memory-mapped store on disk.

`AnnotationSet` in, `PatchStore` out. The store is a cache: its name is a hash of the annotation, of the images' bytes
and of the cropping options, so a change of any of them makes a new one, and it appears whole or not at all.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.progress import progress
from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.candidates import Candidates
from malaria_cells.data.images import read_image
from malaria_cells.data.partial_labels import Sets, background_id, cell_ids, class_sets
from malaria_cells.data.single_cells import as_in_image
from malaria_cells.data.stain import Normalization, normalized

log = logging.getLogger(__name__)

FORMAT_VERSION = 2
NO_CANDIDATES = Candidates(np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64))
KEPT_STORES = 5  # a store that holds what one training's proposer found is hardly ever asked for again, and may be a gigabyte
BACKGROUND_TRIES = 40  # random squares drawn for each background patch wanted


@dataclass(frozen=True)
class Cropping:
    """How patches are cut.

    Attributes:
        image_size_hw: height and width of a patch in pixels.
        context: side of the square cut, as a multiple of the box's longer side.
        background_per_image: patches without a cell cut from each image.
        seed: of the places of the background patches.
        stain: what is done to an image first, see `stain`.
    """

    image_size_hw: tuple[int, int]
    context: float
    background_per_image: int
    seed: int
    # Without it a store has the name that it had before there was a choice.
    stain: Normalization = field(default="none", repr=False)

    @property
    def name(self) -> str:
        """All of it in words, for a store's fingerprint."""
        return f"{self}" if self.stain == "none" else f"{self} {self.stain}"


@dataclass(frozen=True)
class PatchStore:
    """Patches with what they are and where they come from.

    Attributes:
        patches: uint8 (N, H, W, 3), memory-mapped, read-only.
        class_ids: int64 (N,); background patches have the id ``n_labels``; of patches with the id ``n_labels + 1 + k`` it is known
            only that they show one of the classes of the k-th of `sets`.
        image_ids: int64 (N,), index into `keys`.
        boxes_xyxy: float32 (N, 4), the boxes in pixels of their images.
        proposed: bool (N,), whether a proposer found the box; else it is annotated, or background drawn at random.
        keys: keys of the images.
        n_labels: number of classes, background not counted.
        fingerprint: what the store is named by.
        sets: ids of the classes of each set, background's ``n_labels`` among them; empty where every patch has one class.
        image_weights: float64 (n_images,), how often images are shown; None: all alike.
        image_sets: int64 (n_images,), which data set an image is of; None: all of one.
    """

    patches: np.ndarray
    class_ids: np.ndarray
    image_ids: np.ndarray
    boxes_xyxy: np.ndarray
    proposed: np.ndarray
    keys: tuple[str, ...]
    n_labels: int
    fingerprint: str
    sets: Sets = ()
    image_weights: np.ndarray | None = None
    image_sets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.class_ids)

    def examples(self, rows: np.ndarray, names: tuple[str, ...], count: int) -> dict[str, np.ndarray]:
        """Up to `count` patches of each class, uint8 (n, H, W, 3), spread evenly over `rows`, the same for the same rows."""
        by_class = {name: rows[self.class_ids[rows] == i] for i, name in enumerate(names)}
        return {name: self.patches[members[:: max(len(members) // count, 1)][:count]] for name, members in by_class.items()}

    def rows_of(self, annotations: AnnotationSet) -> np.ndarray:
        """Rows whose image is in `annotations`, but for those that may show any class, which teach nothing: int64 (n,)."""
        wanted = {p.key for p in annotations.images}
        says_nothing = [self.n_labels + 1 + k for k, members in enumerate(self.sets) if len(members) == self.n_labels + 1]
        chosen = np.array([key in wanted for key in self.keys])[self.image_ids]
        return np.flatnonzero(chosen & ~np.isin(self.class_ids, says_nothing))


def crop_squares(image: np.ndarray, squares_xyxy: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Cut squares out of an image, reflected at the border, and resize them.

    The one function that makes the classifier's input, in training and in use.

    Args:
        image: uint8 RGB (H, W, 3).
        squares_xyxy: int (n, 4) from `boxes.squares_around`; may leave the image.
        size_hw: height and width of the patches in pixels.

    Returns:
        uint8 (n, h, w, 3).
    """
    height, width = image.shape[:2]
    patches = np.empty((len(squares_xyxy), *size_hw, 3), dtype=np.uint8)
    if len(squares_xyxy) == 0:
        return patches
    margin = int(max(0, -squares_xyxy[:, :2].min(), (squares_xyxy[:, 2:] - [width, height]).max()))
    if margin:
        image = cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_REFLECT_101)
    for patch, (left, top, right, bottom) in zip(patches, squares_xyxy + margin, strict=True):
        patch[:] = resize(image[top:bottom, left:right], size_hw)
    return patches


def resize(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize uint8 RGB (H, W, 3) to (h, w, 3), averaging where it shrinks; the aspect may change."""
    shrinks = image.shape[0] >= size_hw[0] and image.shape[1] >= size_hw[1]
    return cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def rescale(image: np.ndarray, factor: float) -> np.ndarray:
    """Resize uint8 RGB (H, W, 3) by a factor, averaging where it shrinks; a pixel a side is left at least."""
    fy, fx = (max(factor, 1 / n) for n in image.shape[:2])
    return cv2.resize(image, None, fx=fx, fy=fy, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)


def crop_boxes(image: np.ndarray, boxes_xyxy: np.ndarray, context: float, size_hw: tuple[int, int]) -> np.ndarray:
    """Cut the square with `context` around each box: uint8 (n, h, w, 3)."""
    return crop_squares(image, boxes.squares_around(boxes_xyxy, context), size_hw)


def background_boxes(image: AnnotatedImage, count: int, typical: float, seed: int) -> np.ndarray:
    """Random squares that touch no box, ignore regions included.

    Args:
        image: its boxes and size.
        count: how many are wanted; fewer come back where cells leave no room.
        typical: median cell size in pixels; the squares' sides are 0.4 to 1.2 of it.
        seed: with the image's key it fixes the places.

    Returns:
        float32 (n, 4), n <= count.
    """
    key_seed = int.from_bytes(hashlib.blake2b(image.key.encode(), digest_size=8).digest(), "big")
    rng = np.random.default_rng([seed, key_seed])
    width, height = image.size_wh
    side = np.minimum(typical * rng.uniform(0.4, 1.2, count * BACKGROUND_TRIES), min(width, height))
    corner = rng.uniform(size=(len(side), 2)) * (np.array([width, height]) - side[:, None])
    squares = np.concatenate([corner, corner + side[:, None]], axis=1).astype(np.float32)
    free = boxes.intersection_matrix(squares, image.boxes_xyxy).sum(axis=1) == 0
    return squares[free][:count]


def build_patch_store(
    annotations: AnnotationSet, cropping: Cropping, cache: Path, candidates: Mapping[str, Candidates] | None = None
) -> PatchStore:
    """Cut all cells of a set, or open the store that already has them; the `KEPT_STORES` used last stay on disk.

    Args:
        annotations: the images; each is decoded once.
        cropping: how patches are cut.
        cache: folder of the stores.
        candidates: by the key of their image, labelled boxes that a proposer found, to be cut too.

    Raises:
        InputError: no cell at all, or an image that cannot be read.
    """
    if annotations.class_counts.sum() == 0:
        raise InputError("the data set holds no labelled cell to cut out; check `labels`, `ignore_labels` and the annotation")
    proposed = [(candidates or {}).get(p.key, NO_CANDIDATES) for p in annotations.images]
    fingerprint = _fingerprint(annotations, cropping, proposed)
    folder = cache / fingerprint
    with files.locked(cache / "patches", f"{cache}: waiting for another process, which cuts cells into it", wait=True):
        if not (folder / "store.json").is_file():
            with files.replacing_folder(folder, "store.json") as beside:
                _write(beside, annotations, cropping, proposed)
        os.utime(folder / "store.json")
        _forget_oldest(cache)
        return _open(folder, fingerprint, annotations)


def _forget_oldest(cache: Path) -> None:
    used = sorted(cache.glob("[!.]*/store.json"), key=lambda p: p.stat().st_mtime)
    for store in used[:-KEPT_STORES]:
        try:
            files.remove_folder(store.parent)
        except PermissionError:  # Windows keeps what another training has open
            log.info(f"{store.parent}: stays, since it is in use")
        else:
            log.info(f"{store.parent}: removed, {KEPT_STORES} other patch stores were used since")


def _fingerprint(annotations: AnnotationSet, cropping: Cropping, proposed: list[Candidates]) -> str:
    digest = hashlib.blake2b(f"{FORMAT_VERSION} {cropping.name} {annotations.fingerprint}".encode(), digest_size=12)
    if sets := class_sets(annotations):  # where all is annotated the name is that of before there were sets
        digest.update(repr(sets).encode())
    for found in proposed:
        digest.update(found.boxes_xyxy.tobytes() + found.class_ids.tobytes())
    with ThreadPoolExecutor() as pool:
        for content in pool.map(files.file_hash, (p.path for p in annotations.images)):
            digest.update(content)
    return digest.hexdigest()


def _write(folder: Path, annotations: AnnotationSet, cropping: Cropping, proposed: list[Candidates]) -> None:
    typical, background_class_id, sets = annotations.median_cell_size, len(annotations.labels), class_sets(annotations)
    by_image = [
        _to_cut(p, found, background_boxes(p, cropping.background_per_image, typical, cropping.seed), background_class_id, sets)
        for p, found in zip(annotations.images, proposed, strict=True)
    ]
    image_boxes = [b for b, _, _ in by_image]
    lengths = [len(b) for b in image_boxes]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    shape = (int(starts[-1]), *cropping.image_size_hw, 3)
    patches = np.lib.format.open_memmap(folder / "patches.npy", mode="w+", dtype=np.uint8, shape=shape)

    def cut(i: int) -> None:
        image, is_cell = read_image(annotations.images[i].path), annotations.images[i].whole
        if is_cell and not annotations.whole:
            image = as_in_image(image, cropping.context)
        image = normalized(image, cropping.stain)
        if is_cell:
            patches[starts[i] : starts[i + 1]] = resize(image, cropping.image_size_hw)
        else:
            patches[starts[i] : starts[i + 1]] = crop_boxes(image, image_boxes[i], cropping.context, cropping.image_size_hw)

    with ThreadPoolExecutor() as pool:  # decoding and resizing release the GIL
        for _ in progress(pool.map(cut, range(len(annotations))), len(annotations), "cutting cells", "image"):
            pass
    patches.flush()
    np.savez(
        folder / "table.npz",
        class_ids=np.concatenate([c for _, c, _ in by_image]).astype(np.int64),
        image_ids=np.repeat(np.arange(len(annotations)), lengths),
        boxes_xyxy=np.concatenate(image_boxes).astype(np.float32),
        proposed=np.concatenate([f for _, _, f in by_image]),
    )
    about = {"keys": [p.key for p in annotations.images], "n_labels": len(annotations.labels), "labels": annotations.labels.names}
    files.write_json(folder / "store.json", about)


def _to_cut(
    image: AnnotatedImage, found: Candidates, background: np.ndarray, background_class_id: int, sets: Sets
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes of cells, of background and of what a proposer found; class ids; and which of them a proposer found."""
    own = len(image.cells_xyxy) + len(background)
    outside = np.full(len(background), background_id(image, background_class_id, sets))
    class_ids = np.concatenate([cell_ids(image, background_class_id, sets), outside, found.class_ids])
    return np.concatenate([image.cells_xyxy, background, found.boxes_xyxy]), class_ids, np.arange(len(class_ids)) >= own


def _open(folder: Path, fingerprint: str, annotations: AnnotationSet) -> PatchStore:
    about = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    with np.load(folder / "table.npz") as table:
        columns = {name: table[name] for name in ("class_ids", "image_ids", "boxes_xyxy", "proposed")}
    patches = np.load(folder / "patches.npy", mmap_mode="r")
    # The weights are not in the store's name: other weights need no other patches. Its images are those of `annotations`, in their order.
    weights = np.array([p.weight for p in annotations.images], dtype=np.float64)
    names = np.array([p.data_set for p in annotations.images])
    return PatchStore(
        patches=patches,
        keys=tuple(about["keys"]),
        n_labels=about["n_labels"],
        fingerprint=fingerprint,
        sets=class_sets(annotations),
        image_weights=weights,
        image_sets=np.unique(names, return_inverse=True)[1],
        **columns,
    )

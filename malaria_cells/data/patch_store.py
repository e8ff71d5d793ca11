"""A memory-mapped store on disk of the patches of a data set: `AnnotationSet` in, `PatchStore` out.

The store is a cache. Its name is a hash of the annotation, the image files and the cropping options, so a change in any of them makes a
new store. A store is written completely or not at all.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.locks import locked
from malaria_cells.base.progress import progress
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.candidates import Candidates
from malaria_cells.data.images import read_image
from malaria_cells.data.partial_labels import Sets, background_id, cell_ids, class_sets
from malaria_cells.data.patches import background_boxes, crop_boxes, resize
from malaria_cells.data.single_cells import as_in_image
from malaria_cells.data.stain import Normalization, normalized

log = logging.getLogger(__name__)

FORMAT_VERSION = 2  # of the store; part of its fingerprint
NO_CANDIDATES = Candidates(np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64))
MAX_STORES = 5  # stores left on disk: one with a training's proposals is rarely used again, and may be as large as a gigabyte


@dataclass(frozen=True)
class Cropping:
    """Options of cropping patches.

    Attributes:
        image_size_hw: height and width of a patch in pixels.
        context: side of the cropped square, as a multiple of the box's longer side.
        background_per_image: number of background patches cropped from each image.
        seed: seed of the positions of background patches.
        stain: stain normalization of the image before cropping, see `stain`.
    """

    image_size_hw: tuple[int, int]
    context: float
    background_per_image: int
    seed: int
    # Not in the repr, so that stores without normalization keep the names they had before this option existed.
    stain: Normalization = field(default="none", repr=False)

    @property
    def name(self) -> str:
        """The options as text, for a store's fingerprint."""
        return f"{self}" if self.stain == "none" else f"{self} {self.stain}"


@dataclass(frozen=True)
class PatchStore:
    """Patches with their class ids, images and boxes.

    Attributes:
        patches: uint8 (N, H, W, 3), memory-mapped, read-only.
        class_ids: int64 (N,); background patches have the id ``n_labels``; the id ``n_labels + 1 + k`` means one of the classes of
            the k-th of `sets`.
        image_ids: int64 (N,), index into `keys`.
        boxes_xyxy: float32 (N, 4), the boxes in pixels of their images.
        proposed: bool (N,), True for proposals; False for annotated cells and random background.
        keys: keys of the images.
        n_labels: number of classes without background.
        fingerprint: hash that names the store.
        sets: class ids of each set of a partial label, which may include background's ``n_labels``; empty without partial labels.
        image_weights: float64 (n_images,), relative sampling frequency of each image; None: all equal.
        image_sets: int64 (n_images,), index of each image's data set; None: there is one data set.
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
        """Up to `count` patches of each class, uint8 (n, H, W, 3), evenly spaced over `rows` and deterministic."""
        by_class = {name: rows[self.class_ids[rows] == i] for i, name in enumerate(names)}
        return {name: self.patches[members[:: max(len(members) // count, 1)][:count]] for name, members in by_class.items()}

    def rows_of(self, annotations: AnnotationSet) -> np.ndarray:
        """Rows of the images in `annotations`, int64 (n,), without those whose label allows every class and so holds no information."""
        wanted = {p.key for p in annotations.images}
        says_nothing = [self.n_labels + 1 + k for k, members in enumerate(self.sets) if len(members) == self.n_labels + 1]
        chosen = np.array([key in wanted for key in self.keys])[self.image_ids]
        return np.flatnonzero(chosen & ~np.isin(self.class_ids, says_nothing))


def build_patch_store(
    annotations: AnnotationSet, cropping: Cropping, cache: Path, candidates: Mapping[str, Candidates] | None = None
) -> PatchStore:
    """Crop all cells of a data set, or open the store that already holds them; the `MAX_STORES` most recently used stay on disk.

    Args:
        annotations: the images; each is decoded once.
        cropping: options of cropping.
        cache: folder of the stores.
        candidates: labelled proposals to crop as well, by the key of their image.

    Raises:
        InputError: the set has no cell, or an image cannot be read.
    """
    if annotations.class_counts.sum() == 0:
        raise InputError("the data set holds no labelled cell to crop; check `labels`, `ignore_labels` and the annotation")
    proposed = [(candidates or {}).get(p.key, NO_CANDIDATES) for p in annotations.images]
    fingerprint = _fingerprint(annotations, cropping, proposed)
    folder = cache / fingerprint
    with locked(cache / "patches", f"{cache}: waiting for another process, which cuts cells into it", wait=True):
        if not (folder / "store.json").is_file():
            files.sweep(folder)  # of a process that was killed while it cut
            with files.replacing_folder(folder, "store.json") as new_folder:
                _write(new_folder, annotations, cropping, proposed)
        os.utime(folder / "store.json")
        _remove_oldest(cache)
        return _open(folder, fingerprint, annotations)


def _remove_oldest(cache: Path) -> None:
    by_last_use = sorted(cache.glob("[!.]*/store.json"), key=lambda p: p.stat().st_mtime)
    for store in by_last_use[:-MAX_STORES]:
        try:
            files.remove_folder(store.parent)
        except PermissionError:  # Windows does not remove files that another process has open
            log.info(f"{store.parent}: not removed, since another process uses it")
        else:
            log.info(f"{store.parent}: removed, since {MAX_STORES} other patch stores were used more recently")


def _fingerprint(annotations: AnnotationSet, cropping: Cropping, proposed: list[Candidates]) -> str:
    digest = hashlib.blake2b(f"{FORMAT_VERSION} {cropping.name} {annotations.fingerprint}".encode(), digest_size=12)
    if sets := class_sets(annotations):  # without partial labels the name is the one from before they existed
        digest.update(repr(sets).encode())
    for candidates in proposed:
        digest.update(candidates.boxes_xyxy.tobytes() + candidates.class_ids.tobytes())
    with ThreadPoolExecutor() as pool:
        for content in pool.map(files.file_hash, (p.path for p in annotations.images)):
            digest.update(content)
    return digest.hexdigest()


def _write(folder: Path, annotations: AnnotationSet, cropping: Cropping, proposed: list[Candidates]) -> None:
    median_size, background_class_id, sets = annotations.median_cell_size, len(annotations.labels), class_sets(annotations)
    by_image = [
        _rows_of_image(
            p, candidates, background_boxes(p, cropping.background_per_image, median_size, cropping.seed), background_class_id, sets
        )
        for p, candidates in zip(annotations.images, proposed, strict=True)
    ]
    image_boxes = [b for b, _, _ in by_image]
    lengths = [len(b) for b in image_boxes]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    shape = (int(starts[-1]), *cropping.image_size_hw, 3)
    patches = np.lib.format.open_memmap(folder / "patches.npy", mode="w+", dtype=np.uint8, shape=shape)
    files.reserve(folder / "patches.npy")

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
    description = {"keys": [p.key for p in annotations.images], "n_labels": len(annotations.labels), "labels": annotations.labels.names}
    files.write_json(folder / "store.json", description)


def _rows_of_image(
    image: AnnotatedImage, candidates: Candidates, background: np.ndarray, background_class_id: int, sets: Sets
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes of annotated cells, background and proposals, (n, 4); their class ids, (n,); and a mask of the proposals, (n,)."""
    n_not_proposed = len(image.cells_xyxy) + len(background)
    background_ids = np.full(len(background), background_id(image, background_class_id, sets))
    class_ids = np.concatenate([cell_ids(image, background_class_id, sets), background_ids, candidates.class_ids])
    return np.concatenate([image.cells_xyxy, background, candidates.boxes_xyxy]), class_ids, np.arange(len(class_ids)) >= n_not_proposed


def _open(folder: Path, fingerprint: str, annotations: AnnotationSet) -> PatchStore:
    description = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    with np.load(folder / "table.npz") as table:
        columns = {name: table[name] for name in ("class_ids", "image_ids", "boxes_xyxy", "proposed")}
    patches = np.load(folder / "patches.npy", mmap_mode="r")
    # Weights do not affect patches, so they are not stored; the store has the images of `annotations`, in the same order.
    weights = np.array([p.weight for p in annotations.images], dtype=np.float64)
    names = np.array([p.data_set for p in annotations.images])
    return PatchStore(
        patches=patches,
        keys=tuple(description["keys"]),
        n_labels=description["n_labels"],
        fingerprint=fingerprint,
        sets=class_sets(annotations),
        image_weights=weights,
        image_sets=np.unique(names, return_inverse=True)[1],
        **columns,
    )

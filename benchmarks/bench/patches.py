"""Cutting the cells out of a data set's photographs, beside opening the photograph for each cell."""

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.bench.rows import AT_LEAST, Row, Target, alternated, compared
from benchmarks.bench.settings import Settings, data_set
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet, load_annotations
from malaria_cells.data.images import read_image
from malaria_cells.data.patch_store import Cropping, build_patch_store

SIDE, CONTEXT = 80, 1.25  # of the shipped classifier's patches
BACKGROUND = 10  # squares without a cell, of each photograph
SAMPLED = 300  # boxes that the peer cuts in a round; all of them would take it minutes


def annotated(settings: Settings) -> AnnotationSet:
    """The whole data set; with `Settings.quick` a few photographs of it."""
    folder = data_set(settings)
    path = next(p for p in (folder / "annotations.json", folder / "training.json") if p.is_file())
    every = load_annotations(path, root=folder, warn=False)
    return every.subset([p.key for p in every.images[:8]]) if settings.quick else every


def cropping(background: int = BACKGROUND) -> Cropping:
    """How the shipped model's patches are cut, without stain normalization, which the peer lacks."""
    return Cropping((SIDE, SIDE), CONTEXT, background, seed=0)


def patches(settings: Settings) -> Iterator[Row]:
    """All patches of a data set into a store; and the photographs' decoding alone, which no way of cutting can be faster than."""
    annotations = annotated(settings)
    boxes = [(p, box) for p in annotations.images for box in p.cells_xyxy]
    chosen = np.random.default_rng(0).permutation(len(boxes))[: 20 if settings.quick else SAMPLED]
    cut = []
    contenders = {
        "ours": partial(_into_a_store, annotations, cut),
        "opening": partial(_opened_for_each, [boxes[i] for i in chosen]),
        "decoding": partial(_decoded, [p.path for p in annotations.images]),
    }
    contenders["decoding"]()  # the files come from memory from here on
    figures = alternated(contenders, settings.repeats)
    ours = [1e6 * seconds / cut[0] for seconds in figures["ours"]]
    note = f"{cut[0]:,} patches of {len(annotations)} photographs into a file"
    opening = [1e6 * seconds / len(chosen) for seconds in figures["opening"]]
    name = "cut patches out of photographs"
    by_pillow = "opening the photograph for each box, Pillow, as many threads"
    yield compared(name, "µs", ours, opening, by_pillow, Target(AT_LEAST, 20.0), note=f"{note}; the peer cuts {len(chosen)} of the boxes")
    decoding = [1e6 * seconds / cut[0] for seconds in figures["decoding"]]
    row = compared(name, "µs", ours, decoding, "decoding alone", Target(AT_LEAST, 0.8), limit_name="decoding alone", note=note)
    yield Row(**{**row.__dict__, "limit_share": row.ratio})


def _into_a_store(annotations: AnnotationSet, cut: list[int]) -> float:
    """Seconds to write a new store; the number of its patches goes into `cut`."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        cut[:] = [len(build_patch_store(annotations, cropping(), Path(folder)))]
        return time.perf_counter() - started


def _opened_for_each(boxes: list[tuple[AnnotatedImage, np.ndarray]]) -> float:
    """Seconds to open the photograph, cut and resize, for each of some boxes."""

    def cut(image: AnnotatedImage, box_xyxy: np.ndarray) -> np.ndarray:
        with Image.open(image.path) as opened:
            return np.asarray(opened.convert("RGB").crop(tuple(map(int, box_xyxy))).resize((SIDE, SIDE)))

    return _by_threads(cut, *zip(*boxes, strict=True))


def _decoded(paths: list[Path]) -> float:
    """Seconds to decode photographs."""
    return _by_threads(lambda path: read_image(path).shape, paths)


def _by_threads(work: object, *arguments: object) -> float:
    started = time.perf_counter()
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(work, *arguments):
            pass
    return time.perf_counter() - started

"""How time and memory grow with the number of photographs, their size, and the number of cells in them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.bench.contender import Contender
from benchmarks.bench.memory import DIFFERENT, cut_fields, linked, run
from benchmarks.bench.patches import annotated
from benchmarks.bench.peers import exported
from benchmarks.bench.rows import Row
from benchmarks.bench.settings import Settings, photographs
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.images import read_image

IMAGES = (100, 1_000, 10_000)
SIZES_WH = ((640, 480), (1280, 960), (2560, 1920), (5120, 3840), (10_000, 10_000), (20_000, 20_000))
CELLS = (10, 30, 100, 300, 1_000, 3_000)
QUICK = {"images": (20, 60), "sizes": SIZES_WH[:3], "cells": (10, 100)}
MEDIAN_OF = 3  # turns of each image, of which the median counts; of those above this many pixels there is one
LARGE = 30_000_000


def growth(settings: Settings) -> Iterator[Row]:
    """A row for each step: the figure, and what it is for each photograph, million pixels, or cell."""
    yield from with_images(settings)
    model = exported(settings)
    with tempfile.TemporaryDirectory(dir=settings.cache) as folder, Contender("ours_on_arrays", model=model, engine="onnx") as ours:
        source = read_image(photographs(settings)[0])
        ours.turn([stored(tiled(source, SIZES_WH[0]), Path(folder))])  # graphs are built, memory is taken
        for size_wh in QUICK["sizes"] if settings.quick else SIZES_WH:
            megapixels = size_wh[0] * size_wh[1] / 1e6
            title = f"detect in {size_wh[0]:,} x {size_wh[1]:,} pixels"
            yield step(ours, title, tiled(source, size_wh), Path(folder), megapixels, "ms a million pixels")
    with tempfile.TemporaryDirectory(dir=settings.cache) as folder, Contender("ours_on_arrays", model=model, engine="onnx") as ours:
        image = annotated(settings).images[0]
        ours.turn([stored(scattered(image, 30), Path(folder))])
        for n in QUICK["cells"] if settings.quick else CELLS:
            yield step(ours, f"detect {n:,} cells in an image of one size", scattered(image, n), Path(folder), n, "ms a cell")


def with_images(settings: Settings) -> Iterator[Row]:
    """Whole runs on more and more fields."""
    model, whole = exported(settings), photographs(settings)
    with tempfile.TemporaryDirectory(dir=settings.cache) as where:
        fields = cut_fields(whole[:DIFFERENT], Path(where) / "different")
        for n in QUICK["images"] if settings.quick else IMAGES:
            ran = run(model, "onnx", linked(fields, Path(where) / str(n), n), Path(where) / "out")
            note = f"most memory {ran.peak_mib:,.0f} MiB; drawing and tables included"
            yield Row(f"run.py, {n:,} fields", "s", ran.seconds, "ms a field", 1e3 * ran.seconds / n, note=note, repeats=1)


def step(ours: Contender, title: str, image: np.ndarray, folder: Path, n: float, each: str) -> Row:
    """Time of one image, the median of some turns, and what it is for each of what grows."""
    path = stored(image, folder)
    turns = [ours.turn([path]) for _ in range(1 if image.size > 3 * LARGE else MEDIAN_OF)]
    ms = float(np.median([turn.ms for turn in turns]))
    note = f"{turns[-1].result:,} boxes; most memory so far {turns[-1].peak_mib:,.0f} MiB"
    return Row(title, "ms", ms, each, ms / n, note=note, repeats=len(turns))


def stored(image: np.ndarray, folder: Path) -> Path:
    """A file that the worker reads, written over the one before."""
    path = folder / "image.npy"
    np.save(path, image)
    return path


def tiled(image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """An image of a size, made of a photograph and its mirror images, so that no cell is cut where they meet."""
    pair = np.concatenate([image, image[:, ::-1]], axis=1)
    square = np.concatenate([pair, pair[::-1]], axis=0)
    width, height = size_wh
    return np.ascontiguousarray(np.tile(square, (-(-height // square.shape[0]), -(-width // square.shape[1]), 1))[:height, :width])


def scattered(image: AnnotatedImage, n: int) -> np.ndarray:
    """An image of one size with `n` of a photograph's cells on its clear field, each in a place of its own, evenly spread."""
    pixels = read_image(image.path)
    boxes = image.cells_xyxy.astype(int)
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    typical = boxes[np.argsort(np.abs(sides - np.median(sides)), kind="stable")[:20]]  # none that would not fit its place
    pitch = int(np.median(sides) * 1.15)
    columns = int(np.ceil(np.sqrt(max(CELLS) * 4 / 3)))
    rows = -(-max(CELLS) // columns)
    clear = np.percentile(pixels.reshape(-1, 3), 90, axis=0)
    canvas = np.random.default_rng(0).normal(clear, 2, (rows * pitch, columns * pitch, 3)).clip(0, 255).astype(np.uint8)
    for number, place in enumerate(np.linspace(0, rows * columns - 1, n).astype(int)):
        left, top, right, bottom = typical[number % len(typical)]
        cell = pixels[top:bottom, left:right][:pitch, :pitch]
        y, x = (place // columns) * pitch, (place % columns) * pitch
        canvas[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
    return canvas

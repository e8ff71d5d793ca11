"""Average precision of many photographs, beside pycocotools."""

import contextlib
import io
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.bench.rows import AT_LEAST, Row, Target, alternated, compared
from benchmarks.bench.settings import Settings
from malaria_cells.data import coco_rows
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation import average_precision

IMAGES, BOXES = 1328, 86_035  # as many as BBBC041 has
SIZE_WH, CELL = (1600, 1200), 100.0  # its photographs and cells in pixels
LABELS = LabelSet(("red blood cell", "leukocyte", "gametocyte", "ring", "trophozoite", "schizont"))
FREQUENCIES = (0.965, 0.002, 0.002, 0.006, 0.02, 0.005)
TOLERANCE = 1e-6  # by which both may differ


def scoring(settings: Settings) -> Iterator[Row]:
    """The same boxes in memory, scored by both; what they say has to agree."""
    scale = 20 if settings.quick else 1
    images, detected = random_boxes(IMAGES // scale, BOXES // scale)
    figures: dict[str, np.ndarray] = {}
    contenders = {"ours": partial(_ours, images, detected, figures), "peer": partial(_pycocotools, images, detected, figures)}
    seconds = alternated(contenders, settings.few_repeats)
    difference = float(np.abs(figures["ours"] - figures["peer"]).max())
    if not difference <= TOLERANCE:
        raise AssertionError(f"both should say the same, found average precisions that differ by {difference:.2g}")
    note = f"{len(images):,} photographs, {sum(len(p.boxes_xyxy) for p in images):,} boxes, {len(LABELS)} labels, "
    note += f"{sum(map(len, detected)):,} detections; both say the same to {difference:.0e}"
    yield compared("mAP", "s", seconds["ours"], seconds["peer"], "pycocotools", Target(AT_LEAST, 5.0), note=note)


def random_boxes(n_images: int, n_boxes: int) -> tuple[list[AnnotatedImage], list[Detections]]:
    """Annotated boxes, and detections that miss some, move the others, and add a few."""
    rng = np.random.default_rng(0)
    counts = np.bincount(rng.integers(0, n_images, n_boxes), minlength=n_images)
    images, detected = [], []
    for number, n in enumerate(counts):
        boxes = _boxes(rng, n)
        ids = rng.choice(len(LABELS), n, p=FREQUENCIES)
        images.append(AnnotatedImage(f"{number}.png", Path(f"{number}.png"), SIZE_WH, "", boxes, ids, np.zeros(n, dtype=bool)))
        kept = rng.uniform(size=n) < 0.95
        moved = boxes[kept] + rng.normal(0, 5, (int(kept.sum()), 4)).astype(np.float32)
        seen = np.concatenate([moved, _boxes(rng, n // 10)])
        seen_ids = np.concatenate([ids[kept], rng.choice(len(LABELS), n // 10, p=FREQUENCIES)])
        detected.append(Detections.from_boxes(seen, seen_ids, rng.permutation(np.linspace(0.05, 0.99, len(seen)))))
    return images, detected


def _boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    sides = CELL * rng.uniform(0.7, 1.3, (n, 2))
    corners = rng.uniform(0, 1, (n, 2)) * (np.array(SIZE_WH) - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def _ours(images: list[AnnotatedImage], detected: list[Detections], figures: dict[str, np.ndarray]) -> float:
    started = time.perf_counter()
    found = average_precision(images, detected, LABELS)
    seconds = time.perf_counter() - started
    figures["ours"] = np.array(found.ap, dtype=np.float64)
    return seconds


def _pycocotools(images: list[AnnotatedImage], detected: list[Detections], figures: dict[str, np.ndarray]) -> float:
    """The peer, from the same boxes in memory; the rows that both read are made by the same functions."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = coco_rows.truth(images, LABELS)
        truth.createIndex()
        keys = ("image_id", "category_id", "bbox", "score")
        predicted = truth.loadRes([{key: row[key] for key in keys} for row in coco_rows.results(detected)])
        evaluation = COCOeval(truth, predicted, "bbox")
        evaluation.params.maxDets = [1, 10, max(100, *map(len, detected), *(len(p.boxes_xyxy) for p in images))]
        evaluation.evaluate()
        evaluation.accumulate()
    seconds = time.perf_counter() - started
    figures["peer"] = evaluation.eval["precision"][:, :, :, 0, -1].mean(axis=(0, 1))
    return seconds

"""Test-time augmentation of whole images, beside the loop of `predict` that notebooks have."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.bench.rows import AT_LEAST, Row, Target, alternated, compared
from benchmarks.bench.settings import Settings, photographs
from malaria_cells.base.tensorflow_setup import start_tensorflow
from malaria_cells.data.images import read_image

CROPS, RUNS = 4, 4
# The classifier of configs/from_scratch.yaml, and that of the published notebook (configs/cassava.yaml): without the overhead of a call,
# and with so much arithmetic that overhead is a small part.
NETWORKS = {"compact": 80, "efficientnetb3": 512}
CLASSES = 5


def augmentation(settings: Settings) -> Iterator[Row]:
    """The same views by the same network: one call for all of them, and one `predict` a view."""
    start_tensorflow()
    image = read_image(photographs(settings)[0])
    for name, side in NETWORKS.items():
        if settings.quick and side > 100:
            continue
        yield _row(name, side, image, settings)


def _row(name: str, side: int, image: np.ndarray, settings: Settings) -> Row:
    from malaria_cells.inference.classifier import inference_function
    from malaria_cells.models import build_classifier

    model = build_classifier(name, (side, side), CLASSES, 0.3)
    images = 2 if side > 100 or settings.quick else 10
    contenders = {
        "ours": partial(_ours, inference_function(model), image, side, images),
        "peer": partial(_published, model, image, side, images),
    }
    for once in contenders.values():
        once()  # the graphs are built
    figures = alternated(contenders, settings.few_repeats if side > 100 else settings.repeats)
    title = f"test-time augmentation, {CROPS} crops x {RUNS} runs, {name} at {side}"
    ours, peer = ([1e3 * seconds / images for seconds in figures[which]] for which in ("ours", "peer"))
    return compared(title, "ms", ours, peer, "a loop of predict", Target(AT_LEAST, 10.0), note="the same views and the same weights")


def _ours(predict: Any, image: np.ndarray, side: int, images: int) -> float:
    from malaria_cells.inference.tta import scanned

    started = time.perf_counter()
    for number in range(images):
        scanned(predict, image, (side, side), RUNS, CROPS, seed=number)
    return time.perf_counter() - started


def _published(model: Any, image: np.ndarray, side: int, images: int) -> float:
    from malaria_cells.inference.tta import crops, varied

    started = time.perf_counter()
    for number in range(images):
        rng = np.random.default_rng(number)
        answers = [
            model.predict(varied(crop, rng)[None].astype(np.float32), verbose=0)
            for crop in crops(image, (side, side), CROPS)
            for _ in range(RUNS)
        ]
        np.mean(answers, axis=0)
    return time.perf_counter() - started

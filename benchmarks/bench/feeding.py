"""Feeding an epoch of a classifier's training, beside Keras' folder of images and its augmentation layers."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.bench.patches import SIDE, annotated, cropping
from benchmarks.bench.rows import AT_LEAST, AT_MOST, Row, Target, alone, alternated, compared
from benchmarks.bench.settings import Settings
from malaria_cells.base.tensorflow_setup import start_tensorflow
from malaria_cells.data.patch_store import PatchStore, build_patch_store

BATCH = 64
OURS = ("stain", "laboratories")  # augmentations: about what the peer's layers do, and the shipped model's, which is dearer
SETTLING = 8  # steps before waiting is measured: the graph is built and the queues fill


def feeding(settings: Settings) -> Iterator[Row]:
    """Batches without a training, then a training's steps and what of them is waiting."""
    start_tensorflow()
    steps = 6 if settings.quick else 100
    with tempfile.TemporaryDirectory() as folder:
        store = build_patch_store(annotated(settings), cropping(), Path(folder) / "store")
        write_folders(store, Path(folder) / "classes", steps * BATCH)
        read = folder_batches(Path(folder) / "classes", cached=False)
        cached = folder_batches(Path(folder) / "classes", cached=True)
        contenders = {name: partial(_seconds_of_batches, partial(our_batches, store, name), steps) for name in OURS}
        contenders |= {
            "files": partial(_seconds_of_batches, lambda: read, steps),
            "memory": partial(_seconds_of_batches, lambda: cached, steps),
        }
        contenders["memory"]()  # the first epoch fills the memory
        figures = alternated(contenders, settings.repeats)
        note = f"{steps} batches of {BATCH} patches of {SIDE} pixels; the peer flips, turns, zooms, shifts, varies contrast and brightness"
        titles = {"files": "image_dataset_from_directory, Keras layers", "memory": "the same with cache(), from the second epoch on"}
        for name in OURS:
            for peer, title in titles.items():
                ours, theirs = ([1e3 * seconds / steps for seconds in figures[which]] for which in (name, peer))
                yield compared(f"feed a batch, augmentation {name}", "ms", ours, theirs, title, Target(AT_LEAST, 5.0), note=note)
        yield waiting(store, settings)


def our_batches(store: PatchStore, policy: str) -> Any:
    """Our batches, balanced as in the shipped model's training."""
    from malaria_cells.data.augment import make_augmenter
    from malaria_cells.data.pipeline import Sampler, Targets, training_batches

    sampler = Sampler(np.arange(len(store)), store.class_ids, BATCH, None, 0.4, seed=0)
    return training_batches(store, sampler, Targets(np.ones(store.n_labels + 1, dtype=np.float32)), make_augmenter(policy), 0)


def write_folders(store: PatchStore, folder: Path, count: int) -> None:
    """Patches as PNG files in a folder for each class, as the peer reads them."""
    rows = np.random.default_rng(0).permutation(len(store))
    for number, row in enumerate(np.resize(rows, count)):
        path = folder / str(store.class_ids[row]) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), store.patches[row][..., ::-1])


def folder_batches(folder: Path, cached: bool) -> Any:
    """Keras' batches of a folder, augmented by its layers, in parallel and ahead of their use."""
    import keras
    import tensorflow as tf

    layers = keras.layers
    augment = keras.Sequential(
        [
            layers.RandomFlip("horizontal_and_vertical"),
            layers.RandomRotation(0.5, fill_mode="reflect"),
            layers.RandomTranslation(0.08, 0.08, fill_mode="reflect"),
            layers.RandomZoom(0.12, fill_mode="reflect"),
            layers.RandomContrast(0.2),
            layers.RandomBrightness(0.1),
        ]
    )
    with redirect_stdout(StringIO()):  # it says how many files there are
        batches = keras.utils.image_dataset_from_directory(folder, image_size=(SIDE, SIDE), batch_size=BATCH, seed=0)
    if cached:
        batches = batches.cache()
    ahead = batches.map(lambda images, ids: (augment(images, training=True), ids), num_parallel_calls=tf.data.AUTOTUNE)
    return ahead.prefetch(tf.data.AUTOTUNE)


def _seconds_of_batches(make: Any, steps: int) -> float:
    """Seconds until so many batches have come, from the first call on."""
    started = time.perf_counter()
    for _ in islice(iter(make()), steps):
        pass
    return time.perf_counter() - started


def waiting(store: PatchStore, settings: Settings) -> Row:
    """Percent of a training's steps in which it waits for the next batch, with the shipped classifier's network and augmentation."""
    import keras

    from malaria_cells.fitting.first_step import build_ahead
    from malaria_cells.fitting.fused_normalization import fused_normalization
    from malaria_cells.models import build_classifier

    model = build_classifier("compact", (SIDE, SIDE), store.n_labels + 1, 0.3)
    model.compile(keras.optimizers.AdamW(2e-3), "sparse_categorical_crossentropy")
    source = our_batches(store, "laboratories")
    shares: list[float] = []
    with fused_normalization(model):
        build_ahead(model, source)
        batches = iter(source)
        for turn in range(settings.repeats):
            waited, total = _trained(model, batches, SETTLING if turn == 0 else 0, 6 if settings.quick else 40)
            shares.append(100 * waited / total)
    note = "compact, batches of 64, augmentation laboratories; time in which the next batch is not there yet"
    return alone("a training step waits for data", "%", shares, Target(AT_MOST, 5.0, of_value=True), note=note)


def _trained(model: Any, batches: Iterator[Any], settling: int, steps: int) -> tuple[float, float]:
    """Seconds of waiting, and seconds in all, of some steps after some that do not count."""
    waited = started = 0.0
    for step in range(settling + steps):
        if step == settling:
            waited, started = 0.0, time.perf_counter()
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        model.train_on_batch(*batch)
    return waited, time.perf_counter() - started

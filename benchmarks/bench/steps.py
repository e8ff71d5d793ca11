"""What the time of a photograph is spent on, and the same cells by one `predict` each, as notebooks classify them."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench.rows import Row, alone
from benchmarks.bench.settings import Settings, photographs
from malaria_cells.base.tensorflow_setup import start_tensorflow
from malaria_cells.data.images import read_image
from malaria_cells.data.patches import crop_boxes

STEPS = ("read", "propose", "classify", "decide")
SINGLE = 40  # cells of one photograph that the peer is given; it takes half a minute for all of them


def steps(settings: Settings) -> Iterator[Row]:
    """Milliseconds of each step by Keras, one photograph after the other; of classifying beside one `predict` a cell."""
    start_tensorflow()
    from malaria_cells.inference.model_folder import load_detector

    detector, description = load_detector(settings.model, "keras")
    paths = photographs(settings)[: settings.images // 4]
    for path in paths[:4]:
        detector.detect(path)  # the graphs are built
    taken = np.array([timed(detector, path) for path in paths])
    n_boxes = float(taken[:, -1].mean())
    for step, seconds in zip(STEPS, taken.T, strict=False):
        note = f"{len(paths)} photographs, {n_boxes:.0f} candidates each"
        row = alone(f"{step}, keras, in turn", "ms", list(1e3 * seconds), None, note=note)
        if step == "classify":
            peer = 1e3 * n_boxes * by_predict(settings.model, detector, description, paths[0])
            row = Row(**{**row.__dict__, "peer_name": "one predict a cell", "peer": peer, "ratio": peer / row.value, "repeats": 1})
        yield row


def timed(detector: Any, path: Path) -> list[float]:
    """Seconds of each of `STEPS` for a photograph, and the number of its candidates."""
    t = [time.perf_counter()]
    image = detector.prepared(read_image(path))
    t.append(time.perf_counter())
    boxes, proposal_scores = detector.proposer.candidates(image)
    t.append(time.perf_counter())
    probabilities = detector.classify(image, boxes)
    t.append(time.perf_counter())
    detector.decide(boxes, probabilities, proposal_scores)
    t.append(time.perf_counter())
    return [*np.diff(t).tolist(), len(boxes)]


def by_predict(model: Path, detector: Any, description: Any, path: Path) -> float:
    """Seconds of a cell whose views are classified by a call of Keras' `predict` each."""
    from malaria_cells.inference.model_description import CLASSIFIER
    from malaria_cells.models.stored.keras_files import load_network

    network = load_network(model / CLASSIFIER)
    image = detector.prepared(read_image(path))
    boxes, _ = detector.proposer.candidates(image)
    patches = crop_boxes(image, boxes[:SINGLE], description.context, description.image_size_hw).astype(np.float32)
    network.predict(patches[:1], verbose=0)
    started = time.perf_counter()
    for patch in patches:
        for _ in range(detector.settings.tta):
            network.predict(patch[None], verbose=0)
    return (time.perf_counter() - started) / len(patches)

"""The other end of `contender`: does the work that it is told to, and says how long that took.

It runs as a script and imports nothing of this package, since it also serves older versions of `malaria_cells`, and peers that have
nothing to do with it. A request is a line of JSON on stdin, the items to work on and options; an answer is a line of JSON on stdout.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, whose files are no top-level modules

Work = Callable[..., Any]
AT_ONCE = 3  # photographs, as `malaria_cells.base.parallel` has it on two cores
BEST = 300  # boxes of a peer with random weights that non-maximum suppression sees: as many as Ultralytics keeps of a photograph
OVERLAP = 0.7  # IoU of Ultralytics' non-maximum suppression
GREY = 114  # of Ultralytics' border


def ours(model: str, engine: str | None) -> Work:
    """Our detector, from file to decided cells, some photographs at once. Serves older versions, too."""
    from malaria_cells import CellDetector

    detector = CellDetector.load(model, engine or "auto")
    # As run.py does it; an older version has Keras alone, which cannot be told.
    for_many = detector if engine == "keras" else CellDetector.load(model, engine or "auto", threads=1)

    def work(paths: Sequence[str], in_turn: bool = False) -> int:
        found = map(detector.detect, paths) if in_turn else for_many.detect_each(paths)
        return sum(map(len, found))

    return work


def ours_on_arrays(model: str, engine: str | None) -> Work:
    """Our detector on images that were stored as NumPy arrays; reading them is timed with it."""
    import numpy as np

    from malaria_cells import CellDetector

    detector = CellDetector.load(model, engine)
    return lambda paths: sum(len(detector.detect(np.load(path))) for path in paths)


def keras_cv(side: int, labels: Sequence[str]) -> Work:
    """keras-cv's YOLOV8 xs with random weights, as our `detector: yolo` runs it: letterboxed, one graph, boxes decided."""
    from malaria_cells.base.parallel import imap_ordered
    from malaria_cells.base.tensorflow_setup import start_tensorflow, to_inference_function
    from malaria_cells.data.labels import LabelSet

    start_tensorflow()
    from malaria_cells.inference.decision import DetectionSettings
    from malaria_cells.inference.one_stage_detector import OneStageDetector
    from malaria_cells.models.one_stage_networks import build, for_use

    model = for_use(build("yolo", (side, side), len(labels), {}), "yolo", (side, side))
    network = to_inference_function(model, (1, side, side, 3))
    detector = OneStageDetector(network, (side, side), LabelSet(tuple(labels)), settings=DetectionSettings())
    return lambda paths: sum(len(detecting.result()) for _, detecting in imap_ordered(detector.detect, [Path(p) for p in paths]))


def ultralytics(network: str, side: int, threads: int, at_once: bool) -> Work:
    """An exported network of Ultralytics by ONNX Runtime, as its users write it: read, letterbox, run, non-maximum suppression."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if at_once:  # as in our own engine: threads that wait in a loop would take the cores from the other photographs
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def detect(path: str) -> int:
        return len(_boxes(session.run(None, {name: _letterboxed(path, side)})[0][0]))

    if not at_once:
        return lambda paths: sum(map(detect, paths))
    pool = ThreadPoolExecutor(AT_ONCE)
    return lambda paths: sum(pool.map(detect, paths))


def _letterboxed(path: str, side: int) -> Any:
    """A photograph in the middle of a grey square, float32 (1, 3, side, side) in 0..1, RGB."""
    import cv2
    import numpy as np

    image = cv2.imread(path)
    height, width = image.shape[:2]
    scale = side / max(height, width)
    small = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_LINEAR)
    top, left = (side - small.shape[0]) // 2, (side - small.shape[1]) // 2
    bottom, right = side - small.shape[0] - top, side - small.shape[1] - left
    square = cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(GREY, GREY, GREY))
    return np.ascontiguousarray(square[..., ::-1].transpose(2, 0, 1)[None], dtype=np.float32) / 255


def _boxes(output: Any) -> Any:
    """Boxes after non-maximum suppression by label, of what a network of Ultralytics says of one photograph.

    Random weights score everything alike, so the `BEST` boxes are taken instead of those above a threshold.
    """
    import cv2
    import numpy as np

    if output.shape[-1] == 6:  # networks that need no suppression: x, y, x, y, score, label, at most 300 of them
        return output
    rows = output.T  # x and y of the centre, width, height, and a score for each label
    scores, labels = rows[:, 4:].max(axis=1), rows[:, 4:].argmax(axis=1)
    best = np.argpartition(-scores, min(BEST, len(scores) - 1))[:BEST]
    xywh = rows[best, :4]
    xywh[:, :2] -= xywh[:, 2:] / 2
    return rows[best][cv2.dnn.NMSBoxesBatched(xywh.tolist(), scores[best].tolist(), labels[best].tolist(), 0.0, OVERLAP)]


def operations(model: str) -> Work:
    """Floating-point operations that our networks are given for photographs, by TensorFlow's count of their graphs with Keras."""
    from unittest import mock

    from malaria_cells.base.tensorflow_setup import start_tensorflow

    start_tensorflow()
    from malaria_cells.inference import model_folder

    compiled, done = model_folder._compiled, []

    def counting(path: Path, network: Any) -> Callable[[Any], Any]:
        run, known = compiled(path, network), {}

        def run_and_count(pixels: Any) -> Any:
            if pixels.shape not in known:
                known[pixels.shape] = _operations_of(network, pixels.shape)
            done.append(known[pixels.shape])
            return run(pixels)

        return run_and_count

    with mock.patch.object(model_folder, "_compiled", counting):
        detector, _ = model_folder.load_detector(Path(model), "keras")

    def work(paths: Sequence[str]) -> int:
        done.clear()
        for path in paths:
            detector.detect(path)
        return sum(done)

    return work


def _operations_of(network: Any, shape: tuple[int, ...]) -> int:
    import tensorflow as tf

    graph = tf.function(lambda pixels: network(pixels, training=False)).get_concrete_function(tf.TensorSpec(shape, tf.float32)).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation())
    return tf.compat.v1.profiler.profile(graph, options=options.with_empty_output().build()).total_float_ops


KINDS: dict[str, Callable[..., Work]] = {
    "ours": ours,
    "ours_on_arrays": ours_on_arrays,
    "keras_cv": keras_cv,
    "ultralytics": ultralytics,
    "operations": operations,
}


def peak_mib() -> float:
    """Most memory that this process had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Answer requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    request = json.loads(sys.argv[1])
    if request["cores"]:
        os.sched_setaffinity(0, request["cores"])
    try:
        work = KINDS[request["kind"]](**request["arguments"])
        answers.write(json.dumps({"ready": True}) + "\n")
        for line in sys.stdin:
            request = json.loads(line)
            cpu, started = time.process_time(), time.perf_counter()
            result = work(request["items"], **request["options"])
            seconds = time.perf_counter() - started
            answer = {"seconds": seconds, "cpu": time.process_time() - cpu, "result": result, "peak_mib": peak_mib()}
            answers.write(json.dumps(answer) + "\n")
    except Exception as error:  # noqa: BLE001  whatever it is, the other end says it in the table
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}".splitlines()[0]}) + "\n")


if __name__ == "__main__":
    main()

"""The example that lies beside an exported detector."""

import json
from pathlib import Path

from malaria_cells.proposals.learned import FRAME, LARGEST_LOG_SIZE, LEAST_HEAT, MULTIPLE, STRIDE, WORKING_CELL_SIZE
from malaria_cells.suppression import NESTED, NESTED_WORTH
from malaria_cells.tta import HINT

EXAMPLE = "example.py"

_IMPORTS = {
    "onnx": "import onnxruntime",
    "openvino": "import openvino",
    "litert": "from ai_edge_litert.interpreter import Interpreter",
    "savedmodel": "import tensorflow as tf",
}
_OPEN = {
    "onnx": """def network(name):
    session = onnxruntime.InferenceSession(here / f"{name}.onnx")
    return lambda pixels: session.run(None, {session.get_inputs()[0].name: pixels})[0]""",
    "openvino": """def network(name):
    compiled = openvino.Core().compile_model(here / f"{name}.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda pixels: compiled(pixels)[0]""",
    "litert": """def network(name):
    lite = Interpreter(model_path=str(here / f"{name}.tflite"))
    def run(pixels):
        lite.resize_tensor_input(lite.get_input_details()[0]["index"], pixels.shape)
        lite.allocate_tensors()
        lite.set_tensor(lite.get_input_details()[0]["index"], pixels)
        lite.invoke()
        return lite.get_tensor(lite.get_output_details()[0]["index"])
    return run""",
    "savedmodel": """def network(name):
    saved = tf.saved_model.load(str(here / name))
    return lambda pixels: saved.serve(tf.constant(pixels)).numpy()""",
}

_EXAMPLE = '''"""Finds the cells of photographs without Keras: python example.py PICTURE .. > cells.csv"""
import sys
from pathlib import Path

import cv2
import numpy as np
import yaml
@IMPORT@

from cells import find_cells

here = Path(__file__).parent


@OPEN@


model = yaml.safe_load((here / "model.yaml").read_text())
proposer, *looks = [network(name) for name in @NAMES@]
print("image,label,score,x_min,y_min,x_max,y_max")
for file in sys.argv[1:]:
    picture = np.ascontiguousarray(cv2.imread(file)[..., ::-1])
    for label, score, box in find_cells(picture, proposer, looks, model):
        print(Path(file).name, label, f"{score:.4f}", *(f"{v:.1f}" for v in box), sep=",")
'''

_CELLS = '''"""From a photograph to its cells, by networks of any engine; needs NumPy and OpenCV alone.

One view a cell, of leukocytes no larger box is preferred, and cells are taken to be as large as in the training (cell_size in
model.yaml, in pixels: put in that of your pictures); `malaria-cells run --model THIS_FOLDER` sees to all three, and has tables
and pictures too.
"""
import cv2
import numpy as np


def find_cells(picture, proposer, looks, model):
    """Yield (label, score, xyxy) of each cell of a picture, uint8 RGB (H, W, 3); `model` is the content of model.yaml."""
    boxes, sure = propose(picture, proposer, model["cell_size"], model["proposer_tta"])
    if not len(boxes):
        return
    p = calibrated(classified(picture, boxes, looks, model), model["calibration"])
    label, score = decide(p, sure, model)
    rule = model["settings"]
    corner_and_size = np.c_[boxes[:, :2], boxes[:, 2:] - boxes[:, :2]].tolist()
    kept = np.array(cv2.dnn.NMSBoxes(corner_and_size, score.tolist(), rule["score_threshold"], rule["nms_iou"]), dtype=int)
    score[kept] *= worth_among_nested(boxes[kept])
    for i in kept[score[kept] >= rule["score_threshold"]]:
        yield model["labels"]["names"][label[i]], score[i], boxes[i]


def propose(picture, proposer, size, views):
    """Where are cells? Peaks of a heat map, at a scale at which the usual cell has @CELL@ pixels."""
    how = cv2.INTER_AREA if size > @CELL@ else cv2.INTER_LINEAR
    small = cv2.resize(picture, None, fx=@CELL@ / size, fy=@CELL@ / size, interpolation=how)
    below, right = (@FRAME@ + -(n + 2 * @FRAME@) % @MULTIPLE@ for n in small.shape[:2])
    framed = cv2.copyMakeBorder(small, @FRAME@, below, @FRAME@, right, cv2.BORDER_CONSTANT)
    places = seen_mirrored(framed[None].astype(np.float32), proposer, views)[0]
    heat = places[..., 0].copy()
    y, x = np.nonzero((heat >= cv2.dilate(heat, np.ones((3, 3), np.uint8))) & (heat >= @HEAT@))
    centre = (np.stack([x, y], axis=1) + places[y, x, 1:3]) * @STRIDE@ - @FRAME@
    half = np.exp(places[y, x, 3:].clip(-@LOG@, @LOG@)) * @CELL@ / 2
    limit = np.array(picture.shape[1::-1])
    scale = limit / small.shape[1::-1]
    boxes = np.concatenate([(centre - half) * scale, (centre + half) * scale], axis=1).clip(0, [*limit, *limit])
    inside = ((centre >= 0) & (centre < small.shape[1::-1])).all(axis=1)
    return boxes[inside], heat[y, x][inside]


def seen_mirrored(pixels, proposer, views):
    """The mean of what the proposer sees in a picture and in its mirror images."""
    looks = []
    for axes in [(), (1, 2), (1,), (2,)][:views]:
        places = np.flip(proposer(np.ascontiguousarray(np.flip(pixels, axes))), axes).copy()
        for axis, offset in (2, 1), (1, 2):
            if axis in axes:
                places[..., offset] = 1 - places[..., offset]
        looks.append(places)
    return np.mean(looks, axis=0)


def cut(picture, boxes, size, model):
    """Squares around the boxes, reflected at the border, as a classifier wants them."""
    side = (np.maximum(*(boxes[:, 2:] - boxes[:, :2]).T) * model["context"]).round().clip(1)
    corner = np.rint((boxes[:, :2] + boxes[:, 2:]) / 2 - side[:, None] / 2).astype(int)
    margin = int(side.max()) + 1
    wide = cv2.copyMakeBorder(picture, *[margin] * 4, cv2.BORDER_REFLECT_101)
    squares = [wide[b + margin : b + margin + s, a + margin : a + margin + s] for (a, b), s in zip(corner, side.astype(int))]
    height, width = size
    ways = [cv2.INTER_AREA if len(s) >= max(height, width) else cv2.INTER_LINEAR for s in squares]
    return np.array([cv2.resize(s, (width, height), interpolation=way) for s, way in zip(squares, ways)], dtype=np.float32)


def classified(picture, boxes, looks, model):
    """Probabilities by the first look; where it has a hint of an infection, the mean of both, if there are two."""
    size = model["image_size_hw"]
    p = np.array(looks[0](cut(picture, boxes, size, model)))
    infected = np.isin(model["labels"]["names"], model["labels"]["infected"])
    again = p[:, : len(infected)][:, infected].sum(axis=1) >= @HINT@
    if len(looks) > 1 and again.any():
        closer = cut(picture, boxes[again], model["second_look_size_hw"] or size, model)
        p[again] = (p[again] + looks[1](closer)) / 2
    return p


def calibrated(p, fit):
    """Probabilities that mean what they say: of each class, then of any infection."""
    p = p.clip(1e-7, 1) ** (1 / fit["temperature"]) * np.exp(fit["shift"] * np.array(fit["log_prior_ratio"]))
    p /= p.sum(axis=1, keepdims=True)
    if fit["findings"]:
        sick = np.array(fit["findings"]["classes"])
        odds = p[:, sick].sum(axis=1, keepdims=True) / p[:, ~sick].sum(axis=1, keepdims=True)
        changed = np.exp(fit["findings"]["offset"]) * odds ** fit["findings"]["slope"]
        p = p * np.where(sick, changed / odds, 1) * (1 + odds) / (1 + changed)
    return p


def decide(p, sure, model):
    """How sure is it of a cell, of an infection, of a stage?"""
    names, rule = model["labels"]["names"], model["settings"]
    infected = np.isin(names, model["labels"]["infected"])
    p = p[:, : len(names)]
    cell = p.sum(axis=1) * sure ** rule["proposal_weight"]
    p = p / p.sum(axis=1, keepdims=True)
    sick = p[:, infected].sum(axis=1)
    suspect = (sick >= rule["candidate_threshold"]) & infected.any()
    label = np.where(suspect[:, None] == infected, p, -1).argmax(axis=1)
    best = p[range(len(p)), label]
    return label, np.where(suspect, np.sqrt(sick * best), best) * cell


def worth_among_nested(boxes):
    """Of two boxes, best first, of which one lies in the other, the lesser is worth @WORTH@ of its score."""
    low, high = np.maximum(boxes[:, None, :2], boxes[:, :2]), np.minimum(boxes[:, None, 2:], boxes[:, 2:])
    shared, area = (high - low).clip(0).prod(axis=2), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    worth = np.ones(len(boxes))
    for i, j in np.argwhere(np.triu(shared >= @NESTED@ * np.minimum(area[:, None], area), 1)):
        worth[j] = @WORTH@ if worth[i] == 1 else worth[j]
    return worth
'''

_BY_PACKAGE = '''"""Finds the cells of photographs without Keras: python example.py PICTURE .. > cells.csv

This detector has steps that are no network, so the malaria_cells package is needed beside the engine.
"""
import sys
from pathlib import Path

from malaria_cells import CellDetector

detector = CellDetector.load(Path(__file__).parent)
print("image,label,score,x_min,y_min,x_max,y_max")
for file in sys.argv[1:]:
    found = detector.detect(file)
    for box, label, score in zip(found.xyxy, found.data["class_name"], found.confidence):
        print(Path(file).name, label, f"{score:.4f}", *(f"{v:.1f}" for v in box), sep=",")
'''


def write_example(folder: Path, form: str, classifiers: list[str] | None) -> None:
    """Write ``example.py``, and ``cells.py`` with the steps around the networks.

    Args:
        folder: of the exported detector.
        form: one of `formats.FORMATS`.
        classifiers: names of the first and the second look, where they and a proposer are all there is to the detector: then the
            example needs NumPy, OpenCV, PyYAML and the engine. None: it needs this package too.
    """
    if classifiers is None:
        (folder / EXAMPLE).write_text(_BY_PACKAGE, encoding="utf-8")
        return
    numbers = {
        "CELL": f"{WORKING_CELL_SIZE:g}",
        "FRAME": FRAME,
        "MULTIPLE": MULTIPLE,
        "STRIDE": STRIDE,
        "HEAT": LEAST_HEAT,
        "NESTED": NESTED,
        "WORTH": NESTED_WORTH,
    }
    values = {
        "IMPORT": _IMPORTS[form],
        "OPEN": _OPEN[form],
        "HINT": HINT,
        "NAMES": json.dumps(["proposer", *classifiers]),
        "LOG": LARGEST_LOG_SIZE,
        **numbers,
    }
    for name, text in ((EXAMPLE, _EXAMPLE), ("cells.py", _CELLS)):
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        (folder / name).write_text(text, encoding="utf-8")

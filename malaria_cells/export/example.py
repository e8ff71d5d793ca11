"""The example that lies beside an exported detector."""

from pathlib import Path

from malaria_cells.proposals.learned import FRAME, LARGEST_LOG_SIZE, LEAST_HEAT, MULTIPLE, STRIDE, WORKING_CELL_SIZE

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

_ALONE = '''"""Finds the cells of photographs without Keras: python example.py PICTURE .. > cells.csv

One view a cell, no rule for nested boxes; `malaria-cells run --model THIS_FOLDER` has both, tables and pictures too.
"""
import sys
from pathlib import Path

import cv2
import numpy as np
import yaml
@IMPORT@

here = Path(__file__).parent


@OPEN@


m = yaml.safe_load((here / "model.yaml").read_text())
rule, names, fit, size = m["settings"], m["labels"]["names"], m["calibration"], m["cell_size"]
infected = np.isin(names, m["labels"]["infected"])
proposer, classifier = network("proposer"), network("classifier")
print("image,label,score,x_min,y_min,x_max,y_max")
for file in sys.argv[1:]:
    picture = cv2.imread(file)[..., ::-1]
    # Where are cells? Peaks of a heat map, at a scale at which the usual cell has @CELL@ pixels.
    how = cv2.INTER_AREA if size > @CELL@ else cv2.INTER_LINEAR
    small = cv2.resize(picture, None, fx=@CELL@ / size, fy=@CELL@ / size, interpolation=how)
    below, right = (@FRAME@ + -(n + 2 * @FRAME@) % @MULTIPLE@ for n in small.shape[:2])
    framed = cv2.copyMakeBorder(small, @FRAME@, below, @FRAME@, right, cv2.BORDER_CONSTANT)
    places = proposer(framed[None].astype(np.float32))[0]
    heat = places[..., 0].copy()
    y, x = np.nonzero((heat >= cv2.dilate(heat, np.ones((3, 3), np.uint8))) & (heat >= @HEAT@))
    centre = (np.stack([x, y], axis=1) + places[y, x, 1:3]) * @STRIDE@ - @FRAME@
    half = np.exp(places[y, x, 3:].clip(-@LOG@, @LOG@)) * @CELL@ / 2
    limit = np.array(picture.shape[1::-1])
    scale = limit / small.shape[1::-1]
    boxes = np.concatenate([(centre - half) * scale, (centre + half) * scale], axis=1).clip(0, [*limit, *limit])
    inside = ((centre >= 0) & (centre < small.shape[1::-1])).all(axis=1)
    boxes, sure = boxes[inside], heat[y, x][inside]
    if not len(boxes):
        continue
    # What is each? Squares around them, reflected at the border.
    side = (np.maximum(*(boxes[:, 2:] - boxes[:, :2]).T) * m["context"]).round().clip(1)
    corner = np.rint((boxes[:, :2] + boxes[:, 2:]) / 2 - side[:, None] / 2).astype(int)
    margin = int(side.max()) + 1
    wide = cv2.copyMakeBorder(picture, *[margin] * 4, cv2.BORDER_REFLECT_101)
    squares = [wide[b + margin : b + margin + s, a + margin : a + margin + s] for (a, b), s in zip(corner, side.astype(int))]
    height, width = m["image_size_hw"]
    ways = [cv2.INTER_AREA if len(s) >= max(height, width) else cv2.INTER_LINEAR for s in squares]
    patches = [cv2.resize(s, (width, height), interpolation=way) for s, way in zip(squares, ways)]
    p = classifier(np.array(patches, dtype=np.float32))
    p = p.clip(1e-7, 1) ** (1 / fit["temperature"]) * np.exp(fit["shift"] * np.array(fit["log_prior_ratio"]))
    p = p[:, : len(names)] / p.sum(axis=1, keepdims=True)
    # How sure is it of a cell, of an infection, of a stage?
    cell = p.sum(axis=1) * sure ** rule["proposal_weight"]
    p /= p.sum(axis=1, keepdims=True)
    sick = p[:, infected].sum(axis=1)
    suspect = sick >= rule["candidate_threshold"]
    label = np.where(suspect[:, None] == infected, p, -1).argmax(axis=1)
    best = p[range(len(p)), label]
    score = np.where(suspect, np.sqrt(sick * best), best) * cell
    corner_and_size = np.c_[boxes[:, :2], boxes[:, 2:] - boxes[:, :2]].tolist()
    for i in cv2.dnn.NMSBoxes(corner_and_size, score.tolist(), rule["score_threshold"], rule["nms_iou"]):
        print(Path(file).name, names[label[i]], f"{score[i]:.4f}", *(f"{v:.1f}" for v in boxes[i]), sep=",")
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


def write_example(folder: Path, form: str, alone: bool) -> None:
    """Write ``example.py``.

    Args:
        folder: of the exported detector.
        form: one of `formats.FORMATS`.
        alone: whether the networks are all there is to the detector: then the example needs NumPy, OpenCV, PyYAML and the
            engine, else this package too.
    """
    text = _ALONE if alone else _BY_PACKAGE
    numbers = {"CELL": f"{WORKING_CELL_SIZE:g}", "FRAME": FRAME, "MULTIPLE": MULTIPLE, "STRIDE": STRIDE, "HEAT": LEAST_HEAT}
    values = {"IMPORT": _IMPORTS[form], "OPEN": _OPEN[form], "LOG": LARGEST_LOG_SIZE, **numbers}
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    (folder / EXAMPLE).write_text(text, encoding="utf-8")

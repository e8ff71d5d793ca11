"""Exported models that no training made: small ONNX networks with random weights, right in format and quick to run."""

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.calibration import Calibration, InfectionSigmoid
from malaria_cells.inference.decision import DetectionSettings
from malaria_cells.inference.engines import exported_network
from malaria_cells.inference.model_description import ModelDescription
from malaria_cells.inference.model_yaml import save_description

CELL_SIZE = 30.0
LABELS = {
    1: LabelSet(("cell",)),
    2: LabelSet(("healthy", "infected"), infected=("infected",), red_cells=("healthy",)),
    6: LabelSet(
        ("red blood cell", "leukocyte", "gametocyte", "ring", "trophozoite", "schizont"),
        infected=("gametocyte", "ring", "trophozoite", "schizont"),
        red_cells=("red blood cell",),
    ),
}


def _save(path, nodes, constants, shape_in, shape_out):
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape_in)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, shape_out)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def save_proposer(path, seed=0):
    """Peaks, offsets and sizes wherever random weights see some in places of 4 x 4 pixels."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(5, 3, 4, 4))
    weights -= weights.mean(axis=(1, 2, 3), keepdims=True)  # an even field is neither a cell nor none
    weights *= np.array([1.0, 0.2, 0.2, 0.2, 0.2])[:, None, None, None] / 255
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["channels", "weights", "bias"], ["seen"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Transpose", ["seen"], ["places"], perm=[0, 2, 3, 1]),
        helper.make_node("Split", ["places", "parts"], ["centre", "size"], axis=3),
        helper.make_node("Sigmoid", ["centre"], ["sure"]),
        helper.make_node("Concat", ["sure", "size"], ["answer"], axis=3),
    ]
    constants = {
        "weights": weights.astype(np.float32),
        "bias": np.array([0, 0.5, 0.5, 0, 0], np.float32),
        "parts": np.array([3, 2], np.int64),
    }
    _save(path, nodes, constants, [None, None, None, 3], [None, None, None, 5])


def save_classifier(path, size_hw, n_classes, seed, sigmoid=False):
    """Answers by random weights of every pixel, so that a patch that is cut or turned otherwise is answered otherwise."""
    rng = np.random.default_rng(seed)
    units = 1 if sigmoid else n_classes
    inputs = size_hw[0] * size_hw[1] * 3
    weights = (rng.normal(size=(inputs, units)) * 4 / np.sqrt(inputs) / 60).astype(np.float32)
    nodes = [
        helper.make_node("Sub", ["pixels", "grey"], ["shifted"]),
        helper.make_node("Flatten", ["shifted"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Sigmoid" if sigmoid else "Softmax", ["logits"], ["answer"]),
    ]
    _save(path, nodes, {"weights": weights, "grey": np.float32(128)}, [None, *size_hw, 3], [None, units])


def save_export(folder, n_labels, refiner=False, has_background=True, sigmoid=False, stain="none", **settings):
    """Write a folder as `malaria-cells export --format onnx` does; its description is returned."""
    labels, size_hw, closer_hw = LABELS[n_labels], (12, 12), (16, 16)
    n_classes = n_labels + has_background
    infected = (*labels.is_infected.tolist(), *([False] * has_background))
    infection = InfectionSigmoid(infected, 0.8, 0.6) if any(infected) else None
    ratio = np.random.default_rng(3).normal(size=n_classes) / 2
    description = ModelDescription(
        labels=labels,
        model="compact",
        has_background=has_background,
        image_size_hw=size_hw,
        context=1.25,
        cell_size=CELL_SIZE,
        proposals="learned",
        box_margins={},
        settings=replace(DetectionSettings(score_threshold=0.02, proposal_weight=0.3), **settings),
        calibration=Calibration(0.9, 0.6, tuple(ratio.tolist()), infection),
        fingerprints={},
        seed=0,
        proposer_tta=4,
        refiner="lite" if refiner else None,
        refiner_size_hw=closer_hw if refiner else None,
        stain=stain,
    )
    folder.mkdir(exist_ok=True)
    save_proposer(folder / "proposer.onnx")
    save_classifier(folder / "classifier.onnx", size_hw, n_classes, 1, sigmoid)
    if refiner:
        save_classifier(folder / "refiner.onnx", closer_hw, n_classes, 2, sigmoid)
    names = ["classifier", *(["refiner"] if refiner else [])]
    save_description(folder, [exported_network(folder, name, "onnx") for name in names], description)
    return description

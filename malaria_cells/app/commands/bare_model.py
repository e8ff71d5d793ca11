"""Bare Keras model files without a model folder: their input and output are checked before any image is read."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.app.commands.run_request import RunRequest
from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.tensorflow_setup import INPUT_RANGES, UNSCALED, InputRange
from malaria_cells.base.text import number_of
from malaria_cells.data.labels import BACKGROUND
from malaria_cells.inference.classifier import Cascade, Network, PatchClassifier, inference_function
from malaria_cells.inference.decision import DetectionSettings
from malaria_cells.inference.two_stage_detector import TwoStageDetector
from malaria_cells.models.last_activation import last_activation

log = logging.getLogger(__name__)

CONTEXT = 1.25  # side of the square crop divided by the longer side of the box, if there is no model.yaml
LABELS_FILE = "labels.txt"  # file that Teachable Machine writes beside keras_model.h5
SIGMOIDS = {"sigmoid", "hard_sigmoid"}
SCALING_LAYERS = {"Rescaling", "Normalization"}
TOLERANCE = 1e-2  # maximum difference of a sum of probabilities from 1; in half precision it is 0.001
N_PROBES = 4  # test images of noise, and as many of uniform grey


def bare_detector(request: RunRequest, model: Path) -> TwoStageDetector:
    """Load a classifier from a Keras file. Its labels come from --labels, from a file beside it, or are numbered.

    Raises:
        InputError: the file cannot be loaded, or the network does not map one image to class probabilities.
    """
    from malaria_cells.config import Config
    from malaria_cells.data.set_reading import label_set
    from malaria_cells.inference.calibration import Calibration
    from malaria_cells.models.stored.keras_files import load_network
    from malaria_cells.proposals import Proposer

    network = load_network(model)
    _check_input(model, network)
    n_outputs = _checked_outputs(model, network)
    n_classes = max(n_outputs, 2)
    names, context = _names(request, model, n_classes)
    input_range = _input_range(request, model, network)
    size_hw = tuple(network.input_shape[1:3])
    activation = last_activation(network)
    if n_outputs == 1:
        _check_single_output(model, activation)
    predict, outputs = _probe(model, network, input_range, size_hw)
    if _gives_logits(model, activation, outputs):
        predict = inference_function(network, input_range, is_logits=True)
    has_background = names[-1] == BACKGROUND
    classifier = PatchClassifier(
        label_set(Config(labels=names[:-1] if has_background else names)),
        has_background,
        size_hw,
        context,
        Calibration.none(n_classes),
        Cascade(predict),
    )
    return TwoStageDetector(Proposer(), classifier, settings=DetectionSettings())


def _check_input(model: Path, network: Any) -> None:
    if len(network.inputs) != 1:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in network.inputs)
        raise InputError(f"{model}: expected a model of one input, an image; found {len(network.inputs)} inputs: {shapes}")
    shape = tuple(network.inputs[0].shape)
    message = f"{model}: expected a model of one image of fixed size and three channels, (None, H, W, 3); found input shape {shape}"
    if len(shape) != 4:
        raise InputError(message)
    if shape[1] in {1, 3, 4} and shape[3] not in {1, 3, 4}:
        raise InputError(f"{message}, channels first; rebuild it with data_format='channels_last', copy its weights, and save it")
    if shape[3] == 1:
        raise InputError(
            f"{message}, grey images; smears are in colour, which distinguishes parasites. Train it on colour images, or put a layer that "
            "converts colour to grey in front of it: Conv2D(1, 1, use_bias=False) with the weights 0.299, 0.587 and 0.114"
        )
    if shape[3] != 3:
        raise InputError(f"{message}; images have the channels red, green and blue")
    if None in shape[1:3]:
        raise InputError(f"{message}; put keras.Input((H, W, 3)) with the size of the training images in front of it, and save it")


def _checked_outputs(model: Path, network: Any) -> int:
    """The number of output values for one image."""
    expected = f"{model}: expected a classifier with one output, the probabilities of the classes, (None, n)"
    if len(network.outputs) != 1:
        shapes = ", ".join(f"{tensor.name} {tuple(tensor.shape)}" for tensor in network.outputs)
        raise InputError(
            f"{expected}; found {len(network.outputs)} outputs: {shapes}; save a model that has only the output of the classes"
        )
    shape = tuple(network.outputs[0].shape)
    if len(shape) != 2 or not shape[1]:
        hint = ", a segmentation map" if len(shape) == 4 else ""
        raise InputError(f"{expected}; found output shape {shape}{hint}")
    return int(shape[1])


def _names(request: RunRequest, model: Path, n_classes: int) -> tuple[list[str], float]:
    """The class names, and the context around a box, see `CONTEXT`."""
    from malaria_cells.inference.model_description import ABOUT
    from malaria_cells.inference.model_yaml import load_description

    names, source, context = request.labels, "--labels", CONTEXT
    if names is None and (model.parent / ABOUT).is_file():
        description, _ = load_description(model.parent)
        names = [*description.labels.names, *([BACKGROUND] if description.has_background else [])]
        source, context = str(model.parent / ABOUT), description.context
    if names is None and (model.parent / LABELS_FILE).is_file():
        names, source = _read_labels_file(model.parent / LABELS_FILE), str(model.parent / LABELS_FILE)
        if names is not None and len(names) == n_classes:
            log.warning(f"{model}: labels are read from {LABELS_FILE} beside it: {', '.join(names)}; --labels A,B,... replaces them")
        else:
            content = "no lines such as '0 ring'" if names is None else number_of(len(names), "label")
            log.warning(f"{source}: not used, since it holds {content} and {model.name} has {n_classes} classes")
            names = None
    if names is None:
        names = [f"class {i}" for i in range(n_classes)]
        log.warning(f"{model}: the file holds no labels, so they are numbered; name them with --labels A,B,..., or give a model folder")
    if len(names) != n_classes:
        raise InputError(
            f"{source}: found {len(names)} names ({', '.join(names)}), but {model} has {n_classes} classes; "
            f"give --labels {n_classes} names, in the order of its outputs"
        )
    if "" in names:
        raise InputError(f"{source}: name {names.index('') + 1} of {len(names)} is empty; expected a name for each class")
    return list(names), context


def _read_labels_file(path: Path) -> list[str] | None:
    """Read the labels of Teachable Machine: lines of a number and a name. None if the file has another format."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        return None
    matches = [re.fullmatch(r"(\d{1,6})[ \t:]+(.+)", line) for line in lines]
    if not matches or any(match is None or int(match[1]) != i for i, match in enumerate(matches)):
        return None
    return [match[2] for match in matches if match]


def _input_range(request: RunRequest, model: Path, network: Any) -> InputRange:
    if request.input_range is not None:
        return INPUT_RANGES[request.input_range]
    if request.input_divisor is not None:
        return InputRange(0.0, request.input_divisor)
    if not any(type(layer).__name__ in SCALING_LAYERS for layer in _layers(network)):
        teachable = (model.parent / LABELS_FILE).is_file()
        log.warning(
            f"{model}: none of its layers scales pixels, so it gets values from 0 to 255; if it was trained on values from 0 to 1, add "
            "--input-range 0,1 (the same as --input-divisor 255); if on values from -1 to 1, as are models of "
            f"{'Teachable Machine' if teachable else 'MobileNet and Teachable Machine'}, add --input-range=-1,1; "
            "if 0 to 255 is right, --input-range 0,255 silences this warning"
        )
    return UNSCALED


def _layers(network: Any) -> Iterator[Any]:
    """The layers of a network and of the networks nested in it."""
    for layer in network.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)


def _probe(model: Path, network: Any, input_range: InputRange, size_hw: tuple[int, ...]) -> tuple[Network, np.ndarray]:
    """The network as one graph, and its outputs for images of noise and of uniform grey, float (2 * `N_PROBES`, k)."""
    rng = np.random.default_rng(0)
    greys = np.linspace(0, 255, N_PROBES).astype(np.uint8)[:, None, None, None]
    noise = rng.integers(0, 256, (N_PROBES, *size_hw, 3), dtype=np.uint8)
    pixels = np.concatenate([noise, np.broadcast_to(greys, (N_PROBES, *size_hw, 3))])
    try:
        predict = inference_function(network, input_range)
        outputs = predict(pixels)
    except Exception as error:  # a layer may raise any exception
        raise InputError(f"{model}: fails on an image of {size_hw[0]} x {size_hw[1]} pixels: {reason(error)}") from error
    if not np.isfinite(outputs).all():
        raise InputError(f"{model}: its outputs are NaN or infinite; its training diverged, or it needs another --input-range")
    return predict, outputs


def _check_single_output(model: Path, activation: str) -> None:
    """Check that a single output is a sigmoid. Its values alone do not show it, since they may lie within 0 and 1 by chance."""
    if activation not in SIGMOIDS:
        what = "a softmax, which is always 1" if activation == "softmax" else f"the activation {activation}, which is no probability"
        raise InputError(f"{model}: its one output has {what}; expected a sigmoid: add keras.layers.Activation('sigmoid') and save it")


def _gives_logits(model: Path, activation: str, outputs: np.ndarray) -> bool:
    """Whether the outputs are logits, judged by the last activation and by outputs for test images.

    Raises:
        InputError: the outputs are neither probabilities nor logits.
    """
    n = outputs.shape[1]
    is_within_unit = bool((outputs >= -TOLERANCE).all() and (outputs <= 1 + TOLERANCE).all())
    if is_within_unit and (n == 1 or np.abs(outputs.sum(axis=1) - 1).max() < TOLERANCE):
        return False
    if activation in SIGMOIDS and is_within_unit:
        log.warning(
            f"{model}: its {n} outputs are independent sigmoids, which do not sum to 1; an image gets one label here, so they are divided "
            "by their sum, and an image of none of the classes is not recognised as such"
        )
        return False
    if activation == "linear":
        log.warning(f"{model}: its last layer has no activation, so its {n} outputs are taken as logits and a softmax is applied")
        return True
    low, high = float(outputs.min()), float(outputs.max())
    raise InputError(
        f"{model}: its {n} outputs are no probabilities: they range from {low:.3g} to {high:.3g} on test images, after the activation "
        f"{activation}; expected a softmax as its last layer"
    )

"""A network's file alone, as other people give it: what it takes and gives is looked at before any image is."""

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
from malaria_cells.inference.classifier import Network, PatchClassifier, inference_function
from malaria_cells.inference.detector import DetectionSettings, TwoStageDetector

log = logging.getLogger(__name__)

CONTEXT = 1.25  # side of the square around a box, by its longer side, where no model.yaml says it
LABELS_FILE = "labels.txt"  # beside the keras_model.h5 of Teachable Machine
SIGMOIDS = {"sigmoid", "hard_sigmoid"}
SCALING = {"Rescaling", "Normalization"}
PASSING = {"Reshape", "Flatten", "Dropout", "Identity", "ActivityRegularization"}  # layers that leave what a probability is
TOLERANCE = 1e-2  # by which the sum of probabilities may differ from 1; half precision's by a thousandth
PROBE = 4  # images of noise, and as many of one grey


def bare_detector(request: RunRequest, model: Path) -> TwoStageDetector:
    """Load a classifier from a file of Keras; its labels come from --labels, from what lies beside it, or are numbered.

    Raises:
        InputError: it cannot be loaded, does not take one image, or does not give the probabilities of classes.
    """
    from malaria_cells.config import Config
    from malaria_cells.data.set_reading import label_set
    from malaria_cells.inference.calibration import Calibration
    from malaria_cells.inference.model_folder import load_network
    from malaria_cells.proposals import Proposer

    network = load_network(model)
    _check_input(model, network)
    n_outputs = _checked_outputs(model, network)
    n_classes = max(n_outputs, 2)
    names, context = _names(request, model, n_classes)
    scaled = _scaling(request, model, network)
    size_hw = tuple(network.input_shape[1:3])
    last = _last_activation(network)
    if n_outputs == 1:
        _check_single(model, last)
    in_use, answers = _probe(model, network, scaled, size_hw)
    if _gives_logits(model, last, answers):
        in_use = inference_function(network, scaled, is_logits=True)
    has_background = names[-1] == BACKGROUND
    classifier = PatchClassifier(
        label_set(Config(labels=names[:-1] if has_background else names)),
        has_background,
        size_hw,
        context,
        Calibration.none(n_classes),
        in_use,
    )
    return TwoStageDetector(Proposer(), classifier, settings=DetectionSettings())


def _check_input(model: Path, network: Any) -> None:
    if len(network.inputs) != 1:
        shapes = ", ".join(str(tuple(each.shape)) for each in network.inputs)
        raise InputError(f"{model}: expected a model of one input, an image; found {len(network.inputs)} inputs: {shapes}")
    shape = tuple(network.inputs[0].shape)
    found = f"{model}: expected a model of one image of fixed size and three channels, (None, H, W, 3); found input shape {shape}"
    if len(shape) != 4:
        raise InputError(found)
    if shape[1] in {1, 3, 4} and shape[3] not in {1, 3, 4}:
        raise InputError(f"{found}, channels first; build it anew with data_format='channels_last', copy its weights, and save that")
    if shape[3] == 1:
        raise InputError(
            f"{found}, grey images; these are in colour, which tells parasites from cells: train it on colour, or put a layer "
            "that makes one channel of three in front of it, Conv2D(1, 1, use_bias=False) with the weights 0.299, 0.587 and 0.114"
        )
    if shape[3] != 3:
        raise InputError(f"{found}; images have the channels red, green and blue")
    if None in shape[1:3]:
        raise InputError(f"{found}; fix the size that it was trained with, by keras.Input((H, W, 3)) in front of it, and save that")


def _checked_outputs(model: Path, network: Any) -> int:
    """The number of outputs for one image."""
    expected = f"{model}: expected a classifier, whose one output is a probability for each class, (None, n)"
    if len(network.outputs) != 1:
        shapes = ", ".join(f"{each.name} {tuple(each.shape)}" for each in network.outputs)
        raise InputError(f"{expected}; found {len(network.outputs)} outputs: {shapes}; save the one of the classes as a model of its own")
    shape = tuple(network.outputs[0].shape)
    if len(shape) != 2 or not shape[1]:
        what = ", a map as of a segmentation" if len(shape) == 4 else ""
        raise InputError(f"{expected}; found output shape {shape}{what}")
    return int(shape[1])


def _names(request: RunRequest, model: Path, n_classes: int) -> tuple[list[str], float]:
    """The classes' names, and the context around a box."""
    from malaria_cells.inference.model_description import ABOUT, load_description

    names, source, context = request.labels, "--labels", CONTEXT
    if names is None and (model.parent / ABOUT).is_file():
        description, _ = load_description(model.parent)
        names = [*description.labels.names, *([BACKGROUND] if description.has_background else [])]
        source, context = str(model.parent / ABOUT), description.context
    if names is None and (model.parent / LABELS_FILE).is_file():
        names, source = _of_labels_file(model.parent / LABELS_FILE), str(model.parent / LABELS_FILE)
        if names is not None and len(names) == n_classes:
            log.warning(f"{model}: labels are those of {LABELS_FILE} beside it: {', '.join(names)}; --labels A,B,... names others")
        else:
            holds = "no lines such as '0 ring'" if names is None else number_of(len(names), "label")
            log.warning(f"{source}: not used, it holds {holds}, {model.name} has {n_classes} classes")
            names = None
    if names is None:
        names = [f"class {i}" for i in range(n_classes)]
        log.warning(f"{model}: a bare model names no labels; they are numbered. Name them with --labels A,B,..., or give the model folder")
    if len(names) != n_classes:
        raise InputError(
            f"{source}: found {len(names)} names ({', '.join(names)}), {model} has {n_classes} classes; "
            "give --labels that many names, in the order of its outputs"
        )
    if "" in names:
        raise InputError(f"{source}: name {names.index('') + 1} of {len(names)} is empty; expected a name for each class")
    return list(names), context


def _of_labels_file(path: Path) -> list[str] | None:
    """The labels of Teachable Machine, one a line behind its number; None where the file has another format."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        return None
    found = [re.fullmatch(r"(\d{1,6})[ \t:]+(.+)", line) for line in lines]
    if not found or any(match is None or int(match[1]) != i for i, match in enumerate(found)):
        return None
    return [match[2] for match in found if match]


def _scaling(request: RunRequest, model: Path, network: Any) -> InputRange:
    if request.input_range is not None:
        return INPUT_RANGES[request.input_range]
    if request.input_divisor is not None:
        return InputRange(0.0, request.input_divisor)
    if not any(type(layer).__name__ in SCALING for layer in _layers(network)):
        teachable = (model.parent / LABELS_FILE).is_file()
        log.warning(
            f"{model}: no layer of it scales pixels, it is given 0 to 255; if its training divided by 255, add --input-divisor 255 "
            "(the same as --input-range 0,1); if it had them from -1 to 1, as "
            f"{'those of Teachable Machine' if teachable else 'MobileNet and Teachable Machine'}, add --input-range=-1,1; "
            "--input-range 0,255 says that it is right so"
        )
    return UNSCALED


def _layers(network: Any) -> Iterator[Any]:
    """The layers, those of networks within it included."""
    for layer in network.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)


def _probe(model: Path, network: Any, scaled: InputRange, size_hw: tuple[int, ...]) -> tuple[Network, np.ndarray]:
    """The network as one graph, and its answers to images of noise and of even grey, float (n, k)."""
    rng = np.random.default_rng(0)
    greys = np.linspace(0, 255, PROBE).astype(np.uint8)[:, None, None, None]
    pixels = np.concatenate([rng.integers(0, 256, (PROBE, *size_hw, 3), dtype=np.uint8), np.broadcast_to(greys, (PROBE, *size_hw, 3))])
    try:
        in_use = inference_function(network, scaled)
        answers = in_use(pixels)
    except Exception as error:  # TensorFlow raises whatever stops a layer
        raise InputError(f"{model}: cannot be given an image of {size_hw[0]} x {size_hw[1]} pixels: {reason(error)}") from error
    if not np.isfinite(answers).all():
        raise InputError(f"{model}: answers with what is no number (NaN or infinite); its training diverged, or pixels need --input-range")
    return in_use, answers


def _check_single(model: Path, last: str) -> None:
    """See that a single output is a probability: it may go from 0 to 1 by chance."""
    if last not in SIGMOIDS:
        what = "a softmax, which is always 1" if last == "softmax" else f"the activation {last}, which is no probability"
        raise InputError(f"{model}: its one output has {what}; expected a sigmoid: add keras.layers.Activation('sigmoid') and save that")


def _gives_logits(model: Path, last: str, answers: np.ndarray) -> bool:
    """Whether the outputs are logits of classes, by the last activation and by answers.

    Raises:
        InputError: they are neither probabilities nor logits.
    """
    n = answers.shape[1]
    within = bool((answers >= -TOLERANCE).all() and (answers <= 1 + TOLERANCE).all())
    if within and (n == 1 or np.abs(answers.sum(axis=1) - 1).max() < TOLERANCE):
        return False
    if last in SIGMOIDS and within:
        log.warning(
            f"{model}: its {n} outputs are sigmoids, each for itself, which do not sum to 1; an image gets one label here, so they are "
            "divided by their sum: an image of none of the classes is not to be seen"
        )
        return False
    if last == "linear":
        log.warning(f"{model}: its last layer has no activation, so its {n} outputs are taken for logits: a softmax makes probabilities")
        return True
    low, high = float(answers.min()), float(answers.max())
    raise InputError(
        f"{model}: its {n} outputs are no probabilities: they go from {low:.3g} to {high:.3g} on images of noise, behind the activation "
        f"{last}; expected a softmax as its last layer"
    )


def _last_activation(network: Any) -> str:
    """The name of the activation that makes the output; ``unknown`` where no layer says it."""
    import keras

    tensor = network.outputs[0]
    while True:
        operation = tensor._keras_history.operation  # Keras has no public way from a tensor to its layer
        kind = type(operation).__name__
        if isinstance(operation, keras.Model) and len(operation.outputs) == 1:
            tensor = operation.outputs[0]
        elif kind in PASSING or (kind == "Activation" and operation.activation is keras.activations.linear):
            tensor = keras.tree.flatten(operation.input)[0]
        elif kind in {"Softmax", "Sigmoid"}:
            return kind.lower()
        else:
            activation = getattr(operation, "activation", None)
            return getattr(activation, "__name__", "unknown")

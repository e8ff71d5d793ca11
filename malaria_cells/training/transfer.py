"""Copies weights from one network to another: the body by name and shape, the last layer by the names of its classes.

A sigmoid unit equals a softmax of two classes whose first class has zero weights, so each kind of last layer can be converted to the
other without changing any output.
"""

from collections.abc import Sequence

import keras
import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.config import Config
from malaria_cells.data.labels import BACKGROUND, LabelSet
from malaria_cells.inference.classifier import both_classes
from malaria_cells.inference.model_folder import PROPOSER
from malaria_cells.models import build_classifier
from malaria_cells.models.stored.keras_files import load_network
from malaria_cells.proposals.learned import centre_network, screening_network
from malaria_cells.training.class_transfer import Classes, classes_of
from malaria_cells.training.start_model import StartModel, fine_tuned

NOISE = 0.1  # standard deviations of the last layer's weights; noise added to the initial weights of a new class
MAX_DIFFERENCE = 1e-3  # probability; networks whose outputs differ by no more count as the same
CHECK_PATCHES = 4  # random patches on which the two networks are compared


def start_classifiers(start: StartModel, config: Config, labels: LabelSet, n_classes: int) -> list[keras.Model | None]:
    """Build each classifier of a config with the start model's weights.

    If the start model shares no label, the weights of the last layer are new.

    Args:
        start: the start model.
        config: the config that `with_start` returned.
        labels: labels of the training.
        n_classes: number of classes, including the background class.

    Returns:
        A network for each classifier; None for one that is trained from scratch (`fine_tuned`).

    Raises:
        InputError: a network of the start model is not the one that this version builds by that name, or has another input size.
    """
    classes = classes_of(start, labels, n_classes)
    described = start.description
    sizes_hw = (described.image_size_hw, described.refiner_size_hw or described.image_size_hw)
    networks: list[keras.Model | None] = []
    for number, (recipe, is_same) in enumerate(zip(config.classifiers, fine_tuned(config, start), strict=True)):
        if not is_same:
            networks.append(None)
            continue
        before = load_network(start.folder / described.files[number])
        networks.append(_network(before, sizes_hw[number], recipe, classes, str(start.folder / described.files[number])))
    return networks


def start_proposer(start: StartModel) -> keras.Model:
    """Load the start model's network of learned proposals, without its screening head, which fine-tuning would make wrong.

    Raises:
        InputError: the network cannot be loaded, or its output has another shape than this version's.
    """
    model = screening_network.without_screening(load_network(start.folder / PROPOSER))
    expected = centre_network.build().output_shape
    if model.output_shape != expected:
        raise InputError(
            f"start_from: {start.folder / PROPOSER} has output shape {model.output_shape}, expected {expected}; train from scratch"
        )
    return model


def _network(before: keras.Model, size_hw: tuple[int, int], recipe: Config, classes: Classes, source: str) -> keras.Model:
    def build(image_size_hw: tuple[int, int]) -> keras.Model:
        return build_classifier(recipe.model, image_size_hw, len(classes.now), recipe.dropout, "none", recipe.freeze)

    network = build(size_hw)
    transfer(before, network, classes, recipe.random_state, source)
    check_same(before, network, classes, source)
    if recipe.image_size == size_hw:
        return network
    resized = build(recipe.image_size)
    if [v.shape for v in resized.weights] != [v.shape for v in network.weights]:
        raise InputError(
            f"image_size: {list(recipe.image_size)}: the layers of '{recipe.model}' depend on the input size, so it can only be fine-tuned "
            f"from {source} with that model's size, {list(size_hw)}"
        )
    resized.set_weights(network.get_weights())
    return resized


def transfer(before: keras.Model, now: keras.Model, classes: Classes, seed: int, source: str = "the start model") -> None:
    """Copy all weights, including normalization statistics, into a network of the same architecture.

    In the last layer a class of both networks keeps its weights, a class that the new network lacks is dropped, and a new class starts
    from the mean of the old labels plus a little noise.

    Args:
        before: network to copy from.
        now: network to copy to; its last layer is for `classes.now`.
        classes: classes of the two networks.
        seed: seed of the noise.
        source: name of `before` in error messages.

    Raises:
        InputError: the architectures differ.
    """
    old_body, new_body = _body(before), _body(now)
    by_path = {v.path: v for v in old_body}
    pairs = [(by_path.get(v.path), v) for v in new_body]
    if len(old_body) == len(new_body) and any(o is None for o, _ in pairs):  # names of layers that Keras numbers may differ
        pairs = list(zip(old_body, new_body, strict=True))
    mismatched = [v.path for o, v in pairs if o is None or o.shape != v.shape]
    old_head = _head(before)
    if mismatched or len(old_body) != len(new_body) or old_head[0].shape[0] != _head(now)[0].shape[0]:
        first = f"; first: {mismatched[0]}" if mismatched else ""
        raise InputError(f"{source}: is not the network that this version builds by that name{first}; train from scratch")
    for old, new in pairs:
        new.assign(old)
    for variable, values in zip(_head_variables(now), _chosen(old_head, classes, seed), strict=True):
        variable.assign(values)


def check_same(before: keras.Model, now: keras.Model, classes: Classes, source: str) -> None:
    """Check that a network gives the same outputs, for the classes of both, as the network that its weights come from.

    Raises:
        InputError: the outputs differ, because layers without weights, such as the preprocessing of pixels, differ.
    """
    if not classes.kept:
        return
    size_hw = before.input_shape[1:3]
    pixels = np.random.default_rng(0).integers(0, 256, (CHECK_PATCHES, *size_hw, 3)).astype(np.float32)
    answers = []
    for network, columns in (
        (before, [classes.before.index(name) for name in classes.origins.values()]),
        (now, [classes.now.index(name) for name in classes.origins]),
    ):
        probabilities = both_classes(np.asarray(network(pixels, training=False)))[:, columns]
        answers.append(probabilities / np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-9))
    if np.abs(answers[0] - answers[1]).max() > MAX_DIFFERENCE:
        raise InputError(f"{source}: this version builds another network from its weights, whose outputs differ; train from scratch")


def averaged_weights(start: Sequence[np.ndarray], new: Sequence[np.ndarray], fraction: float) -> list[np.ndarray]:
    """Average the weights before and after fine-tuning (Wortsman et al. 2022, arXiv:2109.01903, equation 1).

    Args:
        start: weights before.
        new: weights after.
        fraction: fraction of the new weights, 0 to 1.
    """
    return [(1 - fraction) * old + fraction * changed for old, changed in zip(start, new, strict=True)]


def _head_variables(model: keras.Model) -> list[keras.Variable]:
    return list(model.layers[-1].weights)


def _body(model: keras.Model) -> list[keras.Variable]:
    head = {id(v) for v in _head_variables(model)}
    return [v for v in model.weights if id(v) not in head]


def _head(model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel (k, c) and bias (c,) of the last layer, as for a softmax with one column per class."""
    last = model.layers[-1]
    if not isinstance(last, keras.layers.Dense) or not last.use_bias:
        raise InputError(f"start_from: the last layer of {model.name} is not a Dense layer with a bias; the network cannot be fine-tuned")
    kernel, bias = (np.asarray(v) for v in last.weights)
    if kernel.shape[1] == 1:
        return np.pad(kernel, ((0, 0), (1, 0))), np.pad(bias, (1, 0))
    return kernel, bias


def _chosen(head: tuple[np.ndarray, np.ndarray], classes: Classes, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    kernel, bias = head
    labels = [i for i, name in enumerate(classes.before) if name != BACKGROUND]
    columns, biases = [], []
    for name in classes.now:
        if name in classes.origins:
            i = classes.before.index(classes.origins[name])
            columns.append(kernel[:, i])
            biases.append(bias[i])
        else:
            columns.append(kernel[:, labels].mean(axis=1) + NOISE * kernel.std() * rng.standard_normal(len(kernel)))
            biases.append(bias[labels].mean())
    new_kernel, new_bias = np.stack(columns, axis=1).astype(np.float32), np.array(biases, dtype=np.float32)
    if len(classes.now) == 2:
        return new_kernel[:, 1:] - new_kernel[:, :1], new_bias[1:] - new_bias[:1]
    return new_kernel, new_bias

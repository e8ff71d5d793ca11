"""Weights of one network into another: the body by name and shape, the last layer by the names of its classes.

A sigmoid unit is a softmax of two classes of which the first has no weights of its own, so that either kind of last layer is
made of the other without a change of any answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import keras
import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.config import Config
from malaria_cells.data.labels import BACKGROUND, LabelSet
from malaria_cells.data.synonyms import means
from malaria_cells.inference.classifier import both_classes
from malaria_cells.inference.model_folder import PROPOSER
from malaria_cells.models import build_classifier
from malaria_cells.models.stored.keras_files import load_network
from malaria_cells.proposals.learned import centre_network
from malaria_cells.training.start_model import StartModel, fine_tuned

NOISE = 0.1  # of the spread of a last layer's weights: new classes begin alike but for so much
SAME = 1e-3  # probability: networks whose answers differ by less compute the same thing
CHECKED = 4  # patches of noise, which both networks are asked about


@dataclass(frozen=True)
class Classes:
    """The classes of the network that weights come from, and those of the one that they go to.

    Attributes:
        before: names, including the background class.
        now: likewise.
    """

    before: tuple[str, ...]
    now: tuple[str, ...]

    @cached_property
    def origins(self) -> dict[str, str]:
        """From each new class that goes on to the old one that it was, in the new order.

        That is the one of its name, or else one whose name usually means the same (RBC, red blood cell): weights are where a training
        begins, so that a wrong guess is learned away; `said_of` tells of it.
        """
        origins = {name: name for name in self.now if name in self.before}
        for name in self.now:
            meaning = None if name in origins else means(name, [other for other in self.before if other not in origins.values()])
            if meaning is not None:
                origins[name] = meaning
        return {name: origins[name] for name in self.now if name in origins}

    @property
    def kept(self) -> list[str]:
        """New classes that go on."""
        return list(self.origins)

    @property
    def new(self) -> list[str]:
        """Classes of the new network alone."""
        return [name for name in self.now if name not in self.origins]

    @property
    def gone(self) -> list[str]:
        """Classes of the old network alone."""
        return [name for name in self.before if name not in self.origins.values()]

    @property
    def columns_before(self) -> list[int | None]:
        """For each new class the old one's place, None if it is new."""
        return [self.before.index(self.origins[name]) if name in self.origins else None for name in self.now]

    @property
    def shares_labels(self) -> bool:
        """Whether a class goes on that is a label, not the background class alone."""
        return any(name != BACKGROUND for name in self.kept)


def classes_of(start: StartModel, labels: LabelSet, n_classes: int) -> Classes:
    """The classes of a start model, and of a training with `n_classes`, which counts the background class if there is one."""
    described = start.description
    before = (*described.labels.names, BACKGROUND) if described.has_background else described.labels.names
    return Classes(before, (*labels.names, BACKGROUND) if n_classes > len(labels) else labels.names)


def start_classifiers(start: StartModel, config: Config, labels: LabelSet, n_classes: int) -> list[keras.Model | None]:
    """For each classifier of a config a network with the start model's weights; None for one that is trained from scratch (`fine_tuned`).

    Where no label goes on, the networks do but for their last layer.

    Args:
        start: where weights come from.
        config: with the start model's values, see `with_start`.
        labels: of the training.
        n_classes: number of classes, including the background class.

    Raises:
        InputError: a network of the start model is not what this version builds by that name, or not for this size of patches.
    """
    classes = classes_of(start, labels, n_classes)
    described = start.description
    sizes_hw = (described.image_size_hw, described.refiner_size_hw or described.image_size_hw)
    found: list[keras.Model | None] = []
    for number, (recipe, is_same) in enumerate(zip(config.classifiers, fine_tuned(config, start), strict=True)):
        if not is_same:
            found.append(None)
            continue
        before = load_network(start.folder / described.files[number])
        found.append(_network(before, sizes_hw[number], recipe, classes, str(start.folder / described.files[number])))
    return found


def start_proposer(start: StartModel) -> keras.Model:
    """The start model's network of learned proposals, to be trained on.

    Raises:
        InputError: it cannot be loaded, or its answers are not of the format that training works with.
    """
    model = load_network(start.folder / PROPOSER)
    expected = centre_network.build().output_shape
    if model.output_shape != expected:
        raise InputError(
            f"start_from: {start.folder / PROPOSER} answers {model.output_shape}, training works with {expected}; train a model anew"
        )
    return model


def _network(before: keras.Model, size_hw: tuple[int, int], recipe: Config, classes: Classes, source: str) -> keras.Model:
    def build(image_size_hw: tuple[int, int]) -> keras.Model:
        return build_classifier(recipe.model, image_size_hw, len(classes.now), recipe.dropout, "none", recipe.freeze)

    built = build(size_hw)
    transfer(before, built, classes, recipe.random_state, source)
    check_same(before, built, classes, source)
    if recipe.image_size == size_hw:
        return built
    other = build(recipe.image_size)
    if [v.shape for v in other.weights] != [v.shape for v in built.weights]:
        raise InputError(
            f"image_size: {list(recipe.image_size)}: the layers of '{recipe.model}' depend on the size of its input, so that it can go on "
            f"from {source} in that one's size alone, {list(size_hw)}"
        )
    other.set_weights(built.get_weights())
    return other


def transfer(before: keras.Model, now: keras.Model, classes: Classes, seed: int, source: str = "the start model") -> None:
    """Copy weights, statistics of normalisation layers among them, into a network of the same architecture.

    A class of both keeps its weights of the last layer, one that is gone is left out, a new one begins with the mean of the
    old labels and a little noise.

    Args:
        before: the network that they come from.
        now: the network that they go to; its last layer is for `classes.now`.
        classes: of the two.
        seed: of the noise.
        source: what `before` is called in errors.

    Raises:
        InputError: the two are not of one architecture.
    """
    old_body, new_body = _body(before), _body(now)
    by_path = {v.path: v for v in old_body}
    pairs = [(by_path.get(v.path), v) for v in new_body]
    if len(old_body) == len(new_body) and any(o is None for o, _ in pairs):  # layers that Keras numbers have other names
        pairs = list(zip(old_body, new_body, strict=True))
    wrong = [v.path for o, v in pairs if o is None or o.shape != v.shape]
    old_head = _head(before)
    if wrong or len(old_body) != len(new_body) or old_head[0].shape[0] != _head(now)[0].shape[0]:
        what = f"; first: {wrong[0]}" if wrong else ""
        raise InputError(f"{source}: is not the network that this version builds by that name{what}; it cannot be gone on from: train anew")
    for old, new in pairs:
        new.assign(old)
    for variable, values in zip(_head_variables(now), _chosen(old_head, classes, seed), strict=True):
        variable.assign(values)


def check_same(before: keras.Model, now: keras.Model, classes: Classes, source: str) -> None:
    """See that a network answers as the one that its weights come from, as far as the classes of both go.

    Raises:
        InputError: it does not: layers without weights, such as what is done to pixels first, are others.
    """
    if not classes.kept:
        return
    size_hw = before.input_shape[1:3]
    pixels = np.random.default_rng(0).integers(0, 256, (CHECKED, *size_hw, 3)).astype(np.float32)
    answers = []
    for network, columns in (
        (before, [classes.before.index(name) for name in classes.origins.values()]),
        (now, [classes.now.index(name) for name in classes.origins]),
    ):
        kept = both_classes(np.asarray(network(pixels, training=False)))[:, columns]
        answers.append(kept / np.maximum(kept.sum(axis=1, keepdims=True), 1e-9))
    if np.abs(answers[0] - answers[1]).max() > SAME:
        raise InputError(f"{source}: answers otherwise than the network that this version builds of its weights; train a model anew")


def averaged_weights(start: Sequence[np.ndarray], new: Sequence[np.ndarray], fraction: float) -> list[np.ndarray]:
    """Weights between those before and after a training (Wortsman et al. 2022, arXiv:2109.01903, equation 1).

    Args:
        start: before.
        new: after.
        fraction: of the new ones, 0 to 1.
    """
    return [(1 - fraction) * old + fraction * changed for old, changed in zip(start, new, strict=True)]


def _head_variables(model: keras.Model) -> list[keras.Variable]:
    return list(model.layers[-1].weights)


def _body(model: keras.Model) -> list[keras.Variable]:
    head = {id(v) for v in _head_variables(model)}
    return [v for v in model.weights if id(v) not in head]


def _head(model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    """Weights (k, c) and offsets (c,) of the last layer, as of a softmax with a column a class."""
    last = model.layers[-1]
    if not isinstance(last, keras.layers.Dense) or not last.use_bias:
        raise InputError(f"start_from: the last layer of {model.name} is no dense layer of classes; it cannot be gone on from")
    kernel, bias = (np.asarray(v) for v in last.weights)
    if kernel.shape[1] == 1:
        return np.pad(kernel, ((0, 0), (1, 0))), np.pad(bias, (1, 0))
    return kernel, bias


def _chosen(head: tuple[np.ndarray, np.ndarray], classes: Classes, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    kernel, bias = head
    labels = [i for i, name in enumerate(classes.before) if name != BACKGROUND]
    columns, offsets = [], []
    for name in classes.now:
        if name in classes.origins:
            i = classes.before.index(classes.origins[name])
            columns.append(kernel[:, i])
            offsets.append(bias[i])
        else:
            columns.append(kernel[:, labels].mean(axis=1) + NOISE * kernel.std() * rng.standard_normal(len(kernel)))
            offsets.append(bias[labels].mean())
    weights, offset = np.stack(columns, axis=1).astype(np.float32), np.array(offsets, dtype=np.float32)
    if len(classes.now) == 2:
        return weights[:, 1:] - weights[:, :1], offset[1:] - offset[:1]
    return weights, offset


def said_of(classes: Classes, folder: Path) -> str:
    """What becomes of the classes, in a line."""
    named = [new if new == old else f"{new} (as {old})" for new, old in classes.origins.items()]
    parts = [f"classes kept: {', '.join(named)}" if classes.shares_labels else "no label in common, so that the last layer is new"]
    parts += [f"new: {', '.join(classes.new)}"] if classes.new else []
    parts += [f"removed: {', '.join(classes.gone)}"] if classes.gone else []
    return f"fine-tuning {folder}: {'; '.join(parts)}"

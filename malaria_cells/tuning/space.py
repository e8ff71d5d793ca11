"""The space of a search: which keys of a config are varied, and among which values.

In: a YAML file such as ``{learning_rate: {log_uniform: [1e-4, 1e-2]}, epochs: {int: [10, 40]}}``. Out: the configs to try.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import qmc

from malaria_cells.base.errors import InputError, nearest
from malaria_cells.base.text import excerpt
from malaria_cells.base.yaml_text import load_yaml
from malaria_cells.config import Config, known_keys, load_config
from malaria_cells.config.data_keys import DataKeys
from malaria_cells.config.keys import RunKeys

KINDS = {
    "uniform": "[low, high] with low < high",
    "log_uniform": "[low, high] with 0 < low < high",
    "int": "[low, high], whole numbers with low < high",
    "choice": "a list of two values or more",
}
# Keys that decide what is scored, or where files are: the figures of two values of theirs cannot be compared.
FIXED = {*DataKeys.model_fields, *RunKeys.model_fields, "patch_cache"}
DIGITS = 4  # significant digits of a drawn number
MAX_REPEATS = 50  # combinations that were drawn before in a row, after which the space counts as exhausted


@dataclass(frozen=True)
class Dimension:
    """A key and the values that it may have.

    Attributes:
        key: the key of the config; a nested key is written as in ``refiner.epochs``.
        kind: one of `KINDS`.
        values: lowest and highest value; or the choices.
    """

    key: str
    kind: str
    values: tuple[Any, ...]

    def at(self, fraction: float) -> Any:
        """The value at a fraction of the range, 0 up to 1 (excluded).

        >>> Dimension("epochs", "int", (10, 40)).at(0.5), Dimension("learning_rate", "log_uniform", (1e-4, 1e-2)).at(0.5)
        (25, 0.001)
        """
        if self.kind == "choice":
            return self.values[int(fraction * len(self.values))]
        low, high = self.values
        if self.kind == "int":
            return low + int(fraction * (high - low + 1))
        value = low * (high / low) ** fraction if self.kind == "log_uniform" else low + (high - low) * fraction
        return min(max(float(f"{value:.{DIGITS}g}"), low), high)

    @property
    def to_check(self) -> tuple[Any, ...]:
        """Values of which the config must accept each: all choices, or both ends and a value between, which need not be whole."""
        return self.values if self.kind == "choice" else (*self.values, self.at(0.37))


@dataclass(frozen=True)
class Point:
    """A combination of values.

    Attributes:
        values: value by key; empty for the config as it is.
        config: the config with these values.
    """

    values: dict[str, Any]
    config: Config


def load_space(path: Path, config_path: Path, overrides: list[str]) -> list[Dimension]:
    """Read a space, and check every key and value against the config.

    Args:
        path: YAML file of the space.
        config_path: YAML file of the config.
        overrides: ``KEY=VALUE`` for the config.

    Raises:
        InputError: a key is unknown or cannot be searched, a range is none, or the config does not accept a value.
    """
    content = load_yaml(path)
    if not isinstance(content, dict) or not content:
        raise InputError(
            f"{path}: found {excerpt(content)}, expected keys of the config, as in 'learning_rate: {{log_uniform: [1e-4, 1e-2]}}'"
        )
    space = [_dimension(path, key, description) for key, description in content.items()]
    for dimension in space:
        for value in dimension.to_check:
            _config_with(path, config_path, overrides, {dimension.key: value})
    return space


def _dimension(path: Path, key: Any, description: Any) -> Dimension:
    """Read the description of one key."""
    if key not in known_keys():
        raise InputError(f"{path}: unknown key {excerpt(key)}{nearest(str(key), known_keys())}; the keys are listed in docs/config.md")
    if key.partition(".")[0] in FIXED:
        raise InputError(f"{path}: {key}: cannot be searched, since it decides what is scored or where files are; set it in the config")
    kinds = ", ".join(KINDS)
    if not isinstance(description, dict) or len(description) != 1:
        raise InputError(f"{path}: {key}: found {excerpt(description)}, expected one of {kinds}, as in {{int: [10, 40]}}")
    ((kind, values),) = description.items()
    if kind not in KINDS:
        raise InputError(f"{path}: {key}: unknown {excerpt(kind)}{nearest(str(kind), KINDS)}; expected one of {kinds}")
    values = [_number(v) for v in values] if isinstance(values, list) and kind != "choice" else values
    if not _is_range(kind, values):
        raise InputError(f"{path}: {key}: {kind}: found {excerpt(values)}, expected {KINDS[kind]}")
    return Dimension(key, kind, tuple(values))


def _number(value: Any) -> Any:
    """A number that YAML reads as a text, such as 1e-4, as a number; other values as they are."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _is_range(kind: str, values: Any) -> bool:
    if not isinstance(values, list) or len(values) < 2:
        return False
    if kind == "choice":
        return True
    types = (int,) if kind == "int" else (int, float)
    if len(values) != 2 or not all(isinstance(v, types) and not isinstance(v, bool) for v in values):
        return False
    return values[0] < values[1] < float("inf") and values[0] > (0 if kind == "log_uniform" else -float("inf"))


def _config_with(path: Path, config_path: Path, overrides: list[str], values: dict[str, Any]) -> Config:
    """The config with values of the space.

    Raises:
        InputError: the config does not accept them; the message names the space's file.
    """
    try:
        return load_config(config_path, overrides + as_overrides(values))
    except InputError as error:
        raise InputError(str(error).replace("--set", str(path))) from None


def as_overrides(values: dict[str, Any]) -> list[str]:
    """Values as arguments of ``--set``.

    >>> as_overrides({"learning_rate": 0.0001, "image_size": [64, 64]})
    ['learning_rate=0.0001', 'image_size=[64, 64]']
    """
    return [f"{key}={as_text(value)}" for key, value in values.items()]


def as_text(value: Any) -> str:
    """A value as YAML in one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).removesuffix("...\n").strip()


def points_of(path: Path, space: list[Dimension], config_path: Path, overrides: list[str], samples: int) -> list[Point]:
    """Draw combinations of values; the first point is the config as it is.

    The points of Halton's sequence cover the space more evenly than random ones (Bergstra and Bengio 2012, JMLR 13, 281-305). More
    samples add points and change none. No combination comes twice.

    Args:
        path: file of the space, for error messages.
        space: from `load_space`.
        config_path: YAML file of the config.
        overrides: ``KEY=VALUE`` for the config.
        samples: number of points beside the first.

    Returns:
        Up to ``samples + 1`` points; fewer if the space has fewer.

    Raises:
        InputError: the config does not accept a combination.
    """
    base = load_config(config_path, overrides)
    points, texts, repeats = [Point({}, base)], {base.to_yaml()}, 0
    sequence = qmc.Halton(len(space), scramble=True, rng=np.random.default_rng(base.random_state))
    while len(points) <= samples and repeats < MAX_REPEATS:
        values = {d.key: d.at(float(fraction)) for d, fraction in zip(space, sequence.random(1)[0], strict=True)}
        config = _config_with(path, config_path, overrides, values)
        repeats = repeats + 1 if config.to_yaml() in texts else 0
        if not repeats:
            texts.add(config.to_yaml())
            points.append(Point(values, config))
    return points

"""From a YAML file and ``--set key=value`` to a checked `Config`."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from malaria_cells.config.keys import Config
from malaria_cells.errors import InputError, nearest


def load_config(path: Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML file, lay ``key=value`` overrides over it, check everything.

    Args:
        path: the YAML file.
        overrides: strings ``key=value``; the value is read as YAML.

    Raises:
        InputError: no such file, no YAML, an unknown key (the nearest known one is named), a value of the wrong type.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a config file, such as config.yaml or one of configs/") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict | None):
        raise InputError(f"{path}: found a {type(content).__name__}, expected keys with values such as 'epochs: 12'")
    overriding = _parse_overrides(overrides or [])
    return make_config((content or {}) | overriding, str(path), overriding)


def make_config(values: dict[str, Any], source: str, overriding: Collection[str] = ()) -> Config:
    """Check a dictionary of settings; `source` names it in errors, but for the keys `overriding`, which came by ``--set``.

    Raises:
        InputError: an unknown key or a wrong value.
    """
    overridden = {(key,) for key in overriding}
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise InputError("\n".join(_explain(p, "--set" if p["loc"][:1] in overridden else source) for p in error.errors())) from None


def _parse_overrides(overrides: list[str]) -> dict[str, Any]:
    values = {}
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator:
            raise InputError(f"--set {text}: expected key=value, for example --set epochs=3")
        try:
            values[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {text}: the value is not valid YAML: {error}") from error
    return values


def _known_keys() -> list[str]:
    """Every key, and those inside keys, as in second_look.model."""
    keys = list(Config.model_fields)
    for key, field in Config.model_fields.items():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                keys += [f"{key}.{inner}" for inner in part.model_fields]
    return keys


def _explain(problem: Any, source: str) -> str:
    key = ".".join(str(part) for part in problem["loc"] if part not in {"str", "list[str]", "constrained-int", "ScanSettings"})
    if problem["type"] == "extra_forbidden":
        return f"{source}: unknown key '{key}'{nearest(key, _known_keys())}; the keys are listed in docs/config.md"
    message = problem["msg"].removeprefix("Value error, ")
    if not key:
        return f"{source}: {message}"
    return f"{source}: {key}: {message}; found {problem['input']!r}"

"""Reads and validates a `Config` from a YAML file and ``--set key=value`` overrides."""

import datetime as dt
import logging
import numbers
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from malaria_cells.base.errors import InputError, nearest
from malaria_cells.base.shipped import or_shipped
from malaria_cells.base.text import shortened
from malaria_cells.base.yaml_text import load_yaml, parse_yaml
from malaria_cells.config.keys import Config

log = logging.getLogger(__name__)

FORMER_KEYS = {"second_look": "refiner"}  # previous names of keys, which are still accepted
MAX_PROBLEMS = 10  # lines of an error message
MAX_MESSAGE = 1000  # characters of what is wrong with a key; it may quote the value
MAX_SHOWN = 100  # characters of a value in an error message
_UNION_MEMBER = re.compile(r"(function-after|function-before|constrained-|list\[|tuple\[|nullable)|^(str|int|float|ScanSettings|\[key\])$")


def load_config(path: Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML file, apply ``key=value`` overrides, and validate the result.

    Args:
        path: the YAML file; its `start_from` may be relative to its folder.
        overrides: strings ``key=value``; the value is parsed as YAML, and a nested key is written as in ``refiner.epochs=8``.

    Raises:
        InputError: the file does not exist or is not valid YAML, a key is unknown (the most similar key is named), or a value is invalid.
    """
    path = or_shipped(path)
    if not path.is_file():
        what = "Is a directory" if path.is_dir() else "No such file or directory"
        raise InputError(f"{path}: {what}; expected a config file, such as config.yaml or one of configs/")
    content = load_yaml(path)
    if not isinstance(content, dict | None):
        raise InputError(f"{path}: found a {type(content).__name__}, expected keys with values such as 'epochs: 12'")
    content = _with_current_names(dict(content or {}), str(path))
    overriding = _parse_overrides(overrides or [])
    # Both keys name the data, so an override of one replaces the other in the file.
    for key, other in (("data_sets", "train_images"), ("train_images", "data_sets")):
        if overriding.get(key) is not None and other not in overriding:
            content.pop(other, None)
    for key, value in overriding.items():
        _lay_over(content, key, value)
    content["start_from"] = _start_folder(content.get("start_from"), path.parent)
    return make_config(content, str(path), overriding)


def _start_folder(start: Any, folder: Path) -> Any:
    """Return `start_from` as a path from here: as it is, relative to the config's folder, or what comes along."""
    if not isinstance(start, str) or _is_folder(Path(start)):
        return start
    return next((str(path) for path in (folder / start, or_shipped(Path(start))) if _is_folder(path)), start)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # not a valid file name; the validation of the value reports it
        return False


def make_config(values: dict[str, Any], source: str, overriding: Collection[str] = ()) -> Config:
    """Validate a dictionary of settings.

    Args:
        values: the settings.
        source: name of the settings in error messages, such as the path of the file.
        overriding: keys that were set by ``--set``; error messages name ``--set`` as their source.

    Raises:
        InputError: an unknown key or an invalid value.
    """
    overridden = [tuple(key.split(".")) for key in overriding]
    values = _with_current_names(values, source)
    unnamed = [key for key in values if not isinstance(key, str)]
    if unnamed:
        raise InputError(f"{source}: unknown key {_shown(unnamed[0])}; the keys are listed in docs/config.md")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = _specific_problems(error.errors(include_url=False))
        lines = dict.fromkeys(_explain(p, "--set" if _is_set(p["loc"], overridden) else source) for p in problems)
    listed = list(lines)[:MAX_PROBLEMS]
    more = [f"{source}: and {len(lines) - MAX_PROBLEMS} more"] if len(lines) > MAX_PROBLEMS else []
    raise InputError("\n".join(listed + more))


def _with_current_names(values: dict[str, Any], source: str) -> dict[str, Any]:
    """Replace previous names of keys by their current names."""
    for former, current_name in FORMER_KEYS.items():
        if former in values and current_name in values:
            raise InputError(f"{source}: {former} is the previous name of {current_name}, and both are given; remove {former}")
        if former in values:
            log.info(f"{source}: {former} is now called {current_name}; the previous name is still accepted")
    return {FORMER_KEYS.get(key, key): value for key, value in values.items()}


def _current_name(key: str) -> str:
    outer, dot, inner = key.partition(".")
    return FORMER_KEYS.get(outer, outer) + dot + inner


def _parse_overrides(overrides: list[str]) -> dict[str, Any]:
    values = {}
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator:
            raise InputError(f"--set {shortened(text)}: expected key=value, for example --set epochs=3")
        values[_current_name(key.strip())] = parse_yaml(value, f"--set {text if len(text) <= MAX_SHOWN else shortened(key.strip())}")
    return values


def _is_set(loc: tuple[Any, ...], overridden: list[tuple[str, ...]]) -> bool:
    return any(loc[: len(key)] == key or key[: len(loc)] == loc for key in overridden)


def _specific_problems(problems: list[Any]) -> list[Any]:
    """Drop the type errors of a union's members if another member reports a more specific error."""
    by_key: dict[Any, list[Any]] = {}
    for problem in problems:
        by_key.setdefault(problem["loc"][:1], []).append(problem)
    relevant = []
    for key_problems in by_key.values():
        type_errors = [p for p in key_problems if p["type"].endswith("_type") and "." not in _key(p["loc"])]
        relevant += [p for p in key_problems if p not in type_errors] or type_errors[:1]
    return relevant


def _key(loc: tuple[Any, ...]) -> str:
    first, *inner = loc or ("",)
    # Pydantic appends the names of the union members to the key.
    return ".".join([str(first), *(str(part) for part in inner if not _UNION_MEMBER.search(str(part)))])


def _lay_over(content: dict[str, Any], key: str, value: Any) -> None:
    outer, dot, inner = key.partition(".")
    if dot and outer == "data_sets":
        raise InputError(f"--set {key}: expected the whole list, as in --set 'data_sets=[{{path: data/iml}}]'; or edit the file")
    if dot and outer in Config.model_fields:
        current = content.get(outer)
        content[outer] = {**(current if isinstance(current, dict) else {}), inner: value}
    else:
        content[key] = value


def known_keys() -> list[str]:
    """All keys, including nested keys such as refiner.model."""
    keys = list(Config.model_fields)
    for key, field in Config.model_fields.items():
        for part in _parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                keys += [f"{key}.{inner}" for inner in part.model_fields]
    return keys


def _parts(annotation: Any) -> list[Any]:
    """A type annotation and, recursively, its arguments: the members of unions, the element types of lists."""
    return [annotation, *(inner for part in get_args(annotation) for inner in _parts(part))]


def _explain(problem: Any, source: str) -> str:
    key = _key(problem["loc"])
    if problem["type"] == "extra_forbidden":
        plain = ".".join(part for part in key.split(".") if not part.isdigit())  # without the index of a list entry
        return f"{source}: unknown key '{shortened(key)}'{nearest(plain, known_keys())}; the keys are listed in docs/config.md"
    message = shortened(problem["msg"].removeprefix("Value error, "), MAX_MESSAGE)
    if not key:
        return f"{source}: {message}"
    advice = _advice(problem["type"], problem["input"])
    if key == "data_sets":
        advice = "; write a list of sets, as in [{path: data/iml}]"
    if problem["type"] == "model_type" and key.startswith("data_sets."):
        advice = "; write an entry as in {path: data/iml}"
    return f"{source}: {key}: {message}; found {_shown(problem['input'])}{advice}"


def _shown(value: Any) -> str:
    text = value.isoformat() if isinstance(value, dt.date) else repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}.. ({len(text):,} characters)"


def _advice(problem: str, value: Any) -> str:
    if problem == "string_type" and isinstance(value, bool):
        return "; YAML reads yes, no, on and off as true and false: write it in quotes if it is a text"
    if problem == "string_type" and isinstance(value, numbers.Number | dt.date):
        return "; write it in quotes if it is a text"
    if problem == "list_type" and isinstance(value, str):
        return f"; write it in brackets, as in [{value}]" if len(value) < MAX_SHOWN else "; write it in brackets"
    if problem in {"int_type", "float_type", "bool_type"} and isinstance(value, str):
        return "; write it without quotes, and with a point, not a comma"
    return ""

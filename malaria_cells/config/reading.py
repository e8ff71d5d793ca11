"""From a YAML file and ``--set key=value`` to a checked `Config`."""

import datetime as dt
import logging
import numbers
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from malaria_cells.base.errors import InputError, nearest
from malaria_cells.base.yaml_text import load_yaml, parse_yaml
from malaria_cells.config.keys import Config

log = logging.getLogger(__name__)

FORMER_KEYS = {"second_look": "refiner"}  # keys that went by another name
MAX_PROBLEMS = 10  # lines of one message
MAX_SHOWN = 100  # characters of a value
_UNION_MEMBER = re.compile(r"(function-after|function-before|constrained-|list\[|tuple\[|nullable)|^(str|int|float|ScanSettings|\[key\])$")


def load_config(path: Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML file, lay ``key=value`` overrides over it, check everything.

    Args:
        path: the YAML file; its `start_from` may be relative to its folder.
        overrides: strings ``key=value``; the value is read as YAML, and a key inside a key is written as in ``refiner.epochs=8``.

    Raises:
        InputError: no such file, no YAML, an unknown key (the nearest known one is named), a value of the wrong type.
    """
    if not path.is_file():
        what = "Is a directory" if path.is_dir() else "No such file or directory"
        raise InputError(f"{path}: {what}; expected a config file, such as config.yaml or one of configs/")
    content = load_yaml(path)
    if not isinstance(content, dict | None):
        raise InputError(f"{path}: found a {type(content).__name__}, expected keys with values such as 'epochs: 12'")
    content = _with_present_names(dict(content or {}), str(path))
    start = content.get("start_from")
    if isinstance(start, str) and not _is_folder(Path(start)) and _is_folder(path.parent / start):
        content["start_from"] = str(path.parent / start)  # so that the shipped config can be used from any folder
    overriding = _parse_overrides(overrides or [])
    # Either says where the data is: what is set stands in the place of what the file says.
    for key, other in (("data_sets", "train_images"), ("train_images", "data_sets")):
        if overriding.get(key) is not None and other not in overriding:
            content.pop(other, None)
    for key, value in overriding.items():
        _lay_over(content, key, value)
    return make_config(content, str(path), overriding)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # no name of a file; the check of the value says what is wrong with it
        return False


def make_config(values: dict[str, Any], source: str, overriding: Collection[str] = ()) -> Config:
    """Check a dictionary of settings; `source` names it in errors, but for the keys `overriding`, which came by ``--set``.

    Raises:
        InputError: an unknown key or a wrong value.
    """
    overridden = [tuple(key.split(".")) for key in overriding]
    values = _with_present_names(values, source)
    unnamed = [key for key in values if not isinstance(key, str)]
    if unnamed:
        raise InputError(f"{source}: unknown key {_shown(unnamed[0])}; the keys are listed in docs/config.md")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = _of_unions_one(error.errors(include_url=False))
        lines = dict.fromkeys(_explain(p, "--set" if _is_set(p["loc"], overridden) else source) for p in problems)
    shown = list(lines)[:MAX_PROBLEMS]
    more = [f"{source}: and {len(lines) - MAX_PROBLEMS} more"] if len(lines) > MAX_PROBLEMS else []
    raise InputError("\n".join(shown + more))


def _with_present_names(values: dict[str, Any], source: str) -> dict[str, Any]:
    """The settings with the present names of keys that had others."""
    for former, present in FORMER_KEYS.items():
        if former in values and present in values:
            raise InputError(f"{source}: {former} is the former name of {present}, which is given too; leave {former} out")
        if former in values:
            log.info(f"{source}: {former} is called {present} now; the former name goes on working")
    return {FORMER_KEYS.get(key, key): value for key, value in values.items()}


def _present_name(key: str) -> str:
    outer, dot, inner = key.partition(".")
    return FORMER_KEYS.get(outer, outer) + dot + inner


def _parse_overrides(overrides: list[str]) -> dict[str, Any]:
    values = {}
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator:
            raise InputError(f"--set {text}: expected key=value, for example --set epochs=3")
        values[_present_name(key.strip())] = parse_yaml(value, f"--set {text if len(text) <= MAX_SHOWN else key.strip()}")
    return values


def _is_set(loc: tuple[Any, ...], overridden: list[tuple[str, ...]]) -> bool:
    return any(loc[: len(key)] == key or key[: len(loc)] == loc for key in overridden)


def _of_unions_one(problems: list[Any]) -> list[Any]:
    """Without the complaint of each member of a union that the value is of another type, where a member finds more to say."""
    by_key: dict[Any, list[Any]] = {}
    for problem in problems:
        by_key.setdefault(problem["loc"][:1], []).append(problem)
    kept = []
    for own in by_key.values():
        of_type = [p for p in own if p["type"].endswith("_type") and "." not in _key(p["loc"])]
        kept += [p for p in own if p not in of_type] or of_type[:1]
    return kept


def _key(loc: tuple[Any, ...]) -> str:
    first, *inner = loc or ("",)
    # Behind the key, pydantic names the members of a union, too.
    return ".".join([str(first), *(str(part) for part in inner if not _UNION_MEMBER.search(str(part)))])


def _lay_over(content: dict[str, Any], key: str, value: Any) -> None:
    outer, dot, inner = key.partition(".")
    if dot and outer == "data_sets":
        raise InputError(f"--set {key}: a list is set as a whole, as in --set 'data_sets=[{{path: data/iml}}]'; or change it in the file")
    if dot and outer in Config.model_fields:
        there = content.get(outer)
        content[outer] = {**(there if isinstance(there, dict) else {}), inner: value}
    else:
        content[key] = value


def _known_keys() -> list[str]:
    """Every key, and those inside keys, as in refiner.model."""
    keys = list(Config.model_fields)
    for key, field in Config.model_fields.items():
        for part in _parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                keys += [f"{key}.{inner}" for inner in part.model_fields]
    return keys


def _parts(annotation: Any) -> list[Any]:
    """An annotation and what it is made of: the members of unions, the entries of lists."""
    return [annotation, *(inner for part in get_args(annotation) for inner in _parts(part))]


def _explain(problem: Any, source: str) -> str:
    key = _key(problem["loc"])
    if problem["type"] == "extra_forbidden":
        plain = ".".join(part for part in key.split(".") if not part.isdigit())  # without an entry's number in a list
        return f"{source}: unknown key '{key}'{nearest(plain, _known_keys())}; the keys are listed in docs/config.md"
    message = problem["msg"].removeprefix("Value error, ")
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

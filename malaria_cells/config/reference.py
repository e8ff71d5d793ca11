"""Generates the table of the configuration keys, docs/config.md, from their declarations."""

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from malaria_cells.config.keys import Config


def reference() -> str:
    """Return a Markdown table of all keys with types, defaults and meanings."""
    rows = [
        f"| `{key}` | {_type_name(field.annotation)} | `{_default(field)}` | {field.description} |"
        for key, field in Config.model_fields.items()
    ]
    return "\n".join(
        [
            "# Configuration keys",
            "",
            "Written by `malaria-cells keys`. Precedence: `--set key=value` overrides the YAML file, which overrides the default.",
            "An unknown key or a value of the wrong type is an error. The model folder holds the configuration as resolved.",
            "",
            "| key | type | default | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        value = value.model_dump()
    return (
        yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True, width=1000)
        .removesuffix("...\n")
        .strip()
    )


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return _type_name(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, get_args(annotation)))
    if get_origin(annotation) in {UnionType, Union}:
        return " or ".join(_type_name(part) for part in get_args(annotation))
    if get_origin(annotation) is tuple:
        return " and ".join(_type_name(part) for part in get_args(annotation))
    if get_origin(annotation) is dict:
        return " to ".join(_type_name(part) for part in get_args(annotation))
    if get_origin(annotation) is list:
        return "list of " + _type_name(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "{" + ", ".join(annotation.model_fields) + "}"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}
    return names[annotation]

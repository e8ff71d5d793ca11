"""Base class of strict settings, and types of their values. Numbers that YAML reads as text are converted, ``~`` in paths is expanded."""

import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

_EXPONENT = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+")


def _at_home(value: str) -> str:
    """Expand ``~`` in a path, unless a file or folder with that literal name exists."""
    if not value.startswith("~") or os.path.lexists(value):
        return value
    try:
        return str(Path(value).expanduser())
    except RuntimeError:
        raise ValueError("no home folder of that name; write the whole path") from None


def _as_tuple(value: Any) -> Any:
    if value is not None and (not isinstance(value, list | tuple) or len(value) != 2):
        raise ValueError("expected [height, width] in pixels")
    return tuple(value) if isinstance(value, list) else value


FolderOrFile = Annotated[str, Field(min_length=1), AfterValidator(_at_home)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Pixels = Annotated[int, Field(ge=1, le=20_000)]
HeightWidth = Annotated[tuple[Pixels, Pixels], BeforeValidator(_as_tuple)]


class Settings(BaseModel):
    """Strict model of settings: an unknown key, a wrong type, and nan or inf are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        if float not in kinds and int not in kinds:
            return value
        if isinstance(value, list):
            return [_number(entry, whole=float not in kinds) for entry in value]
        return _number(value, whole=float not in kinds)


def _kinds(annotation: Any) -> set[Any]:
    """The set of all types in a type annotation, including those inside lists and unions."""
    inner = get_args(annotation)
    return set().union(*(_kinds(part) for part in inner)) if inner else {annotation} if isinstance(annotation, type) else set()


def _number(value: Any, whole: bool) -> Any:
    """Convert a text such as 1e-3, which YAML 1.1 does not read as a number, to a number; return other values unchanged."""
    if isinstance(value, bool):
        return value
    try:
        if isinstance(value, int) and not whole:
            return float(value)
        if not isinstance(value, str) or not (_EXPONENT.fullmatch(value.strip()) if whole else True):
            return value
        number = float(value)
    except (ValueError, OverflowError):
        return value
    if whole:
        return int(number) if number.is_integer() and abs(number) < 2**53 else value
    return number if math.isfinite(number) else value

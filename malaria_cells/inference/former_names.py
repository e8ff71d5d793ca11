"""Former keys of ``model.yaml`` and their present names, so that older model folders can still be loaded."""

from typing import Any

FORMER_REFINER = "second_look.keras"
ERROR_RATES = {"found": "detected"}  # of error rates, which are in other files too
# Former and present keys by the path to the mapping that holds them; None in a path stands for each entry of a list or value of a mapping.
_RENAMED: tuple[tuple[tuple[str | None, ...], dict[str, str]], ...] = (
    ((), {"rejects": "has_background", "second_look": "refiner", "second_look_size_hw": "refiner_size_hw"}),
    (("calibration",), {"findings": "infection"}),
    (("errors",), ERROR_RATES),
    (("errors_elsewhere", None), ERROR_RATES),
    (("familiarity", "sets", None), {"photographs": "images", "has_findings": "has_infected_cells"}),
)


def with_present_names(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a ``model.yaml`` with former keys renamed; everything else is unchanged.

    >>> with_present_names({"rejects": True, "second_look": None, "calibration": {"findings": 1}})
    {'has_background': True, 'refiner': None, 'calibration': {'infection': 1}}
    """
    file = {"refiner_file": FORMER_REFINER} if content.get("second_look") else {}
    for path, names in _RENAMED:
        content = renamed(content, path, names)
    return file | content


def renamed(part: Any, path: tuple[str | None, ...], names: dict[str, str]) -> Any:
    """A part with keys renamed in the mappings at the end of a path, if they are there; None in it stands for all entries."""
    if not path:
        return {names.get(key, key): value for key, value in part.items()} if isinstance(part, dict) else part
    key, *rest = path
    if key is None:
        if isinstance(part, dict):
            return {name: renamed(entry, tuple(rest), names) for name, entry in part.items()}
        return [renamed(entry, tuple(rest), names) for entry in part] if isinstance(part, list) else part
    return {**part, key: renamed(part[key], tuple(rest), names)} if isinstance(part, dict) and key in part else part

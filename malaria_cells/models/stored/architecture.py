"""What the architecture in a Keras file may name: Keras' own layers and their parts, and nothing that runs code or reads files.

Keras rebuilds whatever class a file names by its module: safe mode stops lambdas alone. So every object of an architecture is looked
up here first, in modules that are loaded already, and has to be of a kind that only computes.
"""

import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

from malaria_cells.base.errors import InputError

MAX_DEPTH = 200  # levels of lists and dictionaries; ten nested networks take about a hundred
MAX_OBJECTS = 100_000  # layers, initializers and the like; the largest of keras.applications has about 10,000
CODE = "which carries code; code from model files is not run"
# Layers that run code of their user's, or read files that the architecture names.
FORBIDDEN = {
    "Lambda": CODE,
    "TorchModuleWrapper": CODE,
    "JaxLayer": CODE,
    "FlaxLayer": CODE,
    "TFSMLayer": "which loads another model from disk; save the network itself",
    "StringLookup": "which reads a vocabulary of texts; expected a network of images",
    "IntegerLookup": "which reads a vocabulary; expected a network of images",
    "TextVectorization": "which reads a vocabulary of texts; expected a network of images",
}
# Kinds of objects that only compute, by their names in `keras`.
_KINDS = (
    "Layer",
    "Operation",
    "Quantizer",
    "DTypePolicy",
    "initializers.Initializer",
    "regularizers.Regularizer",
    "constraints.Constraint",
    "losses.Loss",
    "metrics.Metric",
    "optimizers.Optimizer",
    "optimizers.schedules.LearningRateSchedule",
    "random.SeedGenerator",
)
# Modules of keras-cv whose layers only compute; others of its classes fetch weights or vocabularies.
_OF_KERAS_CV = ("keras_cv.src.layers.", "keras_cv.src.models.backbones.", "keras_cv.src.models.object_detection.")
_VALUES = {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"}
_FUNCTIONS = ("activations", "initializers", "regularizers", "constraints", "losses", "metrics")
_PLACES = ("layers", "models", "initializers", "regularizers", "constraints", "dtype_policies", "optimizers", "losses", "metrics")
_IN_PLACE_OF_OBJECTS = {"function", "__lambda__", "__typespec__"}
_CONTAINERS = {"Functional", "Model", "Sequential"}


def check_architecture(content: Any) -> None:
    """Refuse an architecture that holds anything but what computes.

    Args:
        content: a Keras model's configuration as JSON holds it.

    Raises:
        InputError: it is no model, too large, or it names a class or function that is not of Keras, or that runs code or reads
            files. The message does not name the file.
    """
    if not isinstance(content, dict) or not isinstance(content.get("class_name"), str):
        raise InputError("found no model in its architecture; expected what Keras' model.save() writes")
    content = {key: value for key, value in content.items() if key != "compile_config"}  # Keras is told to leave that out
    objects = 0
    for part in _parts(content):
        if isinstance(part, str):
            _check_text(part)
        elif "class_name" in part:
            _check_object(part)
            objects += 1
        if objects > MAX_OBJECTS:
            raise InputError(f"its architecture holds more than {MAX_OBJECTS:,} objects, which no network for images does")


def _parts(content: Any) -> Iterator[dict[str, Any] | str]:
    """Every dictionary and text within, without recursion."""
    waiting: list[tuple[Any, int]] = [(content, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise InputError(f"its architecture is nested more than {MAX_DEPTH} levels deep, which no network is")
        if isinstance(part, dict):
            yield part
            waiting += [(value, depth + 1) for value in part.values()]
        elif isinstance(part, list):
            waiting += [(value, depth + 1) for value in part]
        elif isinstance(part, str):
            yield part


def _check_text(text: str) -> None:
    """Keras takes a text for a function of that name, wherever one may stand, if such a function is registered."""
    import keras

    if ">" in text and text.startswith("keras_cv") and keras.saving.get_registered_object(text) is not None and not _is_class(text):
        raise InputError(f"names the function '{text}' of keras-cv, which is no part of a network")


def _is_class(registered_name: str) -> bool:
    import keras

    return isinstance(keras.saving.get_registered_object(registered_name), type)


def _check_object(part: dict[str, Any]) -> None:
    name, module = part["class_name"], part.get("module")
    if not isinstance(name, str) or not isinstance(module, str | None):
        raise InputError(f"its architecture is damaged: found a class name {str(name)[:60]!r} of module {str(module)[:60]!r}")
    if name in _VALUES:
        return
    if name in _IN_PLACE_OF_OBJECTS:
        _check_function(name, module, part.get("config"))
        return
    _check_not_forbidden(name)
    found = _class_of(name, module, part.get("registered_name"))
    if found is None:
        raise InputError(
            f"holds {_called(part)} of class {_full(name, module)}, which is not one of Keras; "
            "expected a network of Keras' own layers: replace it by such layers and save the network again"
        )
    for base in found.__mro__:
        _check_not_forbidden(base.__name__)


def _check_not_forbidden(name: str) -> None:
    if name in FORBIDDEN:
        raise InputError(f"holds a {name} layer, {FORBIDDEN[name]}")


def _called(part: dict[str, Any]) -> str:
    config = part.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    return f"the layer '{name[:60]}'" if isinstance(name, str) else "an object"


def _full(name: str, module: str | None) -> str:
    return f"'{name[:60]}'" if not module else f"'{module[:60]}.{name[:60]}'"


def _check_function(kind: str, module: str | None, name: Any) -> None:
    """Functions stand for activations and the like; everything else of Keras' modules is none of a network's business."""
    import keras

    if kind != "function":
        raise InputError(f"holds a {'lambda' if kind == '__lambda__' else 'type specification'}, {CODE}")
    own = keras.saving.get_registered_object(name) if isinstance(name, str) else None
    if own is not None and not str(name).startswith("keras_cv"):
        return  # whoever calls us has registered it
    places = [getattr(keras, place) for place in _FUNCTIONS]
    known = isinstance(name, str) and any(callable(getattr(place, name, None)) for place in places)
    if not known or name in {"get", "deserialize"} or (module != "builtins" and not str(module).startswith(("keras.", "keras_cv."))):
        raise InputError(f"names the function {_full(str(name), module)}, which is not one of Keras' activations")


def _class_of(name: str, module: str | None, registered_name: Any) -> type | None:
    """The class that Keras would take, or None where that is not of a kind that only computes."""
    import keras

    found: Any = None
    if isinstance(registered_name, str):
        found = keras.saving.get_registered_object(registered_name)
    if found is None and module is None:
        found = keras.saving.get_registered_object(name)
    if found is None and module is None:
        found = keras.Model if name in _CONTAINERS else next(filter(None, (getattr(getattr(keras, p), name, None) for p in _PLACES)), None)
    elif found is None and str(module).split(".")[0] in {"keras", "keras_cv"}:
        if str(module).startswith("keras_cv"):
            import keras_cv  # noqa: F401  what the file names is in its modules
        found = getattr(sys.modules.get(str(module)), name, None)
    if not isinstance(found, type) or not issubclass(found, _kinds()):
        return None
    if found.__module__.startswith("keras_cv") and not found.__module__.startswith(_OF_KERAS_CV):
        return None
    return found


@cache
def _kinds() -> tuple[type, ...]:
    import keras

    kinds = []
    for path in _KINDS:
        found: Any = keras
        for name in path.split("."):
            found = getattr(found, name)
        kinds.append(found)
    return tuple(kinds)

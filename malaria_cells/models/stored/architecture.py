"""Validation of the architecture in a Keras file: only Keras' own layers and their parts are allowed, no code and no file access.

Keras instantiates any class that a file names by module and name; its safe mode refuses only lambdas. Therefore the class of each object
of the architecture is looked up here first, in modules that are already loaded, and must be of a kind that only computes.
"""

import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

from malaria_cells.base.errors import InputError

MAX_DEPTH = 200  # levels of lists and dictionaries; ten nested networks have about a hundred
MAX_OBJECTS = 100_000  # layers, initializers and the like; the largest of keras.applications has about 10,000
CODE = "which carries code; code from model files is not run"
# Layers that run code from the file or read files that the architecture names, with the reason in the error message.
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
# Base classes of objects that only compute, by their names in `keras`.
_BASE_CLASSES = (
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
# Modules of keras-cv whose layers only compute; other keras-cv classes download weights or vocabularies.
_KERAS_CV_MODULES = ("keras_cv.src.layers.", "keras_cv.src.models.backbones.", "keras_cv.src.models.object_detection.")
_VALUE_CLASSES = {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"}
_FUNCTION_NAMESPACES = ("activations", "initializers", "regularizers", "constraints", "losses", "metrics")
_NAMESPACES = ("layers", "models", "initializers", "regularizers", "constraints", "dtype_policies", "optimizers", "losses", "metrics")
_FUNCTION_CLASSES = {"function", "__lambda__", "__typespec__"}
_CONTAINERS = {"Functional", "Model", "Sequential"}


def check_architecture(content: Any) -> None:
    """Check that an architecture holds only objects that compute.

    Args:
        content: configuration of a Keras model, as parsed from JSON.

    Raises:
        InputError: the content is not a model or is too large, or it names a class or function that is not part of Keras, runs code or
            reads files. The message does not name the file.
    """
    if not isinstance(content, dict) or not isinstance(content.get("class_name"), str):
        raise InputError("found no model in its architecture; expected a file written by Keras' model.save()")
    content = {key: value for key, value in content.items() if key != "compile_config"}  # the model is loaded with compile=False
    objects = 0
    for part in _parts(content):
        if isinstance(part, str):
            _check_text(part)
        elif "class_name" in part:
            _check_object(part)
            objects += 1
        if objects > MAX_OBJECTS:
            raise InputError(f"its architecture holds more than {MAX_OBJECTS:,} objects, more than any network for images")


def _parts(content: Any) -> Iterator[dict[str, Any] | str]:
    """Iterate over all dictionaries and texts in the content, without recursion."""
    waiting: list[tuple[Any, int]] = [(content, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise InputError(f"its architecture is nested more than {MAX_DEPTH} levels deep, more than any network")
        if isinstance(part, dict):
            yield part
            waiting += [(value, depth + 1) for value in part.values()]
        elif isinstance(part, list):
            waiting += [(value, depth + 1) for value in part]
        elif isinstance(part, str):
            yield part


def _check_text(text: str) -> None:
    """Check a text: where Keras expects a function, it resolves a text to the registered function of that name."""
    import keras

    if ">" in text and text.startswith("keras_cv") and keras.saving.get_registered_object(text) is not None and not _is_class(text):
        raise InputError(f"names the function '{text}' of keras-cv, which is not part of a network")


def _is_class(registered_name: str) -> bool:
    import keras

    return isinstance(keras.saving.get_registered_object(registered_name), type)


def _check_object(part: dict[str, Any]) -> None:
    name, module = part["class_name"], part.get("module")
    if not isinstance(name, str) or not isinstance(module, str | None):
        raise InputError(f"its architecture is damaged: found a class name {str(name)[:60]!r} of module {str(module)[:60]!r}")
    if name in _VALUE_CLASSES:
        return
    if name in _FUNCTION_CLASSES:
        _check_function(name, module, part.get("config"))
        return
    _check_not_forbidden(name)
    cls = _class_of(name, module, part.get("registered_name"))
    if cls is None:
        raise InputError(
            f"holds {_description(part)} of class {_full(name, module)}, which is not one of Keras; "
            "expected a network of Keras' own layers: replace it by such layers and save the network again"
        )
    for base in cls.__mro__:
        _check_not_forbidden(base.__name__)


def _check_not_forbidden(name: str) -> None:
    if name in FORBIDDEN:
        raise InputError(f"holds a {name} layer, {FORBIDDEN[name]}")


def _description(part: dict[str, Any]) -> str:
    config = part.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    return f"the layer '{name[:60]}'" if isinstance(name, str) else "an object"


def _full(name: str, module: str | None) -> str:
    return f"'{name[:60]}'" if not module else f"'{module[:60]}.{name[:60]}'"


def _check_function(kind: str, module: str | None, name: Any) -> None:
    """Check a function: Keras' activations, initializers, losses and the like are allowed, other functions of its modules are not."""
    import keras

    if kind != "function":
        raise InputError(f"holds a {'lambda' if kind == '__lambda__' else 'type specification'}, {CODE}")
    registered = keras.saving.get_registered_object(name) if isinstance(name, str) else None
    if registered is not None and not str(name).startswith("keras_cv"):
        return  # registered by the program itself
    namespaces = [getattr(keras, namespace) for namespace in _FUNCTION_NAMESPACES]
    known = isinstance(name, str) and any(callable(getattr(namespace, name, None)) for namespace in namespaces)
    if not known or name in {"get", "deserialize"} or (module != "builtins" and not str(module).startswith(("keras.", "keras_cv."))):
        raise InputError(f"names the function {_full(str(name), module)}, which is not one of Keras' activations")


def _class_of(name: str, module: str | None, registered_name: Any) -> type | None:
    """The class that Keras would instantiate, or None if it is not of a kind that only computes."""
    import keras

    cls: Any = None
    if isinstance(registered_name, str):
        cls = keras.saving.get_registered_object(registered_name)
    if cls is None and module is None:
        cls = keras.saving.get_registered_object(name)
    if cls is None and module is None:
        cls = (
            keras.Model if name in _CONTAINERS else next(filter(None, (getattr(getattr(keras, p), name, None) for p in _NAMESPACES)), None)
        )
    elif cls is None and str(module).split(".")[0] in {"keras", "keras_cv"}:
        if str(module).startswith("keras_cv"):
            import keras_cv  # noqa: F401  loads the modules in which the class is looked up
        cls = getattr(sys.modules.get(str(module)), name, None)
    if not isinstance(cls, type) or not issubclass(cls, _base_classes()):
        return None
    if cls.__module__.startswith("keras_cv") and not cls.__module__.startswith(_KERAS_CV_MODULES):
        return None
    return cls


@cache
def _base_classes() -> tuple[type, ...]:
    import keras

    classes = []
    for path in _BASE_CLASSES:
        part: Any = keras
        for name in path.split("."):
            part = getattr(part, name)
        classes.append(part)
    return tuple(classes)

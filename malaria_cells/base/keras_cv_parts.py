"""Parts of keras-cv by their public names. It is no longer developed, so what is missing in the installed one is said plainly."""

import importlib.metadata
from functools import reduce
from typing import Any

from malaria_cells.base.errors import InputError, reason

TESTED = "0.9.0"  # version of keras-cv with which this package is tested


def keras_cv_part(name: str) -> Any:
    """Return a class or module of keras-cv by its name below `keras_cv`, such as ``models.RetinaNet``.

    Raises:
        InputError: keras-cv cannot be imported, or has no such part.
    """
    try:
        import keras_cv

        return reduce(getattr, name.split("."), keras_cv)
    except ImportError as error:
        raise InputError(f"keras-cv cannot be imported ({reason(error)}); {_advice()}") from error
    except AttributeError as error:
        raise InputError(f"the installed keras-cv {_version()} has no {name}; {_advice()}") from error


def keras_cv_layers(network: Any, ending: str, count: int) -> list[Any]:
    """Return the layers of a network of keras-cv whose names end with a text.

    Args:
        network: a Keras model that keras-cv built.
        ending: end of the names.
        count: number of layers that are expected.

    Raises:
        InputError: there are more or fewer such layers, since another version of keras-cv names them otherwise.
    """
    found = [layer for layer in network.layers if layer.name.endswith(ending)]
    if len(found) != count:
        raise InputError(f"the installed keras-cv {_version()} builds {len(found)} layers named *{ending}, expected {count}; {_advice()}")
    return found


def _version() -> str:
    return importlib.metadata.version("keras-cv")


def _advice() -> str:
    return f"install the version that is tested: pip install keras-cv=={TESTED}"

"""What runs a network beside Keras, one file an engine: it opens networks in its format, and writes them.

In: a file that `export` wrote. Out: a function from uint8 pixels (n, H, W, 3) to float32, as the Keras networks are in use, so that
whatever calls it does not know which engine runs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.registry import Registry
from malaria_cells.models.stored.presence import check_is_there

KERAS = "keras"
SAVED_MODEL = "savedmodel"

if TYPE_CHECKING:  # `--help` names the engines, without NumPy
    import numpy as np

Run = Callable[["np.ndarray"], "np.ndarray"]
Batches = list["np.ndarray"]


class Engine(ABC):
    """An engine and its file format.

    Attributes:
        suffix: of an exported network's file, after its name; empty for a folder.
        distribution: what has to be installed, as pip calls it.
        quantizes: whether its format holds eight-bit weights and activations.
        needs_examples: whether the ranges of eight-bit activations are fitted to examples.
        takes_uint8: whether what `open` returns takes uint8 pixels as they are; otherwise it is given float32.
    """

    suffix: str
    distribution: str
    quantizes = False
    needs_examples = False
    takes_uint8 = False

    @abstractmethod
    def open(self, path: Path) -> Run:
        """Return a function from float32 pixels (n, H, W, 3), 0 to 255, to the network's answer; see `takes_uint8`.

        Raises:
            InputError: the file is refused.
            ModuleNotFoundError: the engine is not installed.
        """

    def open_with(self, path: Path, threads: int | None) -> Run:
        """As `open`; an engine that can be told so takes at most so many threads for a call. None: as many as it likes."""
        return self.open(path)

    @abstractmethod
    def write(self, model: Any, path: Path, int8: bool, examples: Batches | None) -> None:
        """Write a Keras model; see `export.formats.export_network`."""

    def is_there(self, path: Path) -> bool:
        """Whether `path` is an exported network of this engine."""
        return path.exists()


ENGINES: Registry[Engine] = Registry("engine", __name__)
E_ = TypeVar("E_", bound=type[Engine])


def engine(name: str, rank: int = 100) -> Callable[[E_], E_]:
    """Return a decorator that adds an engine by name; of several whose files lie in a folder the one of the lowest rank runs."""

    def decorate(kind: E_) -> E_:
        ENGINES.add(name, rank=rank)(kind())
        return kind

    return decorate


def engine_names() -> tuple[str, ...]:
    """The engines: Keras, and those that networks are exported to."""
    return (KERAS, *ENGINES.names)


def exported_network(folder: Path, name: str, engine_name: str, threads: int | None = None) -> Run:
    """Open an exported network.

    Args:
        folder: that `export` wrote.
        name: of the network: ``classifier``, ``refiner``, ``proposer`` or ``detector``.
        engine_name: one of `ENGINES`.
        threads: see `Engine.open_with`.

    Returns:
        A function from uint8 pixels (n, H, W, 3) to float32.

    Raises:
        InputError: no such file, one that the engine cannot open or that names other files, or the engine is not installed.
    """
    import numpy as np

    chosen = ENGINES[engine_name]
    path = folder / f"{name}{chosen.suffix}"
    if not path.exists():
        raise InputError(f"{path}: no such file; write it with: malaria-cells export --model {folder} --format {engine_name}")
    if chosen.suffix:  # a file, not a folder
        check_is_there(path)
    try:
        run = chosen.open_with(path, threads)
    except ModuleNotFoundError as error:
        raise InputError(
            f"--engine {engine_name}: {chosen.distribution} is not installed; pip install 'malaria-cells[export]', or use --engine keras"
        ) from error
    except InputError:
        raise
    except Exception as error:  # each engine raises its own
        raise InputError(
            f"{path}: not a network that {chosen.distribution} can open ({reason(error)}); copy the folder or export the model again"
        ) from error
    if chosen.takes_uint8:
        return lambda pixels: np.asarray(run(pixels), dtype=np.float32)
    return lambda pixels: np.asarray(run(pixels.astype(np.float32)), dtype=np.float32)


def find_exported(folder: Path, name: str, engine_name: str | None = None) -> str | None:
    """Return the engine whose file of a network is in a folder, or None; with the name of an engine, only that one is looked for."""
    looked_for = ENGINES.names if engine_name is None else tuple(found for found in ENGINES if found == engine_name)
    return next((found for found in looked_for if ENGINES[found].is_there(folder / f"{name}{ENGINES[found].suffix}")), None)

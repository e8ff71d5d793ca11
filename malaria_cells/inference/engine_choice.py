"""``--engine auto``: the fastest engine of those whose files a model folder holds and whose library is installed.

Where one such engine is there, it runs. Where there are several, each is timed once on this machine with the model's own networks, which
takes a second or two, and the times are remembered in a file of the user's cache folder. Keras runs only where no other engine is there:
on processors it has been no faster than ONNX Runtime with any model here, and starting TensorFlow takes longer than detecting the cells of
ten images. If the machine has an NVIDIA GPU, which the other engines do not use, Keras is timed as well, and TensorFlow is started for that
once. A SavedModel is never chosen: its graph is a program, which runs on request only.
"""

import importlib.metadata
import importlib.util
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.inference import engine_times
from malaria_cells.inference.engines import ENGINES, KERAS
from malaria_cells.inference.model_description import ABOUT, ModelDescription, golden_pixels
from malaria_cells.inference.model_yaml import NetworkReference, load_with_reference

log = logging.getLogger(__name__)

AUTO = "auto"
PROPOSER = "proposer"
TENSORFLOW = {"keras", "tensorflow"}  # distributions that start TensorFlow
GPU = Path("/dev/nvidia0")  # the first NVIDIA GPU of a Linux machine
REPEATS = 3  # timed calls of a network, of which the fastest counts
# Images of a timed call: a third of the candidates of a microscope's field, and the uncertain ones among them.
PATCHES, UNCERTAIN = 48, 8
FIELD_HW = (496, 640)  # pixels of a field of 1280 x 960 at the working scale

Networks = Mapping[str, Callable[[np.ndarray], np.ndarray]]


@dataclass(frozen=True)
class Ready:
    """An engine that can run a model.

    Attributes:
        engine: its name.
        folder: that holds its networks: the model folder, or a subfolder of it that an export wrote.
        version: of the engine's library.
    """

    engine: str
    folder: Path
    version: str


def traces(engine: str) -> bool:
    """Whether an engine prepares a network at its first call, as TensorFlow does, and not when the network is opened."""
    return engine == KERAS or ENGINES[engine].distribution in TENSORFLOW


def stems_of(description: ModelDescription, has_proposer: bool) -> list[str]:
    """Names of a model's networks without the suffix of an engine's format."""
    return [Path(file).stem for file in description.files] + ([PROPOSER] if has_proposer else [])


def ready_engines(folder: Path) -> list[Ready]:
    """Engines other than Keras that can run a model folder, in the order of their ranks; a warning names files that cannot be used.

    Raises:
        InputError: see `model_yaml.load_with_reference`.
    """
    description, reference = load_with_reference(folder)
    stems = stems_of(description, description.detector == "two_stage" and description.proposals == "learned")
    ready = []
    for name in ENGINES:
        if ENGINES[name].distribution in TENSORFLOW or (version := _version(ENGINES[name].distribution)) is None:
            continue
        if _holds(folder, name, stems):
            if (reason := why_unusable(folder, name, stems, reference)) is None:
                ready.append(Ready(name, folder, version))
            else:
                log.warning(f"--engine auto: {name} is left out: {reason}")
        elif _is_export_of(folder / name, name, stems, description, reference):
            ready.append(Ready(name, folder / name, version))
    return ready


def _version(distribution: str) -> str | None:
    """Version of an installed library; None if it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # perhaps a build of another name, such as onnxruntime-gpu
        return "unknown" if importlib.util.find_spec(distribution.replace("-", "_")) else None


def _file(name: str, stem: str) -> str:
    return f"{stem}{ENGINES[name].suffix}"


def _holds(folder: Path, name: str, stems: Sequence[str]) -> bool:
    """Whether a folder holds a file of an engine."""
    return any(ENGINES[name].is_there(folder / _file(name, stem)) for stem in stems)


def why_unusable(folder: Path, name: str, stems: Sequence[str], reference: NetworkReference) -> str | None:
    """Say why an engine's files in a folder cannot be used, or None.

    Beside Keras' files, an engine's file might be left over from another training. ``model.yaml`` lists the files that belong together.
    """
    for stem in stems:
        file = _file(name, stem)
        if not ENGINES[name].is_there(folder / file):
            return f"{folder / file}: no such file, though those of other networks are there; {_advice(folder, name)}"
        if (folder / f"{stem}.keras").is_file() and file not in reference.files:
            return f"{folder / file}: {ABOUT} does not list it, so it may be of another training; {_advice(folder, name)}"
    return None


def _advice(folder: Path, name: str) -> str:
    return f"write it with: malaria-cells export --model {folder} --format {name} --beside"


def _is_export_of(folder: Path, name: str, stems: Sequence[str], description: ModelDescription, reference: NetworkReference) -> bool:
    """Whether a subfolder is an export of the networks, and with the settings, that the model folder has now."""
    if not (folder / ABOUT).is_file() or not all(ENGINES[name].is_there(folder / _file(name, stem)) for stem in stems):
        return False
    try:
        exported, its_reference = load_with_reference(folder)
    except InputError as error:
        log.warning(f"--engine auto: {name} is left out: {error}")
        return False
    if not its_reference.made_from:  # an export in eight bits, or an earlier version's
        return False
    if its_reference.made_from == keras_files(reference, stems) and exported == description:
        return True
    log.warning(f"--engine auto: {name} is left out: {folder} is not of the present networks and {ABOUT}; export the model again")
    return False


def keras_files(reference: NetworkReference, stems: Sequence[str]) -> dict[str, str]:
    """Checksums of the Keras files of a model's networks by name."""
    return {name: checksum for name, checksum in reference.files.items() if name in {f"{stem}.keras" for stem in stems}}


def fastest_first(folder: Path, ready: Sequence[Ready], has_keras: bool, networks_of: Callable[[str, Path], Networks]) -> list[Ready]:
    """Order engines by their time, which is measured if it is not remembered.

    Args:
        folder: the model folder.
        ready: engines that can run it.
        has_keras: whether the folder holds Keras' files.
        networks_of: opens the networks of an engine in a folder, by name.

    Returns:
        The engines, without those whose networks cannot be opened, which a warning names.
    """
    choices = list(ready)
    if choices and has_keras and GPU.exists() and (version := _version("tensorflow")) is not None:
        choices.append(Ready(KERAS, folder, version))
    if len(choices) < 2:
        return choices
    description, reference = load_with_reference(folder)
    key = engine_times.key_of(reference.files, {choice.engine: choice.version for choice in choices}, GPU.exists())
    seconds = engine_times.remembered(key)
    if seconds is None or set(seconds) != {choice.engine for choice in choices}:
        seconds = {}
        for choice in choices:
            try:
                seconds[choice.engine] = _time(networks_of(choice.engine, choice.folder), description)
            except InputError as error:
                log.warning(f"--engine auto: {choice.engine} is left out: {error}")
        if len(seconds) == len(choices):
            engine_times.remember(key, seconds)
    return sorted((choice for choice in choices if choice.engine in seconds), key=lambda choice: seconds[choice.engine])


def _time(networks: Networks, description: ModelDescription) -> float:
    """Seconds that the networks take together for about one image."""
    total = 0.0
    for name, network in networks.items():
        pixels = golden_pixels(_shape(name, description))
        try:
            network(pixels)  # the first call reserves memory
            times = []
            for _ in range(REPEATS):
                started = time.perf_counter()
                network(pixels)
                times.append(time.perf_counter() - started)
        except Exception as error:  # each engine raises its own exceptions
            raise InputError(f"its {name} cannot be run ({error})") from error
        total += min(times)
    return total


def _shape(name: str, description: ModelDescription) -> tuple[int, int, int, int]:
    """Shape of the pixels that a network is timed with."""
    if name == PROPOSER:
        return (1, *FIELD_HW, 3)
    if description.detector != "two_stage":
        return (1, *description.image_size_hw, 3)
    if name == Path(description.refiner_file).stem:
        return (UNCERTAIN, *(description.refiner_size_hw or description.image_size_hw), 3)
    return (PATCHES, *description.image_size_hw, 3)

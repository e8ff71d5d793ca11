"""Times of engines that were measured on this machine, remembered in a file of the user's cache folder."""

import json
import logging
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from malaria_cells.base import files
from malaria_cells.base.errors import reason
from malaria_cells.inference.model_description import file_fingerprint

log = logging.getLogger(__name__)

FILE = "engines.json"
MAX_MODELS = 100  # models and machines that are remembered; the oldest are forgotten
_said: set[str] = set()


def key_of(checksums: Mapping[str, str], versions: Mapping[str, str], has_gpu: bool) -> str:
    """Return a key of what the times depend on: the networks, the engines and the machine.

    Args:
        checksums: SHA-256 of the networks' files by name.
        versions: version of each engine's library by the engine's name.
        has_gpu: whether the machine has a GPU.
    """
    machine = [platform.machine(), _processor(), os.cpu_count(), has_gpu]
    return file_fingerprint(json.dumps([sorted(checksums.items()), sorted(versions.items()), machine]))


def _processor() -> str:
    """Name of the processor, as far as the system tells; a home folder may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def remembered(key: str) -> dict[str, float] | None:
    """Return the seconds of each engine, or None if they were not measured; a damaged file holds nothing."""
    seconds = _content().get(key)
    if not isinstance(seconds, dict) or not all(isinstance(value, float) for value in seconds.values()):
        return None
    return seconds


def remember(key: str, seconds: Mapping[str, float]) -> None:
    """Write the seconds of each engine. If that is impossible, the engines are measured again next time, which a warning says once."""
    try:
        content = {**{k: v for k, v in _content().items() if k != key}, key: dict(seconds)}
        with files.replacing(cache_file()) as temporary:
            temporary.write_text(json.dumps(dict(list(content.items())[-MAX_MODELS:])), encoding="utf-8")
    except (OSError, RuntimeError) as error:  # no home folder, no permission, a full disk
        if str(error) not in _said:
            _said.add(str(error))
            log.warning(f"--engine auto: the engines' times cannot be remembered ({reason(error)}); name an engine to spare measuring them")


def cache_file() -> Path:
    """Return the path of the file: in the user's cache folder of the system, or in the one that XDG_CACHE_HOME names.

    Raises:
        RuntimeError: the user has no home folder.
    """
    if named := os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA"):
        folder = Path(named)
    else:
        folder = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return folder / "malaria_cells" / FILE


def _content() -> dict[str, object]:
    try:
        content = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

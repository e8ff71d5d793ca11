"""Lines of a run's journal: each holds what a run keeps of one finished image, with a checksum by which a torn line is recognised."""

import base64
import json
import zlib
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.data.detections import Detections
from malaria_cells.inference.familiarity import Familiarity
from malaria_cells.results.run_results import Detected

COMPRESSION = 1  # level of zlib; higher ones take several times as long for files that are a tenth smaller
ARRAYS = tuple(f.name for f in fields(Detections) if f.name not in {"names", "judged"})
PROBABILITIES = "probabilities"  # name of the only array of a classified image
KINDS = "fiu"  # kinds of NumPy numbers that a line may hold

ImageResult = Detected | np.ndarray  # of a detected image, and of a classified one


@dataclass(frozen=True)
class Stamp:
    """What tells whether a file was changed: its size in bytes, and the time of its last change in nanoseconds."""

    n_bytes: int
    changed_ns: int

    @staticmethod
    def of(path: Path) -> "Stamp | None":
        """Return the stamp of a file; None if there is no such file."""
        try:
            status = path.stat()
        except (OSError, ValueError):
            return None
        return Stamp(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class FinishedImage:
    """What a run keeps of one finished image.

    Attributes:
        key: key of the image.
        stamp: stamp of the image's file, taken before the image was read.
        size_wh: width and height of the upright image in pixels.
        seconds: time of the run until this image was computed, that of interrupted parts of the run included.
        drawn_bytes: size in bytes of the annotated image; None if none was drawn.
        result: detections and familiarity (None: unknown) of the image, or class probabilities, float (n_classes,).
    """

    key: str
    stamp: Stamp
    size_wh: tuple[int, int]
    seconds: float
    drawn_bytes: int | None
    result: ImageResult


def line_of(content: dict[str, Any]) -> bytes:
    """Write a JSON object as a line that begins with its checksum."""
    text = json.dumps(content, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def content_of(line: bytes) -> dict[str, Any] | None:
    """Read a line that `line_of` wrote; None if it is torn or damaged."""
    checksum, _, text = line.partition(b" ")
    if not text.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text[:-1]):
        return None
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def to_json(image: FinishedImage) -> dict[str, Any]:
    """Return an image's results as a JSON object; numbers keep all their bits."""
    content: dict[str, Any] = {
        "key": image.key,
        "stamp": [image.stamp.n_bytes, image.stamp.changed_ns],
        "size_wh": list(image.size_wh),
        "seconds": image.seconds,
        "drawn_bytes": image.drawn_bytes,
    }
    if isinstance(image.result, np.ndarray):
        return content | _packed({PROBABILITIES: image.result})
    detections, familiarity = image.result
    content["names"] = list(detections.names)
    content["familiarity"] = None if familiarity is None else asdict(familiarity)
    return content | _packed({name: getattr(detections, name) for name in ARRAYS})


def from_json(content: dict[str, Any]) -> FinishedImage:
    """Return the image whose results `to_json` wrote.

    Raises:
        ValueError: the object is not one of `to_json`'s; also KeyError and TypeError.
    """
    arrays = _unpacked(content)
    result: ImageResult
    if "familiarity" in content:
        familiarity = content["familiarity"]
        values: dict[str, Any] = {**arrays, "names": _shared(tuple(content["names"]))}
        result = Detected(Detections(**values), None if familiarity is None else Familiarity(**familiarity))
    else:
        result = arrays[PROBABILITIES]
    width, height = content["size_wh"]
    return FinishedImage(content["key"], Stamp(*content["stamp"]), (width, height), content["seconds"], content["drawn_bytes"], result)


@lru_cache(maxsize=8)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the first of equal tuples, so that the detections of all images share the names of their labels in memory."""
    return names


def _packed(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    widest_first = sorted(arrays.items(), key=lambda pair: -pair[1].itemsize)  # so that each array begins at a multiple of its item's size
    described = [[name, array.dtype.str, list(array.shape)] for name, array in widest_first]
    raw = b"".join(array.tobytes() for _, array in widest_first)
    return {"arrays": described, "data": base64.b64encode(zlib.compress(raw, COMPRESSION)).decode("ascii")}


def _unpacked(content: dict[str, Any]) -> dict[str, np.ndarray]:
    described = [(name, np.dtype(kind), tuple(shape)) for name, kind, shape in content["arrays"]]
    if any(dtype.kind not in KINDS for _, dtype, _ in described):
        raise ValueError("found an array that does not hold numbers")
    n_bytes = [dtype.itemsize * int(np.prod(shape, dtype=np.int64)) for _, dtype, shape in described]
    raw = zlib.decompressobj().decompress(base64.b64decode(content["data"]), sum(n_bytes) + 1)
    if len(raw) != sum(n_bytes):
        raise ValueError(f"found {len(raw)} bytes of arrays, expected {sum(n_bytes)}")
    starts = np.cumsum([0, *n_bytes[:-1]]).tolist()
    return {
        name: np.ndarray(shape, dtype, buffer=raw, offset=start) if size else np.zeros(shape, dtype)
        for (name, dtype, shape), start, size in zip(described, starts, n_bytes, strict=True)
    }

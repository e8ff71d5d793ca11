"""The results of a run by image: those of the first images in memory, those of further ones in a temporary file."""

import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from malaria_cells.data.detections import Detections

IN_MEMORY = 300  # images; of a field of 200 cells 20 kB are held
COLUMNS = tuple(field.name for field in fields(Detections) if field.name not in {"names", "judged"})
Layout = tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]  # type of each column, and the shape of its rows


@dataclass(frozen=True)
class _Stored:
    """Where the columns of an image's detections are in the file.

    Attributes:
        start: first byte.
        n: number of detections.
        layout: type and row shape of each column, one object for all images.
        rest: the detections without cells, for what is no column.
    """

    start: int
    n: int
    layout: Layout
    rest: Detections


class HeldResults(MutableMapping[str, Any]):
    """Results by image key, in order. Detections of more than `IN_MEMORY` images are written to a file, which the system removes.

    So the memory of a run hardly grows with the number of its images. What is read from the file is a copy: to change it, set it again.
    """

    def __init__(self, in_memory: int = IN_MEMORY):
        self._in_memory = in_memory
        self._held: dict[str, Any] = {}
        self._file: Any = None
        self._lock = threading.Lock()  # of the file's position: several threads may draw what is held
        self._layouts: dict[Layout, Layout] = {}
        self._no_cells: Detections | None = None

    def __setitem__(self, key: str, result: Any) -> None:
        if isinstance(result, Detections) and len(self._held) >= self._in_memory:
            result = self._stored(result)
        self._held[key] = result

    def __getitem__(self, key: str) -> Any:
        result = self._held[key]
        return self._loaded(result) if isinstance(result, _Stored) else result

    def __contains__(self, key: object) -> bool:
        return key in self._held  # without reading it

    def __delitem__(self, key: str) -> None:
        del self._held[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def ordered(self, keys: Iterable[str]) -> Self:
        """Put the results into the order of these keys, and return them."""
        self._held = {key: self._held[key] for key in keys if key in self._held}
        return self

    def _stored(self, detections: Detections) -> _Stored:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the results are held
            weakref.finalize(self, self._file.close)
        columns = [np.ascontiguousarray(getattr(detections, name)) for name in COLUMNS]
        with self._lock:
            start = self._file.seek(0, 2)
            for column in columns:
                self._file.write(column.tobytes())
        if self._no_cells is None:
            self._no_cells = detections[np.zeros(len(detections), dtype=bool)]
        rest = replace(self._no_cells, names=detections.names, judged=detections.judged)
        layout = tuple((column.dtype, column.shape[1:]) for column in columns)
        return _Stored(start, len(detections), self._layouts.setdefault(layout, layout), rest)

    def _loaded(self, stored: _Stored) -> Detections:
        columns: dict[str, Any] = {}
        with self._lock:
            self._file.seek(stored.start)
            for name, (dtype, row_shape) in zip(COLUMNS, stored.layout, strict=True):
                shape = (stored.n, *row_shape)
                content = bytearray(self._file.read(int(np.prod(shape)) * dtype.itemsize))  # arrays of bytes could not be written to
                columns[name] = np.frombuffer(content, dtype=dtype).reshape(shape)
        return replace(stored.rest, **columns)

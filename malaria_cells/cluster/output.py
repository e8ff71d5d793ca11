"""The output of a run on a cluster: what the run is about, its numbered parts, and the tables that are made of them in the end.

A part is a fixed number of images in the order of their keys. Its cells are written first, then its failures, and its counts last: a part
whose counts are there is finished, and everything else is written again, with the same content. So a run may be killed at any time.
"""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.cluster.images import Images
from malaria_cells.cluster.places import Place
from malaria_cells.cluster.rows import ImageResult, read_results
from malaria_cells.data.labels import LabelSet

FORMAT = 1
RUN, IMAGES = "run.json", "images.parquet"
CELLS, COUNTS, FAILURES = "cells", "counts.parquet", "failed.parquet"
PARTS = "_parts"  # readers of partitioned Parquet leave out what begins with _
COMPRESSION = "zstd"


@dataclass(frozen=True)
class RunPlan:
    """What a run is about. A run goes on in an output only if it is about the same.

    Attributes:
        root: path or address of the folder of the images.
        n_images: number of images.
        part_images: images of a part.
        model: name of the model as it was given.
        fingerprint: hash of the model's files.
        engine: the inference engine.
        options: options of the detection that were given, by name.
        command: command that repeats the run.
        format: version of the tables.
    """

    root: str
    n_images: int
    part_images: int
    model: str
    fingerprint: str
    engine: str
    options: dict[str, Any]
    command: str
    format: int = FORMAT

    def differences(self, other: "RunPlan") -> list[str]:
        """What another run is about that this one is not, in words."""
        names = ("format", "root", "n_images", "part_images", "fingerprint", "engine", "options")
        words = {"root": "folder of the images", "n_images": "number of images", "part_images": "--part-images", "fingerprint": "model"}
        return [
            f"{words.get(name, name)}: {getattr(self, name)!r} there, {getattr(other, name)!r} now"
            for name in names
            if getattr(self, name) != getattr(other, name)
        ]


def part_name(part: int) -> str:
    """Name of a part's file.

    >>> part_name(12)
    'part-000012.parquet'
    """
    return f"part-{part:06d}.parquet"


def to_bytes(table: pa.Table) -> bytes:
    """A table as the content of a Parquet file."""
    file = io.BytesIO()
    pq.write_table(table, file, compression=COMPRESSION)
    return file.getvalue()


def from_bytes(content: bytes) -> pa.Table:
    """The table in the content of a Parquet file."""
    return pq.read_table(io.BytesIO(content))


def write_part(place: Place, part: int, cells: bytes, failed: bytes, counts: bytes) -> None:
    """Write a part's tables, the counts last: they say that the part is finished."""
    place.write(f"{CELLS}/{part_name(part)}", cells)
    place.write(f"{PARTS}/failed-{part_name(part)}", failed)  # also without a row: an earlier try may have left some
    place.write(f"{PARTS}/counts-{part_name(part)}", counts)


@dataclass(frozen=True)
class ClusterOutput:
    """The output of one run.

    Attributes:
        place: its folder.
        plan: what the run is about.
        keys: the images, sorted.
    """

    place: Place
    plan: RunPlan
    keys: tuple[str, ...]

    @staticmethod
    def begin(place: Place, plan: RunPlan, images: Images) -> "ClusterOutput":
        """Begin a run, or go on with one of the same images, model and options.

        Raises:
            InputError: the folder holds a run about something else, or files that are no run.
        """
        names = place.names()
        if RUN not in names:
            if set(names) - {IMAGES}:
                raise InputError(f"--output {place}: is not empty and holds no run on a cluster; choose another --output")
            place.write(IMAGES, to_bytes(pa.table({"image": list(images.keys)})))
            place.write(RUN, (json.dumps(asdict(plan), indent=2) + "\n").encode())
            return ClusterOutput(place, plan, images.keys)
        there = ClusterOutput.open(place)
        differences = there.plan.differences(plan)
        if differences:
            raise InputError(f"--output {place}: holds another run ({'; '.join(differences)}); repeat that one, or choose another --output")
        if there.keys != images.keys:
            changed = min(set(there.keys) ^ set(images.keys))
            raise InputError(
                f"--output {place}: holds a run over other images of {plan.root}; first difference: {changed}; choose another --output"
            )
        return there

    @staticmethod
    def open(place: Place) -> "ClusterOutput":
        """Open what a run wrote.

        Raises:
            InputError: there is no run, or one of a later version.
        """
        try:
            stored = json.loads(place.read(RUN))
            found = stored["format"]
            if found != FORMAT:
                raise InputError(f"{place}: is of format {found}, this version reads format {FORMAT}; install the version that wrote it")
            return ClusterOutput(place, RunPlan(**stored), tuple(from_bytes(place.read(IMAGES)).column("image").to_pylist()))
        except FileNotFoundError:
            raise InputError(f"{place}: holds no run on a cluster, {RUN} or {IMAGES} is missing; run.py --cluster writes them") from None
        except (ValueError, KeyError, TypeError, pa.ArrowInvalid) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{place}: {RUN} or {IMAGES} is damaged ({error}); choose another --output and run again") from error

    @property
    def parts(self) -> int:
        """Number of parts."""
        return -(-len(self.keys) // self.plan.part_images)

    def keys_of(self, part: int) -> tuple[str, ...]:
        """The images of a part."""
        return self.keys[part * self.plan.part_images : (part + 1) * self.plan.part_images]

    @property
    def is_complete(self) -> bool:
        """Whether all images are done and the tables of images and failures are written."""
        return {COUNTS, FAILURES} <= set(self.place.names())

    def unfinished_parts(self) -> list[int]:
        """Numbers of the parts that are not written yet."""
        if self.is_complete:
            return []
        written = set(self.place.names(PARTS))
        return [part for part in range(self.parts) if f"counts-{part_name(part)}" not in written]

    def complete(self) -> None:
        """Join the counts and the failures of all parts, check that each image is in one of them once, and remove the parts' files.

        Raises:
            InputError: an image is missing or there twice, because somebody else wrote into the output.
        """
        if not self.is_complete:
            failed, counts = self._joined("failed-"), self._joined("counts-")
            done = sorted(failed.column("image").to_pylist() + counts.column("image").to_pylist())
            if done != list(self.keys):
                wrong = min(set(done) ^ set(self.keys), default=next((a for a, b in pairwise(done) if a == b), ""))
                raise InputError(
                    f"--output {self.place}: {number_of(len(done), 'row')} for {number_of(len(self.keys), 'image')}, first: {wrong}; "
                    "its files were changed; choose another --output and run again"
                )
            self.place.write(FAILURES, to_bytes(failed))
            self.place.write(COUNTS, to_bytes(counts))
        self.place.remove(PARTS, self.place.names(PARTS))

    def _joined(self, start: str) -> pa.Table:
        """The rows of all parts together."""
        names = [f"{PARTS}/{start}{part_name(part)}" for part in range(self.parts)]
        return pa.concat_tables([from_bytes(content) for content in self.place.read_each(names)])

    def results(self, labels: LabelSet, is_selected: Callable[[str], bool]) -> Iterator[ImageResult]:
        """Yield the rows of the selected images of a complete run, image by image, in the order of their keys."""
        counts = from_bytes(self.place.read(COUNTS))
        counts = counts.filter(pa.array([is_selected(key) for key in counts.column("image").to_pylist()], type=pa.bool_()))
        selected = set(counts.column("image").to_pylist())
        parts = [part for part in range(self.parts) if not selected.isdisjoint(self.keys_of(part))]
        contents, start = self.place.read_each([f"{CELLS}/{part_name(part)}" for part in parts]), 0
        for part, content in zip(parts, contents, strict=True):
            n_images = sum(key in selected for key in self.keys_of(part))
            # The rows are in the order of the keys, so those of a part lie together.
            yield from read_results(from_bytes(content), counts.slice(start, n_images), labels)
            start += n_images

    def failed(self) -> dict[str, str]:
        """Reasons by key of the images that failed."""
        table = from_bytes(self.place.read(FAILURES))
        return dict(zip(table.column("image").to_pylist(), table.column("reason").to_pylist(), strict=True))

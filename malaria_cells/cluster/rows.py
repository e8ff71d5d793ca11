"""Detections as rows of Parquet: a row a cell, a row an image, a row a failure; and back, number for number.

Columns with the names of ``detections.csv``, ``counts.csv`` and ``failed.csv`` hold the same values, not rounded. Further columns hold
what else is known of a cell and of an image, so that tables, report and drawings can be made from the rows alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from malaria_cells.base.errors import InputError
from malaria_cells.cluster.images import slide_of
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import BACKGROUND, LabelSet
from malaria_cells.inference.counting import count_detected
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.familiarity import Familiarity
from malaria_cells.results.columns import COUNT_COLUMNS, DETECTION_COLUMNS
from malaria_cells.results.tables import count_names, count_values
from malaria_cells.results.verdicts import Verdicts

BOX = ("x_min", "y_min", "x_max", "y_max")
FRACTIONS = frozenset({"parasitemia", "parasitemia_low", "parasitemia_high"})
FAILED = pa.schema({"image": pa.string(), "slide": pa.string(), "reason": pa.string()})


@dataclass(frozen=True)
class ImageResult:
    """What was found in one image.

    Attributes:
        key: the image.
        detections: its cells.
        familiarity: verdict on the image; None if the model has no familiarity model.
        size_wh: width and height in pixels.
        seconds: time of a worker for the image, reading included.
    """

    key: str
    detections: Detections
    familiarity: Familiarity | None
    size_wh: tuple[int, int]
    seconds: float


@dataclass
class PartRows:
    """Images that are written together: those with results, and the reasons why others failed, by key."""

    results: list[ImageResult] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def cell_schema(labels: LabelSet) -> pa.Schema:
    """Columns of the table of cells.

    Raises:
        InputError: a label or a plugin's column has the name of another column.
    """
    columns: list[tuple[str, pa.DataType]] = [("image", pa.string()), ("slide", pa.string()), ("label", pa.string())]
    columns += [(name, pa.float32()) for name in ("score", *BOX)]
    columns += [(name, pa.string()) for name in DETECTION_COLUMNS]
    columns += [("counted_as", pa.string()), ("objectness", pa.float32()), ("index", pa.int32())]
    columns += [(f"p_{name}", pa.float32()) for name in (*labels.names, BACKGROUND)]
    columns += [(f"score_{name}", pa.float32()) for name in labels.names]
    return _distinct(columns)


def count_schema(labels: LabelSet) -> pa.Schema:
    """Columns of the table of images.

    Raises:
        InputError: a label or a plugin's column has the name of another column.
    """
    columns: list[tuple[str, pa.DataType]] = [("image", pa.string())]
    columns += [(name, pa.float64() if name in FRACTIONS else pa.int64()) for name in count_names(labels)]
    columns += [(name, pa.string()) for name in ("familiarity", "familiarity_reason", *COUNT_COLUMNS, "slide")]
    columns += [("width", pa.int32()), ("height", pa.int32()), ("familiarity_distance", pa.float64())]
    columns += [("familiarity_nearest", pa.string()), ("infection_known", pa.bool_()), ("seconds", pa.float64())]
    return _distinct(columns)


def _distinct(columns: list[tuple[str, pa.DataType]]) -> pa.Schema:
    names = [name for name, _ in columns]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise InputError(f"--cluster: '{double}' is a label or a plugin's column, and another column of the tables; rename it")
    return pa.schema(columns)


def cell_table(part: PartRows, labels: LabelSet) -> pa.Table:
    """The cells of images: by image, and in an image by score, as in ``detections.csv``."""
    schema = cell_schema(labels)
    in_order = sorted(part.results, key=lambda r: r.key)
    tables = [pa.table(_cell_columns(result, labels), schema=schema) for result in in_order]
    return pa.concat_tables([schema.empty_table(), *tables])


def _cell_columns(result: ImageResult, labels: LabelSet) -> dict[str, Any]:
    d = result.detections
    order = np.argsort(-d.confidence, kind="stable")
    n, names = len(d), np.array([*labels.names, None], dtype=object)  # the last one is for cells that are not counted: -1
    columns: dict[str, Any] = {"image": [result.key] * n, "slide": [slide_of(result.key)] * n, "label": names[d.class_id[order]]}
    columns["score"] = d.confidence[order].astype(np.float32)
    columns |= {name: d.xyxy[order, i].astype(np.float32) for i, name in enumerate(BOX)}
    for name in DETECTION_COLUMNS:
        values = DETECTION_COLUMNS[name](d, labels)
        columns[name] = [str(values[i]) for i in order]
    columns["counted_as"], columns["objectness"] = names[d.counted_as[order]], d.objectness[order].astype(np.float32)
    columns["index"] = d.index[order].astype(np.int32)
    columns |= _by_label("p_", (*labels.names, BACKGROUND), d.probabilities[order])
    return columns | _by_label("score_", labels.names, d.label_scores[order])


def _by_label(start: str, names: tuple[str, ...], values: np.ndarray) -> dict[str, Any]:
    """A column for each name; those that the detector does not give, such as a background of a model without it, are null."""
    n, known = len(values), values.shape[1]
    return {f"{start}{name}": values[:, i].astype(np.float32) if i < known else [None] * n for i, name in enumerate(names)}


def count_table(part: PartRows, detector: Detector, force: bool) -> pa.Table:
    """The counts of images, sorted by their keys; `force` gives a parasitemia also for images unlike anything learned."""
    schema = count_schema(detector.labels)
    in_order = sorted(part.results, key=lambda r: r.key)
    rows = [dict(zip(schema.names, _count_row(result, detector, force), strict=True)) for result in in_order]
    return pa.Table.from_pylist(rows, schema=schema)


def _count_row(result: ImageResult, detector: Detector, force: bool) -> tuple[Any, ...]:
    labels, f = detector.labels, result.familiarity
    is_given = bool(Verdicts.of(detector, {result.key: result.detections}, {result.key: f}, force).included)
    counted = count_values(labels, count_detected(result.detections, labels), detector.errors_for(f), is_given)
    verdict = (f.level, f.reason) if f else (None, None)
    further = (str(COUNT_COLUMNS[name](result.detections, labels)) for name in COUNT_COLUMNS)
    distance = (f.distance, f.nearest, f.infection_known) if f else (None, None, None)
    return (result.key, *counted, *verdict, *further, slide_of(result.key), *result.size_wh, *distance, result.seconds)


def failed_table(failed: Mapping[str, str]) -> pa.Table:
    """The images that failed, sorted by their keys, with reasons."""
    rows = [{"image": key, "slide": slide_of(key), "reason": why} for key, why in sorted(failed.items())]
    return pa.Table.from_pylist(rows, schema=FAILED)


def read_results(cells: pa.Table, counts: pa.Table, labels: LabelSet) -> Iterator[ImageResult]:
    """Yield what `cell_table` and `count_table` wrote, image by image."""
    image = cells.column("image").to_numpy()
    # The cells of an image lie together.
    starts = np.flatnonzero(np.r_[True, image[1:] != image[:-1]]) if len(image) else np.zeros(0, dtype=int)
    spans = {image[a]: (a, b) for a, b in zip(starts, np.r_[starts[1:], len(image)], strict=True)} if len(image) else {}
    for row in counts.to_pylist():
        start, end = spans.get(row["image"], (0, 0))
        detections = _detections(cells.slice(start, end - start), labels)
        familiarity = None
        if row["familiarity"]:
            familiarity = Familiarity(
                row["familiarity"],
                row["familiarity_distance"],
                row["familiarity_reason"],
                row["familiarity_nearest"],
                row["infection_known"],
            )
        yield ImageResult(row["image"], detections, familiarity, (row["width"], row["height"]), row["seconds"])


def _detections(cells: pa.Table, labels: LabelSet) -> Detections:
    cells = cells.sort_by("index")  # the detector's order
    ids = {name: i for i, name in enumerate(labels.names)} | {None: -1}

    def numbers(names: list[str]) -> np.ndarray:
        known = [name for name in names if not cells.column(name).null_count]
        return np.array([cells.column(name).to_numpy() for name in known], dtype=np.float32).T.reshape(len(cells), len(known))

    def of_labels(name: str) -> np.ndarray:
        return np.array([ids[label] for label in cells.column(name).to_pylist()], dtype=np.int64)

    return Detections(
        xyxy=numbers(list(BOX)),
        confidence=numbers(["score"])[:, 0],
        class_id=of_labels("label"),
        counted_as=of_labels("counted_as"),
        objectness=numbers(["objectness"])[:, 0],
        probabilities=numbers([f"p_{name}" for name in (*labels.names, BACKGROUND)]),
        label_scores=numbers([f"score_{name}" for name in labels.names]),
        index=cells.column("index").to_numpy().astype(np.int64),
        names=labels.names,
    )

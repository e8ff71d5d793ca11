"""Label Studio's JSON (labelstud.io): tasks with annotations in percent of the image's size; and its flat variant JSON-MIN."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.label_studio_names import image_name
from malaria_cells.data.annotations.outlines import Box, points_bounds, rotated_bounds
from malaria_cells.data.annotations.readers import reader
from malaria_cells.data.annotations.shapes import Shapes, expect, faults_named
from malaria_cells.data.annotations.source import RawImage, Source, declared_size, numbers, whole_image

FORMAT = Format(
    name="label_studio",
    title="Label Studio",
    recognised_by="a JSON list of tasks with `annotations` that have a `result` (JSON), or with `annotation_id` (JSON-MIN)",
    exported_by="Label Studio (JSON, JSON-MIN)",
    not_read="predictions, tasks without an annotation, cancelled annotations, all but the last of several annotations of a task, brushes, "
    "key points, relations; a choice counts where nothing has a box; outlines, ellipses and turned boxes serve as their bounding boxes",
    suffixes=(".json",),
)
_EXPECTED = (
    '[{"data": {"image": ..}, "annotations": [{"result": [{"original_width": .., "original_height": .., '
    '"value": {"x": .., "y": .., "width": .., "height": .., "rectanglelabels": [..]}}]}]}]'
)
_LISTS = ("annotations", "completions")  # keys of the list of annotations; files from before 2021 have the second
# Keys of a JSON-MIN entry that are neither data nor results.
_MIN_KEYS = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}
# Keys of a result's value that describe the shape.
_GEOMETRY = {"x", "y", "width", "height", "rotation", "radiusX", "radiusY", "points", "closed"}


@dataclass
class _Annotated:
    """An image with the shapes and the choices of its annotation."""

    shapes: Shapes
    size_wh: tuple[int, int] | None
    choices: list[str]


def recognises(source: Source) -> bool:
    """Whether the file is a list of tasks (JSON), or of entries with `annotation_id` and `annotator` (JSON-MIN)."""
    content = source.json
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return False
    first = content[0]
    if isinstance(first.get("data"), dict):
        return any(isinstance(first.get(key), list) for key in _LISTS)
    return {"annotation_id", "annotator"} <= first.keys()


@reader(FORMAT, recognises, rank=40)
def read(source: Source) -> list[RawImage]:
    """Read every task that was annotated.

    Raises:
        InputError: a part of the format is missing.
    """
    with faults_named(source, _EXPECTED):
        tasks = [expect(task, dict, "a task") for task in expect(source.json, list, "the file")]
        named_results = _from_min(source, tasks) if tasks and "annotation_id" in tasks[0] else _from_tasks(source, tasks)
        images = [_annotated(source, name, results) for name, results in named_results]
    if not any(image.shapes.boxes for image in images) and images and all(len(image.choices) == 1 for image in images):
        return [whole_image(image.shapes.name, image.choices[0]) for image in images]
    for image in images:
        if image.choices:
            image.shapes.leave_out("choice", "of an image or a region, not read", len(image.choices))
    return [image.shapes.image(image.size_wh) for image in images]


def _from_tasks(source: Source, tasks: list[dict[str, Any]]) -> Iterable[tuple[str, list[Any]]]:
    """Yield the image's name and the results of each task with a finished annotation."""
    for task in tasks:
        name = image_name(source.path, expect(task["data"], dict, "`data`"))
        with faults_named(source, _EXPECTED, name):
            annotations = next((expect(task[key], list, f"`{key}`") for key in _LISTS if key in task), [])
            finished = [a for a in annotations if not expect(a, dict, "an annotation").get("was_cancelled")]
            if task.get("predictions"):
                source.issues.note("task", "with predictions, which are not read", name)
            if len(finished) < len(annotations):
                source.issues.note("annotation", "that was cancelled, left out", name, len(annotations) - len(finished))
            if not finished:
                source.issues.note("image", "without a finished annotation, left out", name)
                continue
            yield name, expect(_latest(source, name, finished)["result"], list, "`result`")


def _from_min(source: Source, tasks: list[dict[str, Any]]) -> Iterable[tuple[str, list[Any]]]:
    """Yield the image's name and the results of each image; JSON-MIN has one entry per annotation, with results by control name."""
    by_image: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for task in tasks:
        by_image[image_name(source.path, {key: value for key, value in task.items() if key not in _MIN_KEYS})].append(task)
    for name, entries in by_image.items():
        entry = _latest(source, name, entries)
        results: list[dict[str, Any]] = []
        for key, value in entry.items():
            if key not in _MIN_KEYS and isinstance(value, list):
                results += [{**expect(v, dict, f"`{key}`"), "value": v} for v in value]
            elif key.startswith("choice"):  # the default name of a choice control; other texts may be data of the task
                choices = value["choices"] if isinstance(value, dict) else [value]
                results.append({"value": {"choices": choices}})
        yield name, results


def _latest(source: Source, name: str, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """The annotation to read: the one marked as ground truth, else the one changed last; of several ground truths the one changed last."""
    if len(annotations) > 1:
        source.issues.note("image", "with several annotations; only the ground truth, or else the latest one, is read", name)
    marked = [a for a in annotations if a.get("ground_truth")]
    return max(
        enumerate(marked or annotations), key=lambda pair: (str(pair[1].get("updated_at") or pair[1].get("created_at") or ""), pair[0])
    )[1]


def _annotated(source: Source, name: str, results: list[Any]) -> _Annotated:
    image = _Annotated(Shapes(source, name), None, [])
    with faults_named(source, _EXPECTED, name):
        labelled = {r.get("id") for r in results if isinstance(r, dict) and isinstance(r.get("value"), dict) and _labels(r["value"])}
        if (
            len({str(r.get("to_name")) for r in results if isinstance(r, dict) and isinstance(r.get("value"), dict) and "x" in r["value"]})
            > 1
        ):
            raise TypeError("shapes of several images (to_name) are in one task; export COCO instead")
        for result in results:
            if expect(result, dict, "a result").get("type") == "relation":
                image.shapes.leave_out("relation", "between cells, not read")
                continue
            value = expect(result["value"], dict, "`value`")
            if isinstance(value.get("choices"), list):
                image.choices += [expect(c, str, "a choice") for c in value["choices"]]
            elif not _labels(value) and result.get("id") in labelled - {None}:  # a region may have two results, of which one has the label
                if value.keys() - _GEOMETRY:
                    image.shapes.leave_out("result", "of a labelled region (a text or a rating), not read")
            else:
                _read_shape(image, result, value)
    return image


def _labels(value: dict[str, Any]) -> list[Any] | None:
    return next((v for key, v in value.items() if key.endswith("labels") and isinstance(v, list) and v), None)


def _read_shape(image: _Annotated, result: dict[str, Any], value: dict[str, Any]) -> None:
    shapes, labels = image.shapes, _labels(value)
    if ("radiusX" not in value and "points" not in value and not {"x", "y", "width", "height"} <= value.keys()) or "sequence" in value:
        return shapes.leave_out("result", f"of the type {excerpt(result.get('type'), 40)}, which has no box, left out")
    if labels is None or len(labels) != 1:
        return shapes.leave_out("region", "without exactly one label, left out")
    if result.get("item_index"):
        return shapes.leave_out("region", "of another image of the same task, left out")
    if result.get("image_rotation"):
        raise TypeError("was rotated in Label Studio, so the positions of its boxes are unclear; undo the rotation there and export again")
    size = declared_size(result.get("original_width"), result.get("original_height"))
    if size is None or (image.size_wh and size != image.size_wh):
        raise TypeError("`original_width` or `original_height` is missing or differs between boxes, which are in percent of them")
    image.size_wh = size
    box = _bounds(shapes, value, size)
    return shapes.add(labels[0], *box) if box else shapes.leave_out("outline", "with fewer than three points, left out")


def _bounds(shapes: Shapes, value: dict[str, Any], size_wh: tuple[int, int]) -> Box | None:
    """Bounding box in pixels. A rectangle is rotated about its upper left corner, an ellipse about its centre."""

    def values(*keys: str) -> list[float]:
        return numbers(shapes.source.path, shapes.name, *(value[key] for key in keys))

    x_scale, y_scale = size_wh[0] / 100, size_wh[1] / 100  # pixels per percent
    degrees = numbers(shapes.source.path, shapes.name, value.get("rotation") or 0)[0]
    if degrees and not math.isfinite(degrees):
        raise InputError(f"{shapes.source.path}: image '{shapes.name}' has a box with the rotation {degrees}; expected degrees")
    if degrees and "points" not in value:
        shapes.leave_out("rotated box", "replaced by its axis-aligned bounding box")
    if "points" in value:
        points = expect(value["points"], list, "`points`")
        left, top, right, bottom = points_bounds(points) if len(points) >= 3 else (0, 0, 0, 0)
        return (left * x_scale, top * y_scale, right * x_scale, bottom * y_scale) if len(points) >= 3 else None
    if "radiusX" in value:
        x, y, radius_x, radius_y = values("x", "y", "radiusX", "radiusY")
        return rotated_bounds((x * x_scale, y * y_scale), (radius_x * x_scale, radius_y * y_scale), degrees, ellipse=True)
    x, y, width, height = values("x", "y", "width", "height")
    x, y, width, height = x * x_scale, y * y_scale, width * x_scale, height * y_scale
    if not degrees:
        return x, y, x + width, y + height
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    centre = x + (width * cos - height * sin) / 2, y + (width * sin + height * cos) / 2
    return rotated_bounds(centre, (width / 2, height / 2), degrees, ellipse=False)

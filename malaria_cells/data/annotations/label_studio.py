"""Label Studio's JSON (labelstud.io): tasks with annotations in percent of the image; JSON-MIN, a flatter format of it."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.label_studio_names import image_name
from malaria_cells.data.annotations.outlines import Box, points_bounds, turned_bounds
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
_LISTS = ("annotations", "completions")  # the latter in files from before 2021
_OF_MIN = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}
_GEOMETRY = {"x", "y", "width", "height", "rotation", "radiusX", "radiusY", "points", "closed"}


@dataclass
class _Annotated:
    """An image with the results of the annotation that counts, and with its choices."""

    shapes: Shapes
    size_wh: tuple[int, int] | None
    choices: list[str]


def recognises(source: Source) -> bool:
    """Whether the file holds a list of tasks."""
    content = source.json
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return False
    first = content[0]
    if isinstance(first.get("data"), dict):
        return any(isinstance(first.get(key), list) for key in _LISTS)
    return {"annotation_id", "annotator"} <= first.keys()


def read(source: Source) -> list[RawImage]:
    """Read every task that was annotated.

    Raises:
        InputError: a part of the format is missing.
    """
    with faults_named(source, _EXPECTED):
        tasks = [expect(task, dict, "a task") for task in expect(source.json, list, "the file")]
        chosen = _of_min(source, tasks) if tasks and "annotation_id" in tasks[0] else _of_tasks(source, tasks)
        images = [_annotated(source, name, results) for name, results in chosen]
    if not any(p.shapes.boxes for p in images) and images and all(len(p.choices) == 1 for p in images):
        return [whole_image(p.shapes.name, p.choices[0]) for p in images]
    for image in images:
        if image.choices:
            image.shapes.leave_out("choice", "of an image or a region, not read", len(image.choices))
    return [p.shapes.image(p.size_wh) for p in images]


def _of_tasks(source: Source, tasks: list[dict]) -> Iterable[tuple[str, list]]:
    for task in tasks:
        name = image_name(source.path, expect(task["data"], dict, "`data`"))
        with faults_named(source, _EXPECTED, name):
            annotations = next((expect(task[key], list, f"`{key}`") for key in _LISTS if key in task), [])
            done = [a for a in annotations if not expect(a, dict, "an annotation").get("was_cancelled")]
            if task.get("predictions"):
                source.issues.note("task", "with predictions, which are not read", name)
            if len(done) < len(annotations):
                source.issues.note("annotation", "that was cancelled, left out", name, len(annotations) - len(done))
            if not done:
                source.issues.note("image", "without an annotation that is finished, left out", name)
                continue
            yield name, expect(_latest(source, name, done)["result"], list, "`result`")


def _of_min(source: Source, tasks: list[dict]) -> Iterable[tuple[str, list]]:
    """JSON-MIN has an entry an annotation, with the results below the names of the interface's controls."""
    by_image: dict[str, list[dict]] = defaultdict(list)
    for task in tasks:
        by_image[image_name(source.path, {key: value for key, value in task.items() if key not in _OF_MIN})].append(task)
    for name, done in by_image.items():
        entry = _latest(source, name, done)
        results: list[dict] = []
        for key, value in entry.items():
            if key not in _OF_MIN and isinstance(value, list):
                results += [{**expect(v, dict, f"`{key}`"), "value": v} for v in value]
            elif key.startswith("choice"):  # the usual name of the control: any other text may be of the data
                choices = value["choices"] if isinstance(value, dict) else [value]
                results.append({"value": {"choices": choices}})
        yield name, results


def _latest(source: Source, name: str, annotations: list[dict]) -> dict:
    """The annotation that counts: the one that is marked as ground truth, else the one that was changed last."""
    if len(annotations) > 1:
        source.issues.note("image", "with several annotations, of which the ground truth or else the latest was taken", name)
    marked = [a for a in annotations if a.get("ground_truth")]
    return max(
        enumerate(marked or annotations), key=lambda pair: (str(pair[1].get("updated_at") or pair[1].get("created_at") or ""), pair[0])
    )[1]


def _annotated(source: Source, name: str, results: list) -> _Annotated:
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
            elif not _labels(value) and result.get("id") in labelled - {None}:  # a shape may come twice, once with its label
                if value.keys() - _GEOMETRY:
                    image.shapes.leave_out("result", "beside the label of a region (a text or a rating), not read")
            else:
                _read_shape(image, result, value)
    return image


def _labels(value: dict) -> list | None:
    return next((v for key, v in value.items() if key.endswith("labels") and isinstance(v, list) and v), None)


def _read_shape(image: _Annotated, result: dict, value: dict) -> None:
    shapes, labels = image.shapes, _labels(value)
    if ("radiusX" not in value and "points" not in value and not {"x", "y", "width", "height"} <= value.keys()) or "sequence" in value:
        return shapes.leave_out("result", f"of the kind {excerpt(result.get('type'), 40)}, which has no box, left out")
    if labels is None or len(labels) != 1:
        return shapes.leave_out("region", "without a label, or with several, left out")
    if result.get("item_index"):
        return shapes.leave_out("region", "of a further image of the same task, left out")
    if result.get("image_rotation"):
        raise TypeError("was turned in Label Studio, so that it is not clear where its boxes are; turn it back there and export again")
    size = declared_size(result.get("original_width"), result.get("original_height"))
    if size is None or (image.size_wh and size != image.size_wh):
        raise TypeError("`original_width` and `original_height` are missing or differ, and boxes are in percent of them")
    image.size_wh = size
    box = _bounds(shapes, value, size)
    return shapes.add(labels[0], *box) if box else shapes.leave_out("outline", "with fewer than three points, left out")


def _bounds(shapes: Shapes, value: dict, size_wh: tuple[int, int]) -> Box | None:
    """Bounds in pixels; a rectangle turns about its left upper corner, an ellipse about its centre."""

    def values(*keys: str) -> list[float]:
        return numbers(shapes.source.path, shapes.name, *(value[key] for key in keys))

    across, down = size_wh[0] / 100, size_wh[1] / 100
    degrees = numbers(shapes.source.path, shapes.name, value.get("rotation") or 0)[0]
    if degrees and not math.isfinite(degrees):
        raise InputError(f"{shapes.source.path}: image '{shapes.name}' has a box with the rotation {degrees}; expected degrees")
    if degrees and "points" not in value:
        shapes.leave_out("turned box", "taken as its upright bounding box")
    if "points" in value:
        points = expect(value["points"], list, "`points`")
        left, top, right, bottom = points_bounds(points) if len(points) >= 3 else (0, 0, 0, 0)
        return (left * across, top * down, right * across, bottom * down) if len(points) >= 3 else None
    if "radiusX" in value:
        x, y, radius_x, radius_y = values("x", "y", "radiusX", "radiusY")
        return turned_bounds((x * across, y * down), (radius_x * across, radius_y * down), degrees, ellipse=True)
    x, y, width, height = values("x", "y", "width", "height")
    x, y, width, height = x * across, y * down, width * across, height * down
    if not degrees:
        return x, y, x + width, y + height
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    centre = x + (width * cos - height * sin) / 2, y + (width * sin + height * cos) / 2
    return turned_bounds(centre, (width / 2, height / 2), degrees, ellipse=False)

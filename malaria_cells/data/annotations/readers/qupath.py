"""QuPath's GeoJSON (Bankhead et al. 2017, Sci Rep 7:16878): one file per image, with classified outlines in pixels."""

from typing import Any

from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.outlines import points_bounds
from malaria_cells.data.annotations.readers import reader
from malaria_cells.data.annotations.shapes import Shapes, expect, faults_named
from malaria_cells.data.annotations.source import RawImage, Source

FORMAT = Format(
    name="qupath",
    title="QuPath GeoJSON",
    recognised_by="a GeoJSON `FeatureCollection`, or a list of `Feature`, with outlines; it is named as its image",
    exported_by="QuPath (Export objects as GeoJSON)",
    not_read="objects without a classification (regions of interest), points, lines, measurements, nuclei inside cells; outlines serve as "
    "their bounding boxes",
    suffixes=(".json", ".geojson"),
    per_image=True,
)
_EXPECTED = (
    '{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[x, y], ..]]}, '
    '"properties": {"classification": {"name": ..}}}]}'
)


def recognises(source: Source) -> bool:
    """Whether the file holds GeoJSON features."""
    features = _features(source.json)
    return isinstance(features, list) and (not features or (isinstance(features[0], dict) and features[0].get("type") == "Feature"))


@reader(FORMAT, recognises, rank=90)
def read(source: Source) -> list[RawImage]:
    """Read the one image, whose name is that of the file without its extension.

    Raises:
        InputError: a required key is missing or has the wrong type.
    """
    name = source.path.name.removesuffix(source.path.suffix)
    shapes = Shapes(source, name)
    with faults_named(source, _EXPECTED, name):
        kinds = [
            _read_feature(shapes, expect(feature, dict, "a feature")) for feature in expect(_features(source.json), list, "`features`")
        ]
    annotations = sum(kind == "annotation" for kind in kinds)
    if annotations and annotations < len(shapes.boxes):
        shapes.leave_out(
            "annotation", "with a class in a file of detections, taken as a cell (regions of interest should have no class)", annotations
        )
    return [shapes.image()]


def _features(content: Any) -> Any:
    if isinstance(content, dict):
        return {"FeatureCollection": content.get("features"), "Feature": [content]}.get(str(content.get("type")))
    return content if content else None


def _read_feature(shapes: Shapes, feature: dict[str, Any]) -> str | None:
    """Add an object to the shapes, or to the issues if it is left out; returns QuPath's type of the object if it was added."""
    geometry = expect(feature["geometry"], dict, "`geometry`")
    properties = expect(feature.get("properties") or {}, dict, "`properties`")
    rings, category = _outer_rings(geometry), _category(properties)
    plane = expect(geometry.get("plane") or {}, dict, "`plane`")
    if rings is None:
        shapes.leave_out("object", f"of the type {excerpt(geometry.get('type'), 40)}, which has no box, left out")
    elif category is None or category.endswith("*"):  # QuPath itself ignores classes such as Region* and Ignore*
        shapes.leave_out("object", "without a class, or with a class that ends in * (a region of interest), left out")
    elif not any(rings):
        shapes.leave_out("outline", "without a point, left out")
    elif plane.get("z") or plane.get("t"):
        shapes.leave_out("object", "outside of the first plane (z or t), left out")
    else:
        if feature.get("nucleusGeometry"):
            shapes.leave_out("outline", "of a nucleus inside a cell, not read")
        shapes.add(category, *points_bounds([point for ring in rings for point in ring]))
        return str(properties.get("objectType", properties.get("object_type")))
    return None


def _category(properties: dict[str, Any]) -> str | None:
    """The class, from `classification` (in older files `class`), which is a text or an object with `name` or `names`; None without one."""
    category = properties.get("classification", properties.get("class"))
    if isinstance(category, dict):
        names = category.get("names")
        category = category["name"] if "name" in category else ": ".join(expect(names, list, "`names`")) if names else None
    return None if category is None or category == "" else expect(category, str, "`classification`")


def _outer_rings(geometry: dict[str, Any]) -> list[list[Any]] | None:
    """The outer outlines of a polygon or multipolygon, without its holes; None for other geometries."""
    kind = geometry.get("type")
    if kind not in ("Polygon", "MultiPolygon"):
        return None
    coordinates = expect(geometry["coordinates"], list, "`coordinates`")
    polygons = [coordinates] if kind == "Polygon" else coordinates
    return [expect(polygon[0], list, "an outline") for polygon in polygons if expect(polygon, list, "a polygon")]

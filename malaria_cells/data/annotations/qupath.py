"""QuPath's GeoJSON (Bankhead et al. 2017, Sci Rep 7:16878): one file an image, outlines in pixels with a classification."""

from typing import Any

from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.outlines import points_bounds
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
    """Whether the file holds features of GeoJSON."""
    features = _features(source.json)
    return isinstance(features, list) and (not features or (isinstance(features[0], dict) and features[0].get("type") == "Feature"))


def read(source: Source) -> list[RawImage]:
    """Read the one image, which is named as the file without its ending.

    Raises:
        InputError: a part of the format is missing.
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
            "annotation", "with a class beside detections, taken as a cell like them (a region of interest should have none)", annotations
        )
    return [shapes.image()]


def _features(content: Any) -> Any:
    if isinstance(content, dict):
        return {"FeatureCollection": content.get("features"), "Feature": [content]}.get(str(content.get("type")))
    return content if content else None


def _read_feature(shapes: Shapes, feature: dict) -> str | None:
    """Take an object, or a note of why it is left out; returns QuPath's name for its kind if it was taken."""
    geometry = expect(feature["geometry"], dict, "`geometry`")
    properties = expect(feature.get("properties") or {}, dict, "`properties`")
    rings, category = _outer_rings(geometry), _category(properties)
    plane = expect(geometry.get("plane") or {}, dict, "`plane`")
    if rings is None:
        shapes.leave_out("object", f"of the kind {excerpt(geometry.get('type'), 40)}, which has no box, left out")
    elif category is None or category.endswith("*"):  # QuPath itself leaves classes such as Region* and Ignore* out
        shapes.leave_out("object", "without a class, or of one that ends in * (a region of interest), left out")
    elif not any(rings):
        shapes.leave_out("outline", "without a point, left out")
    elif plane.get("z") or plane.get("t"):
        shapes.leave_out("object", "in another plane than the first (z or t), left out")
    else:
        if feature.get("nucleusGeometry"):
            shapes.leave_out("outline", "of a nucleus inside a cell, not read")
        shapes.add(category, *points_bounds([point for ring in rings for point in ring]))
        return str(properties.get("objectType", properties.get("object_type")))
    return None


def _category(properties: dict) -> str | None:
    """The class: `classification`, an object with its `name` or `names`, or a text; older files have it as `class`."""
    found = properties.get("classification", properties.get("class"))
    if isinstance(found, dict):
        names = found.get("names")
        found = found["name"] if "name" in found else ": ".join(expect(names, list, "`names`")) if names else None
    return None if found is None or found == "" else expect(found, str, "`classification`")


def _outer_rings(geometry: dict) -> list[list] | None:
    """The outlines that bound a shape; holes in it do not count. None for shapes that are no areas."""
    kind = geometry.get("type")
    if kind not in ("Polygon", "MultiPolygon"):
        return None
    coordinates = expect(geometry["coordinates"], list, "`coordinates`")
    polygons = [coordinates] if kind == "Polygon" else coordinates
    return [expect(polygon[0], list, "an outline") for polygon in polygons if expect(polygon, list, "a polygon")]

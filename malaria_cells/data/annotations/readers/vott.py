"""VoTT 2's JSON (Microsoft): one export, or one ``*-asset.json`` per image; boxes as left, top, width, height in pixels."""

from typing import Any

from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.readers import reader
from malaria_cells.data.annotations.shapes import Shapes, expect, faults_named
from malaria_cells.data.annotations.source import RawImage, Source, declared_size, numbers

FORMAT = Format(
    name="vott",
    title="VoTT",
    recognised_by="a JSON file with `asset` and `regions`, or with `assets` that have them",
    exported_by="VoTT 2 (VoTT JSON, or the assets of a project)",
    not_read="regions without a tag or with several; outlines serve as their bounding boxes",
    suffixes=(".json",),
    per_image=True,
)
_EXPECTED = (
    '{"asset": {"name": .., "size": ..}, "regions": [{"tags": [..], "boundingBox": {"left": .., "top": .., "width": .., "height": ..}}]}'
)


def recognises(source: Source) -> bool:
    """Whether the file, or the first entry of its `assets`, has an `asset` and `regions`."""
    entries = _entries(source.json)
    return bool(entries) and all(_is_asset(entry) for entry in entries[:1])


@reader(FORMAT, recognises, rank=70)
def read(source: Source) -> list[RawImage]:
    """Read every image of the file.

    Raises:
        InputError: a required key is missing or has the wrong type.
    """
    with faults_named(source, _EXPECTED):
        entries = [expect(entry, dict, "an asset") for entry in expect(_entries(source.json), list, "`assets`")]
        return [_read_image(source, entry) for entry in entries]


def _is_asset(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("asset"), dict) and isinstance(entry.get("regions"), list)


def _entries(content: Any) -> list[Any]:
    if not isinstance(content, dict):
        return []
    assets = content.get("assets")
    return list(assets.values()) if isinstance(assets, dict) else [content]


def _read_image(source: Source, entry: dict[str, Any]) -> RawImage:
    asset = expect(entry["asset"], dict, "`asset`")
    shapes = Shapes(source, expect(asset["name"], str, "`name`"))
    with faults_named(source, _EXPECTED, shapes.name):
        for region in expect(entry["regions"], list, "`regions`"):
            tags = expect(region["tags"], list, "`tags`")
            if len(tags) != 1:
                shapes.leave_out("region", "without exactly one tag, left out")
                continue
            box = expect(region["boundingBox"], dict, "`boundingBox`")
            left, top, width, height = numbers(source.path, shapes.name, *(box[k] for k in ("left", "top", "width", "height")))
            shapes.add(tags[0], left, top, left + width, top + height)
        size = expect(asset.get("size") or {}, dict, "`size`")
    return shapes.image(declared_size(size.get("width"), size.get("height")))

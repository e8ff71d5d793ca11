"""Pascal VOC: one XML file per image, with ``ImageSets/Main/*.txt`` for the parts (Everingham et al. 2010, IJCV 88(2))."""

import re
from functools import lru_cache
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

import numpy as np

from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.outlines import points_bounds
from malaria_cells.data.annotations.readers import reader
from malaria_cells.data.annotations.source import RawImage, Source, declared_size, malformed, numbers, read_text, unreadable
from malaria_cells.data.images import SUFFIXES

FORMAT = Format(
    name="voc",
    title="Pascal VOC",
    recognised_by="XML files whose root is `<annotation>`",
    exported_by="LabelImg, Roboflow, CVAT, makesense, VOC's own sets; `ImageSets/Main` names the parts",
    not_read="turned boxes, poses; outlines (LabelMe's XML) serve as their bounding boxes; `difficult` objects are ignore regions",
    suffixes=(".xml",),
    per_image=True,
)
_EXPECTED = "<annotation><filename/><object><name/><bndbox><xmin/><ymin/><xmax/><ymax/></bndbox></object></annotation>"
# Part of each list in `ImageSets`; a later list takes precedence over an earlier one.
_PARTS = {"trainval": "train", "train": "train", "val": "validation", "test": "test"}


def recognises(source: Source) -> bool:
    """Whether the file is XML with the root `<annotation>`."""
    root = source.xml
    return root is not None and root.tag == "annotation"


@reader(FORMAT, recognises, rank=110)
def read(source: Source) -> list[RawImage]:
    """Read one XML file; objects marked `difficult` are ignore regions.

    Pixel coordinates in the file are 1-based and both corners are inclusive, as in VOC's development kit.

    Raises:
        InputError: the file is not XML with the root `<annotation>`, or an object has no name.
    """
    path, root = source.path, source.xml
    if root is None or root.tag != "annotation":
        root_name = "no XML file" if root is None else f"<{root.tag}>"
        raise malformed(path, _EXPECTED, TypeError(f"found {root_name}"))
    name = (root.findtext("filename") or "").strip()
    shapes = [(o, shape) for o in root.findall("object") if (shape := _shape(source, o, name)) is not None]
    categories = [(o.findtext("name") or "").strip() for o, _ in shapes]
    if not all(categories):
        raise malformed(path, _EXPECTED, TypeError("found an object without a name"))
    difficult = [(o.findtext("difficult") or "0").strip().lower() in {"1", "true", "yes"} for o, _ in shapes]
    if any(difficult):
        reason = "marked `difficult`, taken as ignore region: neither trained on nor scored"
        source.issues.note("object", reason, name or path.name, sum(difficult))
    names = _names(path, root, name)
    return [
        RawImage(
            name=names[0],
            other_names=names[1:],
            categories=categories,
            boxes_xyxy=np.array([shape for _, shape in shapes], dtype=np.float64).reshape(-1, 4),
            ignore=np.array(difficult, dtype=bool),
            size_wh=declared_size(root.findtext("size/width"), root.findtext("size/height")),
            part=_part(path),
        )
    ]


def _shape(source: Source, element: Element, name: str) -> list[float] | None:
    """The box of an object, 0-based with exclusive right and bottom; None without a box, which is added to the issues."""
    example = name or source.path.name
    boxes = element.findall("bndbox")
    if len(boxes) > 1:
        source.issues.note("box", "after the first box of an object, left out", example, len(boxes) - 1)
    if boxes:
        left, top, right, bottom = numbers(source.path, name, *(boxes[0].findtext(key) for key in ("xmin", "ymin", "xmax", "ymax")))
        return [left - 1, top - 1, right, bottom]
    points = [numbers(source.path, name, point.findtext("x"), point.findtext("y")) for point in element.findall("polygon/pt")]
    if len(points) > 2:  # LabelMe's XML, which CVAT writes too
        source.issues.note("outline", "without a box, replaced by its bounding box", example)
        return list(points_bounds(points))
    if not (element.findtext("name") or "").strip():
        return [np.nan] * 4  # `read` then raises the more helpful error that the object has no name
    kind = next((tag for tag in ("robndbox", "polygon", "segm") if element.find(tag) is not None), "no shape")
    source.issues.note("object", f"without a `bndbox` (it has {kind}), left out", example)
    return None


def _names(path: Path, root: Element, written: str) -> tuple[str, ...]:
    """Paths that the image may have, the likeliest first.

    Many data sets were renamed after annotation, so that the XML file's stem is right and its `<filename>` is not.
    """
    folder = (root.findtext("folder") or "").strip()
    suffix = Path(written).suffix or ".jpg"
    names = [f"{folder}/{written}" if folder and written else "", written, f"{path.stem}{suffix}", (root.findtext("path") or "").strip()]
    return tuple(dict.fromkeys(name for name in names if name))


def _part(path: Path) -> str | None:
    """The part of an XML file by the lists in ``ImageSets``, which name its stem, or its folder and stem; None if none does."""
    for parent in list(path.parents)[1:4]:
        for folder in (parent / "ImageSets" / "Main", parent / "ImageSets"):
            parts = _image_sets(folder) if folder.is_dir() else {}
            if parts:
                keys = (f"{path.parent.name}/{path.stem}", path.stem)
                return next((parts[key] for key in keys if key in parts), None)
    return None


def _image_sets(folder: Path) -> dict[str, str]:
    """The part of each image by its stem; the lists are read again only if they have changed."""
    lists = {path.stem.lower(): path for path in folder.glob("*.[tT][xX][tT]") if path.stem.lower() in _PARTS}
    ordered = [lists[name] for name in _PARTS if name in lists]
    return _read_lists(tuple(_with_state(path) for path in ordered))


def _with_state(path: Path) -> tuple[Path, int, int]:
    """A file with the time of its last change and its size."""
    try:
        state = path.stat()
    except OSError as error:  # a link that leads nowhere: without the list its images would be of no part
        raise unreadable(path, error) from None
    return path, state.st_mtime_ns, state.st_size


@lru_cache(maxsize=8)
def _read_lists(lists: tuple[tuple[Path, int, int], ...]) -> dict[str, str]:
    """Parts by stem. ``trainval`` repeats the images of ``train`` and ``val``, whose lists come later and overwrite it."""
    parts: dict[str, str] = {}
    for path, _, _ in lists:
        for line in filter(None, map(str.strip, read_text(path).splitlines())):
            # The list of a class has 1, 0 or -1 after each name.
            name = re.sub(r"(\s+-1|\s{2,}[01])$", "", line).strip("\"'").replace("\\", "/")
            pure = PurePosixPath(name)
            parts[pure.with_suffix("").as_posix() if pure.suffix.lower() in SUFFIXES else name] = _PARTS[path.stem.lower()]
    return parts

"""Pascal VOC's folder: ``Annotations/*.xml``, ``JPEGImages``, ``ImageSets/Main/*.txt`` (Everingham et al. 2010, IJCV 88(2))."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from malaria_cells.annotations.form import Form
from malaria_cells.annotations.source import RawPicture, Source, declared_size, malformed, numbers, read_text
from malaria_cells.errors import InputError

FORM = Form(
    name="voc",
    title="Pascal VOC",
    recognised_by="XML files whose root is `<annotation>` with `<object>` and `<bndbox>`",
    exported_by="LabelImg, Roboflow, CVAT, VOC's own sets; `ImageSets/Main` names the parts",
    not_read="parts of objects, poses, segmentations; `difficult` objects are ignore regions",
    suffixes=(".xml",),
    per_picture=True,
)
_EXPECTED = "<annotation><filename/><object><name/><bndbox><xmin/><ymin/><xmax/><ymax/></bndbox></object></annotation>"
_PARTS = {"train": "train", "trainval": "train", "val": "validation", "test": "test"}


def recognises(source: Source) -> bool:
    """Whether the folder, or its ``Annotations``, holds XML files."""
    return source.path.is_dir() and any(_xml_folder(source.path).glob("*.xml"))


def read(source: Source) -> list[RawPicture]:
    """Read every XML file; objects marked `difficult` are ignore regions.

    Pixels count from 1 and both corners belong to the box, as in VOC's own development kit.

    Raises:
        InputError: a file that is no such XML.
    """
    folder = _xml_folder(source.path)
    parts = _image_sets(folder.parent / "ImageSets" / "Main")
    return [_read_file(path, parts.get(path.stem)) for path in sorted(folder.glob("*.xml"))]


def _xml_folder(path: Path) -> Path:
    return path / "Annotations" if (path / "Annotations").is_dir() else path


def _image_sets(folder: Path) -> dict[str, str]:
    """Part of each picture by its stem. ``trainval`` holds ``train`` and ``val`` again: the finer lists count."""
    parts: dict[str, str] = {}
    for name in ("trainval", "train", "val", "test"):
        path = folder / f"{name}.txt"
        if path.is_file():
            parts |= {line.split()[0]: _PARTS[name] for line in read_text(path).splitlines() if line.strip()}
    return parts


def _read_file(path: Path, part: str | None) -> RawPicture:
    try:
        root = ET.parse(path).getroot()  # noqa: S314  expat bounds the expansion of entities since 2.4.1
        objects = root.findall("object")
        coordinates = [[o.findtext(f"bndbox/{k}") for k in ("xmin", "ymin", "xmax", "ymax")] for o in objects]
        categories = [(o.findtext("name") or "").strip() for o in objects]
        name = (root.findtext("filename") or "").strip()
        size = declared_size(root.findtext("size/width"), root.findtext("size/height"))
        ignore = [(o.findtext("difficult") or "0").strip() == "1" for o in objects]
    except ET.ParseError as error:
        raise InputError(f"{path}: not valid XML ({error}); the file may be cut off, fetch or export it again") from error
    if root.tag != "annotation" or not all(categories):
        raise malformed(path, _EXPECTED, TypeError(f"found <{root.tag}> or an object without a name"))
    boxes = np.array([numbers(path, name, *c) for c in coordinates], dtype=np.float64).reshape(-1, 4)
    boxes[:, :2] -= 1
    return RawPicture(
        name=_picture_name(path, name),
        categories=categories,
        boxes_xyxy=boxes,
        ignore=np.array(ignore, dtype=bool),
        size_wh=size,
        part=part,
    )


def _picture_name(path: Path, written: str) -> str:
    # Many sets were renamed after they were written: the XML's own stem is what the lists go by.
    pictures = path.parent.parent / "JPEGImages"
    suffix = Path(written).suffix or ".jpg"
    for name in (written, f"{path.stem}{suffix}"):
        if name and (pictures / name).is_file():
            return f"{pictures.name}/{name}"
    return written or f"{path.stem}{suffix}"

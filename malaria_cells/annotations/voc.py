"""Pascal VOC: an XML file a picture, ``ImageSets/Main/*.txt`` for the parts (Everingham et al. 2010, IJCV 88(2))."""

from functools import lru_cache
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from malaria_cells.annotations.form import Form
from malaria_cells.annotations.source import RawPicture, Source, declared_size, malformed, numbers, read_text

FORM = Form(
    name="voc",
    title="Pascal VOC",
    recognised_by="XML files whose root is `<annotation>`",
    exported_by="LabelImg, Roboflow, CVAT, makesense, VOC's own sets; `ImageSets/Main` names the parts",
    not_read="turned boxes, parts of objects, poses, segmentations; `difficult` objects are ignore regions",
    suffixes=(".xml",),
    per_picture=True,
)
_EXPECTED = "<annotation><filename/><object><name/><bndbox><xmin/><ymin/><xmax/><ymax/></bndbox></object></annotation>"
_PARTS = {"train": "train", "trainval": "train", "val": "validation", "test": "test"}


def recognises(source: Source) -> bool:
    """Whether it is an XML file with VOC's root."""
    root = source.xml
    return root is not None and root.tag == "annotation"


def read(source: Source) -> list[RawPicture]:
    """Read one XML file; objects marked `difficult` are ignore regions.

    Pixels count from 1 and both corners belong to the box, as in VOC's own development kit.

    Raises:
        InputError: a file that is no such XML.
    """
    path, root = source.path, source.xml
    if root is None or root.tag != "annotation":
        found = "no XML file" if root is None else f"<{root.tag}>"
        raise malformed(path, _EXPECTED, TypeError(f"found {found}"))
    name = (root.findtext("filename") or "").strip()
    objects = [o for o in root.findall("object") if _has_box(source, o, name)]
    categories = [(o.findtext("name") or "").strip() for o in objects]
    if not all(categories):
        raise malformed(path, _EXPECTED, TypeError("found an object without a name"))
    coordinates = [[o.findtext(f"bndbox/{k}") for k in ("xmin", "ymin", "xmax", "ymax")] for o in objects]
    boxes = np.array([numbers(path, name, *c) for c in coordinates], dtype=np.float64).reshape(-1, 4)
    boxes[:, :2] -= 1
    names = _names(path, root, name)
    return [
        RawPicture(
            name=names[0],
            other_names=names[1:],
            categories=categories,
            boxes_xyxy=boxes,
            ignore=np.array([(o.findtext("difficult") or "0").strip() == "1" for o in objects], dtype=bool),
            size_wh=declared_size(root.findtext("size/width"), root.findtext("size/height")),
            part=_image_sets(path.parent.parent / "ImageSets" / "Main").get(path.stem),
        )
    ]


def _has_box(source: Source, element: Element, name: str) -> bool:
    if element.find("bndbox") is not None or not (element.findtext("name") or "").strip():
        return True
    kind = next((tag for tag in ("robndbox", "polygon", "segm") if element.find(tag) is not None), "no shape")
    source.oddities.note("object", f"without a `bndbox` (it has {kind}), left out", name or source.path.name)
    return False


def _names(path: Path, root: Element, written: str) -> tuple[str, ...]:
    """Paths that the picture may have, likeliest first.

    Many sets were renamed after they were written: the XML's own stem is what the lists go by.
    """
    folder = (root.findtext("folder") or "").strip()
    suffix = Path(written).suffix or ".jpg"
    names = [f"{folder}/{written}" if folder and written else "", written, f"{path.stem}{suffix}", (root.findtext("path") or "").strip()]
    return tuple(dict.fromkeys(name for name in names if name))


def _image_sets(folder: Path) -> dict[str, str]:
    """Part of each picture by its stem, read once as long as the lists stay as they are."""
    lists = [folder / f"{name}.txt" for name in ("trainval", "train", "val", "test")]
    return _read_lists(tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in lists if path.is_file()))


@lru_cache(maxsize=8)
def _read_lists(lists: tuple[tuple[Path, int, int], ...]) -> dict[str, str]:
    """Parts by stem. ``trainval`` holds ``train`` and ``val`` again: the finer lists, which come later, count."""
    parts: dict[str, str] = {}
    for path, _, _ in lists:
        parts |= {line.split()[0]: _PARTS[path.stem] for line in read_text(path).splitlines() if line.strip()}
    return parts

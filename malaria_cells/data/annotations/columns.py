"""Recognises the columns of a table by their names: image, label, box, image size and part of the data set."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# Column names as `plain` returns them, in order of preference: a path is preferred to a file name, a class name to its number.
IMAGE = (
    *("imagepath", "filepath", "imgpath", "path", "filename", "imagefilename", "imagename", "imgname", "imagefile", "file"),
    *("image", "img", "imageid", "idcode", "id"),
)
LABEL = ("labelname", "classname", "categoryname", "label", "class", "category", "target", "diagnosis", "celltype", "classlabel")
PART = ("split", "set", "part", "subset", "partition")
CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("bboxxmin", "bboxymin", "bboxxmax", "bboxymax"),
    ("minx", "miny", "maxx", "maxy"),
    ("xtl", "ytl", "xbr", "ybr"),
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
    ("left", "top", "right", "bottom"),
)
CORNER_AND_SIZE = tuple(
    (f"{prefix}{x}", f"{prefix}{y}", f"{prefix}{width}", f"{prefix}{height}")
    for prefix in ("bbox", "box", "")
    for x, y in (("left", "top"), ("x", "y"))
    for width, height in (("width", "height"), ("w", "h"))
)
OUTLINE = ("x3", "y3", "x4", "y4")  # columns of outlines with four corners, which are not read
CENTRE_AND_SIZE = tuple(
    (x, y, *size)
    for x, y in (("xcenter", "ycenter"), ("xcentre", "ycentre"), ("centerx", "centery"), ("centrex", "centrey"), ("cx", "cy"), ("xc", "yc"))
    for size in (("width", "height"), ("w", "h"), ("bboxwidth", "bboxheight"), ("boxwidth", "boxheight"))
)
SIZES = (("imagewidth", "imageheight"), ("imgwidth", "imgheight"), ("imagew", "imageh"), ("imgw", "imgh"), ("width", "height"))
# Columns with whole boxes or outlines in one field, which are not read; a table that has one is not a table of whole images.
IN_ONE_FIELD = {
    "bbox",
    "box",
    "bndbox",
    "boundingbox",
    "bboxes",
    "boxes",
    "predictionstring",
    "encodedpixels",
    "segmentation",
    "polygon",
    "rle",
}
_AMBIGUOUS = {"width", "height", "w", "h", "left", "right", "top", "bottom"}  # columns that alone are no evidence of boxes
OF_BOXES = {name for scheme in (*CORNERS, *CORNER_AND_SIZE, *CENTRE_AND_SIZE) for name in scheme} - _AMBIGUOUS | IN_ONE_FIELD | set(OUTLINE)
_MEASUREMENTS = ("centroidx", "centroidy", "objectid", "objecttype")  # columns of measurements of single cells, as from QuPath
_KNOWN = OF_BOXES | _AMBIGUOUS | set(IMAGE) | set(LABEL) | set(PART) | {name for pair in SIZES for name in pair}
MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none", "-"}


def plain(column: str) -> str:
    """A column's name in lower case, without spaces and punctuation.

    >>> plain("X_min"), plain(" Class Name")
    ('xmin', 'classname')
    """
    return re.sub(r"[^a-z0-9]", "", column.lower())


@dataclass(frozen=True)
class Columns:
    """Indices of a table's columns by their meaning; None for a meaning that no column has.

    Attributes:
        names: names of all columns as written.
        image: column of the image's path.
        label: column of the class.
        box: the four columns of a box.
        kind: meaning of `box`: ``corners``, ``corner and size`` or ``centre and size``.
        size: columns of the image's width and height.
        part: column of the part: train, validation or test.
        incomplete: names of box columns that do not make up a whole box.
        duplicates: names of columns that have the same meaning as an earlier column of the same name.
    """

    names: list[str]
    image: int | None = None
    label: int | None = None
    box: tuple[int, ...] | None = None
    kind: str = ""
    size: tuple[int, ...] | None = None
    part: int | None = None
    incomplete: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)

    @property
    def unknown(self) -> list[int]:
        """Indices of the columns that have a name but none of these meanings."""
        used = {self.image, self.label, self.part, *(self.box or ()), *(self.size or ())}
        return [i for i, name in enumerate(self.names) if i not in used and name]


def columns_of(header: list[str], first: list[str], looks_like_image: Iterable[bool]) -> Columns:
    """Recognise the columns of a header.

    Args:
        header: names of the columns.
        first: fields of the first row below the header.
        looks_like_image: whether each field of `first` could be an image's file name, which decides between several possible columns.
    """
    names = [name.strip() for name in header]
    index = {name: i for i, name in reversed(list(enumerate(map(plain, names))))}
    candidates = [index[name] for name in IMAGE if name in index]
    images = [i for i, looks in zip(range(len(first)), looks_like_image, strict=False) if looks]
    box, kind = _box(index)
    size = next(((index[w], index[h]) for w, h in SIZES if w in index and h in index), None)
    return Columns(
        names,
        image=next((i for i in candidates if i in images), next(iter(candidates), None)),
        label=next((index[name] for name in LABEL if name in index), None),
        box=box,
        kind=kind,
        size=size if size and not set(size) & set(box or ()) else None,
        part=next((index[name] for name in PART if name in index), None),
        incomplete=[] if box else [name for name in names if plain(name) in OF_BOXES or plain(name).startswith(_MEASUREMENTS)],
        duplicates=[name for i, name in enumerate(names) if plain(name) in _KNOWN and index[plain(name)] != i],
    )


def _box(index: dict[str, int]) -> tuple[tuple[int, ...] | None, str]:
    """The columns of a box and their kind; `index` has each column by its plain name."""
    if any(name in index for name in OUTLINE) or {"x0", "x1", "x2"} <= index.keys():
        return None, ""
    for schemes, kind in ((CORNERS, "corners"), (CENTRE_AND_SIZE, "centre and size"), (CORNER_AND_SIZE, "corner and size")):
        for scheme in schemes:
            if all(name in index for name in scheme):
                return tuple(index[name] for name in scheme), kind
    return None, ""

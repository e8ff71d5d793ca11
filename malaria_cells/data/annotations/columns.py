"""Finds out what the columns of a table mean: the image, the label, the box, the image's size and its part."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# Plain names (see `plain`), the surest first: a path tells files of one name apart, the name of a class says more than its number.
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
OUTLINE = ("x3", "y3", "x4", "y4")  # of four corners, of which two are not the box
CENTRE_AND_SIZE = tuple(
    (x, y, *size)
    for x, y in (("xcenter", "ycenter"), ("xcentre", "ycentre"), ("centerx", "centery"), ("centrex", "centrey"), ("cx", "cy"), ("xc", "yc"))
    for size in (("width", "height"), ("w", "h"), ("bboxwidth", "bboxheight"), ("boxwidth", "boxheight"))
)
SIZES = (("imagewidth", "imageheight"), ("imgwidth", "imgheight"), ("imagew", "imageh"), ("imgw", "imgh"), ("width", "height"))
# Columns that hold boxes or outlines in one field, or rows of them; they are not read, and a table with them is none of whole images.
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
_ANY_SIZE = {"width", "height", "w", "h", "left", "right", "top", "bottom"}  # say nothing of a box when they stand alone
OF_BOXES = {name for scheme in (*CORNERS, *CORNER_AND_SIZE, *CENTRE_AND_SIZE) for name in scheme} - _ANY_SIZE | IN_ONE_FIELD | set(OUTLINE)
_OF_OBJECTS = ("centroidx", "centroidy", "objectid", "objecttype")  # measurements of single cells, QuPath's for instance
_MEANT = OF_BOXES | _ANY_SIZE | set(IMAGE) | set(LABEL) | set(PART) | {name for pair in SIZES for name in pair}
MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none", "-"}


def plain(column: str) -> str:
    """A column's name without what people write differently.

    >>> plain("X_min"), plain(" Class Name")
    ('xmin', 'classname')
    """
    return re.sub(r"[^a-z0-9]", "", column.lower())


@dataclass(frozen=True)
class Columns:
    """Where a table has what; numbers of columns, None where there is none.

    Attributes:
        names: all columns as written.
        image: the image's path.
        label: the class.
        box: four columns of a box.
        kind: ``corners``, ``corner and size`` or ``centre and size``.
        size: width and height of the image.
        part: train, validation or test.
        left: columns of boxes that make no whole box.
        twice: columns whose meaning an earlier one of the same name has already.
    """

    names: list[str]
    image: int | None = None
    label: int | None = None
    box: tuple[int, ...] | None = None
    kind: str = ""
    size: tuple[int, ...] | None = None
    part: int | None = None
    left: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)

    @property
    def others(self) -> list[int]:
        """Columns with a name that mean none of these."""
        used = {self.image, self.label, self.part, *(self.box or ()), *(self.size or ())}
        return [i for i, name in enumerate(self.names) if i not in used and name]


def columns_of(header: list[str], first: list[str], looks_like_image: Iterable[bool]) -> Columns:
    """Read a header.

    Args:
        header: names of the columns.
        first: fields of the first row below it.
        looks_like_image: whether each of these could be the name of an image: of several columns that may name it, such a one does.
    """
    names = [name.strip() for name in header]
    at = {name: i for i, name in reversed(list(enumerate(map(plain, names))))}
    may_name = [at[name] for name in IMAGE if name in at]
    images = [i for i, looks in zip(range(len(first)), looks_like_image, strict=False) if looks]
    box, kind = _box(at)
    size = next(((at[w], at[h]) for w, h in SIZES if w in at and h in at), None)
    return Columns(
        names,
        image=next((i for i in may_name if i in images), next(iter(may_name), None)),
        label=next((at[name] for name in LABEL if name in at), None),
        box=box,
        kind=kind,
        size=size if size and not set(size) & set(box or ()) else None,
        part=next((at[name] for name in PART if name in at), None),
        left=[] if box else [name for name in names if plain(name) in OF_BOXES or plain(name).startswith(_OF_OBJECTS)],
        twice=[name for i, name in enumerate(names) if plain(name) in _MEANT and at[plain(name)] != i],
    )


def _box(at: dict[str, int]) -> tuple[tuple[int, ...] | None, str]:
    if any(name in at for name in OUTLINE) or {"x0", "x1", "x2"} <= at.keys():
        return None, ""
    for schemes, kind in ((CORNERS, "corners"), (CENTRE_AND_SIZE, "centre and size"), (CORNER_AND_SIZE, "corner and size")):
        for scheme in schemes:
            if all(name in at for name in scheme):
                return tuple(at[name] for name in scheme), kind
    return None, ""

"""One page of HTML that needs nothing beside it: images are inlined, so it opens offline and can be mailed and printed."""

import base64
import importlib.metadata
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

from malaria_cells.base import files

NAME = "report.html"
QUALITY = 82  # of inlined JPEGs
BADGES = {"unusual": "doubt", "unlike anything learned": "lost"}  # texts and their style in the template
TYPES = {".svg": "svg+xml", ".png": "png", ".jpg": "jpeg"}


@dataclass(frozen=True)
class Headline:
    """A figure with its meaning in a sentence."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Inlined:
    """An image within the page.

    Attributes:
        source: its data as a URL.
        alt: what it shows, for those who cannot see it.
        caption: below it, or empty.
    """

    source: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page: a title, a sentence, a table, images; each may be missing but the title.

    A cell of a table that is one of `BADGES` is shown as a badge of its colour.
    """

    title: str
    text: str = ""
    images: tuple[Inlined, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    @property
    def words(self) -> frozenset[int]:
        """Indices of the further columns that hold words, which are set from the left, as the first is, and numbers from the right."""
        cells = (tuple(filter(None, column)) for column in zip(*self.rows, strict=True))
        return frozenset(i for i, column in enumerate(cells) if i > 0 and column and all(cell[0].isalpha() for cell in column))


@dataclass
class Document:
    """What is on the page, from top to bottom; see the template ``report.html.jinja``."""

    title: str
    subtitle: str
    command: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    headline: list[Headline] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    warning: str = ""

    def write(self, path: Path) -> None:
        """Write the page, whole or not at all."""
        environment = jinja2.Environment(loader=jinja2.PackageLoader("malaria_cells", "results"), autoescape=True)
        template = environment.get_template(f"{NAME}.jinja")
        version = importlib.metadata.version("malaria-cells")
        values = {name: getattr(self, name) for name in ("title", "subtitle", "command", "facts", "headline", "sections", "warning")}
        page = template.render(version=version, badges=BADGES, **values)
        # A name that is not UTF-8 comes with \\x.. for its strange bytes, as in the tables.
        files.write_text(path, page.encode("utf-8", "backslashreplace").decode("utf-8"))


def plot(draw: Callable[[Path], None], alt: str, caption: str = "", suffix: str = ".svg") -> Inlined:
    """Inline what a function draws into the file it is given."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"plot{suffix}"
        draw(path)
        content = path.read_bytes()
    return Inlined(_url(content, TYPES[suffix]), alt, caption)


def inlined_image(pixels: np.ndarray, width: int, alt: str, caption: str = "") -> Inlined:
    """Inline an image, uint8 RGB (H, W, 3), as a JPEG at most `width` pixels wide."""
    image = Image.fromarray(pixels)
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=QUALITY)
    return Inlined(_url(buffer.getvalue(), "jpeg"), alt, caption)


def _url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"

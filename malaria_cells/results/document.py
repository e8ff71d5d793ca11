"""A self-contained HTML page: images are inlined, so it opens offline and can be mailed and printed."""

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
QUALITY = 82  # JPEG quality of inlined images
BADGES = {"unusual": "doubt", "unlike anything learned": "lost"}  # CSS class of a badge by the text of a table cell
TYPES = {".svg": "svg+xml", ".png": "png", ".jpg": "jpeg"}  # MIME subtypes by file suffix


@dataclass(frozen=True)
class Headline:
    """A key figure and a sentence that explains it."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Inlined:
    """An image in the page.

    Attributes:
        source: the image as a data URL.
        alt: alternative text.
        caption: caption below the image, or empty.
    """

    source: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A section of the page: a title and, each optional, a text, a table and images.

    A table cell whose text is one of `BADGES` is shown as a coloured badge.
    """

    title: str
    text: str = ""
    images: tuple[Inlined, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    @property
    def words(self) -> frozenset[int]:
        """Indices of the columns after the first that hold words; they are aligned left, and columns of numbers right."""
        cells = (tuple(filter(None, column)) for column in zip(*self.rows, strict=True))
        return frozenset(i for i, column in enumerate(cells) if i > 0 and column and all(cell[0].isalpha() for cell in column))


@dataclass
class Document:
    """The content of the page from top to bottom; the template is ``report.html.jinja``."""

    title: str
    subtitle: str
    command: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    headline: list[Headline] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    warning: str = ""

    def write(self, path: Path) -> None:
        """Write the page; an interrupted call leaves no incomplete file."""
        environment = jinja2.Environment(loader=jinja2.PackageLoader("malaria_cells", "results"), autoescape=True)
        template = environment.get_template(f"{NAME}.jinja")
        version = importlib.metadata.version("malaria-cells")
        values = {name: getattr(self, name) for name in ("title", "subtitle", "command", "facts", "headline", "sections", "warning")}
        page = template.render(version=version, badges=BADGES, **values)
        # Bytes of a name that are not UTF-8 are written as \\x.., as in the tables.
        files.write_text(path, page.encode("utf-8", "backslashreplace").decode("utf-8"))


def plot(draw: Callable[[Path], None], alt: str, caption: str = "", suffix: str = ".svg") -> Inlined:
    """Let a function draw into a temporary file, and inline that file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"plot{suffix}"
        draw(path)
        content = path.read_bytes()
    return Inlined(_url(content, TYPES[suffix]), alt, caption)


def inlined_image(pixels: np.ndarray, width: int, alt: str, caption: str = "") -> Inlined:
    """Inline an image, uint8 RGB (H, W, 3), as a JPEG of at most `width` pixels width."""
    image = Image.fromarray(pixels)
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=QUALITY)
    return Inlined(_url(buffer.getvalue(), "jpeg"), alt, caption)


def _url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"

"""YOLO's label texts: which text belongs to which image, and what its lines say."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.parts import is_plain, part_of_path
from malaria_cells.data.annotations.source import is_number, read_text
from malaria_cells.data.images import SUFFIXES

# Texts that lie in such data sets and are no labels.
_OTHER_TEXTS = (
    "classes",
    "predefined_classes",
    "labels",
    "class_names",
    "notes",
    "readme",
    "license",
    "licence",
    "train",
    "val",
    "valid",
    "test",
)
_FAR_OUTSIDE = 1.5  # fractions of the image's side: a centre or side beyond it is in pixels or percent


def label_texts(files: Iterable[Path]) -> list[Path]:
    """The texts that may be labels: a text that is called otherwise is one where it lies in the place of an image's."""
    return [path for path in files if path.suffix.lower() == ".txt"]


def is_other(text: Path) -> bool:
    """Whether a text's name is that of a list or a note, and not of a label."""
    stem = text.stem.lower()
    return stem in _OTHER_TEXTS or stem.startswith("readme")


def texts_of(images: list[Path], texts: list[Path], root: Path) -> dict[Path, Path]:
    """Find the text of each image: ``labels`` in the place of ``images``, or beside it, as ``a.txt`` or ``a.jpg.txt``.

    The case of letters may differ. Where that finds none, the text may lie in any folder, if the folders that say something (``slide1``,
    but not ``images`` or ``labels``), the part and the stem are those of this image alone.

    Returns:
        AnnotatedImage: text; images without a text are not in it.
    """
    by_place: dict[str, list[Path]] = defaultdict(list)
    for text in texts:
        by_place[text.as_posix().casefold()].append(text)
    found: dict[Path, Path] = {}
    for image in images:
        fitting = (by_place.get(place.as_posix().casefold(), []) for place in _places(image))
        own = next((candidates for candidates in fitting if candidates), [])
        if own:
            found[image] = next((t for t in own if t.stem in {image.stem, image.name}), own[0])
    taken = set(found.values())
    free_texts = _by_meaning([t for t in texts if t not in taken and not is_other(t)], root)
    free_images = _by_meaning([p for p in images if p not in found], root)
    for meaning, alike in free_images.items():
        if len(alike) == 1 and len(free_texts.get(meaning, ())) == 1:
            found[alike[0]] = free_texts[meaning][0]
    return found


def _places(image: Path) -> list[Path]:
    folders = []
    parts = list(image.parent.parts)
    for i in range(len(parts) - 1, -1, -1):
        if parts[i].casefold() == "images":
            folders.append(Path(*parts[:i], "labels", *parts[i + 1 :]))
            break
    folders.append(image.parent)
    return [folder / f"{name}.txt" for folder in folders for name in (image.stem, image.name)]


def _by_meaning(paths: list[Path], root: Path) -> dict[tuple, list[Path]]:
    alike: dict[tuple, list[Path]] = defaultdict(list)
    shared = _shared_folders(paths, root)
    for path in paths:
        folders = path.relative_to(root).parts[:-1]
        stem = path.stem
        if path.suffix.lower() == ".txt" and PurePosixPath(stem).suffix.lower() in SUFFIXES:  # a.jpg.txt
            stem = PurePosixPath(stem).stem
        said = tuple(f.casefold() for f in folders[shared:] if not is_plain(f))
        alike[part_of_path(folders), said, stem.casefold()].append(path)
    return alike


def _shared_folders(paths: list[Path], root: Path) -> int:
    """How many folders, from the root on, all paths have in common: they tell none of them apart."""
    folders = [path.relative_to(root).parts[:-1] for path in paths]
    return next((n for n, level in enumerate(zip(*folders, strict=False)) if len(set(level)) > 1), min(map(len, folders), default=0))


def looks_like_labels(path: Path) -> bool:
    """Whether a text holds nothing but lines of a class's number and four numbers or more, and at least one of them."""
    try:
        lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
        return bool(lines) and all(len(line) >= 5 and float(line[0]).is_integer() and all(map(is_number, line)) for line in lines)
    except (InputError, ValueError, OverflowError):
        return False


def read_rows(path: Path, key_point_values: int = 0) -> list[tuple[int, list[float]]]:
    """Read a label text.

    Args:
        path: of the text.
        key_point_values: numbers that follow a box where the set has key points (`kpt_shape` multiplied out).

    Returns:
        Class number and box of each line: left, top, right, bottom in fractions of the image's sides.

    Raises:
        InputError: a line that is not ``class x_centre y_centre width height`` or an outline, in fractions of 1.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        values = line.split()
        if not values:
            continue
        if len(values) < 5 or not all(map(is_number, values)) or not float(values[0]).is_integer():
            raise InputError(f"{path}: line {number} is {excerpt(line)}; expected: class x_centre y_centre width height, in fractions of 1")
        class_id, *rest = map(float, values)
        if not _is_box(rest, key_point_values) and any(abs(value) > _FAR_OUTSIDE for value in rest):
            raise InputError(
                f"{path}: line {number} is {excerpt(line)}, neither a box nor an outline in fractions of 1; key points need `kpt_shape` in "
                "data.yaml, and numbers of tracks have to be left out"
            )
        if len(rest) == 5 and not 0 <= rest[4] <= 1:
            raise InputError(
                f"{path}: line {number} is {excerpt(line)}: its sixth number is no score from 0 to 1 (an angle, say); "
                "export boxes, or outlines of the turned ones"
            )
        if any(abs(value) > _FAR_OUTSIDE for value in rest[:4]):
            raise InputError(
                f"{path}: line {number} is {excerpt(line)}, whose numbers look like pixels or percent; "
                "expected fractions of the image's width and height, 0 to 1: divide by them and write the texts again"
            )
        rows.append((int(class_id), _bounds(rest, key_point_values)))
    return rows


def _is_box(values: list[float], key_point_values: int) -> bool:
    return len(values) <= 5 or (key_point_values > 0 and len(values) in {4 + key_point_values, 5 + key_point_values})


def _bounds(values: list[float], key_point_values: int) -> list[float]:
    """Corners of a box with or without a score or key points, or of an outline."""
    if _is_box(values, key_point_values):
        x, y, width, height = values[:4]
        return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    xs, ys = values[0 : len(values) // 2 * 2 : 2], values[1::2]
    return [min(xs), min(ys), max(xs), max(ys)]

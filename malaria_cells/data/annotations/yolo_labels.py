"""YOLO's label files: matching them with images, and parsing their lines."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.parts import is_plain, part_of_path
from malaria_cells.data.annotations.source import is_number, read_text
from malaria_cells.data.images import SUFFIXES

# Stems of text files in YOLO data sets that are not label files.
_OTHER_STEMS = (
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
_MAX_FRACTION = 1.5  # fraction of the image's side; larger values are in pixels or percent


def text_files(files: Iterable[Path]) -> list[Path]:
    """The text files, each of which may be a label file: even a ``notes.txt`` is one if there is an image ``notes.jpg``."""
    return [path for path in files if path.suffix.lower() == ".txt"]


def is_other(file: Path) -> bool:
    """Whether a text file has the name of a list or a note, not of a label file."""
    stem = file.stem.lower()
    return stem in _OTHER_STEMS or stem.startswith("readme")


def label_file_of_images(images: list[Path], texts: list[Path], root: Path) -> dict[Path, Path]:
    """Find the label file of each image: ``a.txt`` or ``a.jpg.txt``, in ``labels`` instead of ``images``, or beside the image.

    The case of letters may differ. If there is no such file, the label file may be in any folder, provided that it and the image are
    the only ones with the same stem, part and specific folders (``slide1``, but not ``images`` or ``labels``).

    Args:
        images: paths of the images.
        texts: paths of the text files.
        root: folder of the data set.

    Returns:
        The label file of each image; images without a label file are left out.
    """
    by_path: dict[str, list[Path]] = defaultdict(list)
    for text in texts:
        by_path[text.as_posix().casefold()].append(text)
    labels_of: dict[Path, Path] = {}
    for image in images:
        candidates = next((files for path in _usual_paths(image) if (files := by_path.get(path.as_posix().casefold(), []))), [])
        if candidates:
            labels_of[image] = next((file for file in candidates if file.stem in {image.stem, image.name}), candidates[0])
    matched = set(labels_of.values())
    other_texts = _by_identity([text for text in texts if text not in matched and not is_other(text)], root)
    other_images = _by_identity([image for image in images if image not in labels_of], root)
    for identity, same in other_images.items():
        if len(same) == 1 and len(other_texts.get(identity, ())) == 1:
            labels_of[same[0]] = other_texts[identity][0]
    return labels_of


def _usual_paths(image: Path) -> list[Path]:
    """Paths at which YOLO tools expect the label file of an image."""
    folders = []
    parts = list(image.parent.parts)
    for i in range(len(parts) - 1, -1, -1):
        if parts[i].casefold() == "images":
            folders.append(Path(*parts[:i], "labels", *parts[i + 1 :]))
            break
    folders.append(image.parent)
    return [folder / f"{name}.txt" for folder in folders for name in (image.stem, image.name)]


def _by_identity(paths: list[Path], root: Path) -> dict[tuple[Any, ...], list[Path]]:
    """Paths by their part, their specific folders and their stem."""
    by_identity: dict[tuple[Any, ...], list[Path]] = defaultdict(list)
    n_shared = _n_shared_folders(paths, root)
    for path in paths:
        folders = path.relative_to(root).parts[:-1]
        stem = path.stem
        if path.suffix.lower() == ".txt" and PurePosixPath(stem).suffix.lower() in SUFFIXES:  # a.jpg.txt
            stem = PurePosixPath(stem).stem
        specific = tuple(folder.casefold() for folder in folders[n_shared:] if not is_plain(folder))
        by_identity[part_of_path(folders), specific, stem.casefold()].append(path)
    return by_identity


def _n_shared_folders(paths: list[Path], root: Path) -> int:
    """Number of folders below the root that all paths have in common."""
    folders = [path.relative_to(root).parts[:-1] for path in paths]
    return next((n for n, level in enumerate(zip(*folders, strict=False)) if len(set(level)) > 1), min(map(len, folders), default=0))


def looks_like_labels(path: Path) -> bool:
    """Whether a text file has one or more lines, each of an integer class number and four or more numbers."""
    try:
        lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
        return bool(lines) and all(len(line) >= 5 and float(line[0]).is_integer() and all(map(is_number, line)) for line in lines)
    except (InputError, ValueError, OverflowError):
        return False


def read_rows(path: Path, key_point_values: int = 0) -> list[tuple[int, list[float]]]:
    """Read a label file.

    Args:
        path: path of the label file.
        key_point_values: number of values that follow a box for its key points; see `Classes.key_point_values`.

    Returns:
        Class number and box of each line: left, top, right and bottom in fractions of the image's width and height.

    Raises:
        InputError: a line is neither ``class x_centre y_centre width height`` nor an outline, in fractions of 1.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        values = line.split()
        if not values:
            continue
        if len(values) < 5 or not all(map(is_number, values)) or not float(values[0]).is_integer():
            raise InputError(f"{path}: line {number} is {excerpt(line)}; expected: class x_centre y_centre width height, in fractions of 1")
        class_id, *rest = map(float, values)
        if not _is_box(rest, key_point_values) and any(abs(value) > _MAX_FRACTION for value in rest):
            raise InputError(
                f"{path}: line {number} is {excerpt(line)}, neither a box nor an outline in fractions of 1; key points need `kpt_shape` in "
                "data.yaml, and track ids must be removed"
            )
        if len(rest) == 5 and not 0 <= rest[4] <= 1:
            raise InputError(
                f"{path}: line {number} is {excerpt(line)}: its sixth number is not a score from 0 to 1 (is it an angle?); "
                "export boxes, or outlines of rotated boxes"
            )
        if any(abs(value) > _MAX_FRACTION for value in rest[:4]):
            raise InputError(
                f"{path}: line {number} is {excerpt(line)}, whose numbers look like pixels or percent; "
                "expected fractions of the image's width and height, from 0 to 1: divide the numbers by them"
            )
        rows.append((int(class_id), _bounds(rest, key_point_values)))
    return rows


def _is_box(values: list[float], key_point_values: int) -> bool:
    return len(values) <= 5 or (key_point_values > 0 and len(values) in {4 + key_point_values, 5 + key_point_values})


def _bounds(values: list[float], key_point_values: int) -> list[float]:
    """Left, top, right and bottom of a line's values: a box with or without a score and key points, or an outline."""
    if _is_box(values, key_point_values):
        x, y, width, height = values[:4]
        return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    xs, ys = values[0 : len(values) // 2 * 2 : 2], values[1::2]
    return [min(xs), min(ys), max(xs), max(ys)]

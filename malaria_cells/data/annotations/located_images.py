"""Finds the image file of every annotated image, and reads its size."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt, shortened
from malaria_cells.data.annotations.cleaning import AnnotationIssues
from malaria_cells.data.annotations.declared import compare_sizes
from malaria_cells.data.annotations.locate import ImageFinder, ImageFolder
from malaria_cells.data.annotations.lookup import Origin
from malaria_cells.data.annotations.parts import ANNOTATION_FOLDERS
from malaria_cells.data.annotations.source import RawImage, Source
from malaria_cells.data.annotations.written_paths import inner_path
from malaria_cells.data.images import UNREADABLE_SUFFIXES, image_size

MAX_ERRORS = 10  # unreadable images that one message names

Read = tuple[Source, RawImage]  # an image as read, with its annotation file
Found = tuple[Source, RawImage, Path]  # with its image file too


@dataclass(frozen=True)
class LocatedImage:
    """An image as read, with its annotation file, its image file, and width and height in pixels."""

    source: Source
    raw: RawImage
    file: Path
    size_wh: tuple[int, int]


def image_folder(path: Path, root: Path | None, pairs: list[Read]) -> ImageFolder:
    """Return the folder of the images: see `root` of `load_annotations`."""
    folder = ImageFolder(root if root is not None else path if path.is_dir() else path.parent)
    if root is not None or folder.root.resolve().name.lower() not in ANNOTATION_FOLDERS:
        return folder
    if folder.images:
        return folder
    parent = ImageFolder(folder.root.resolve().parent if folder.root.name in {"", ".."} else folder.root.parent)
    return parent if any(_find_image(parent, raw, None) is not None for _, raw in pairs) else folder


def _find_image(folder: ImageFinder, raw: RawImage, origin: Origin | None) -> Path | None:
    """The file of an image by the first of its names that leads to one, or None."""
    return next((file for name in (raw.name, *raw.other_names) if (file := folder.find(name, origin)) is not None), None)


def find_images(pairs: list[Read], folder: ImageFinder, path: Path, issues: AnnotationIssues, may_miss: bool) -> list[Found]:
    """Find the image files; missing ones are left out.

    Args:
        pairs: the images as read.
        folder: where they are looked up.
        path: the annotation, for error messages.
        issues: missing images, and those found by another suffix, are added to it.
        may_miss: whether missing images are left out silently; otherwise they are added to the issues.

    Raises:
        InputError: there is no such folder, several files match a name, or more than half of the images are missing and not `may_miss`.
    """
    if not folder.root.is_dir():
        raise InputError(f"{folder.root}: no such folder of images")
    origin_of = _origins([source for source, _ in pairs], folder)
    candidates = [(source, raw, _find_image(folder, raw, origin_of[source.path])) for source, raw in pairs]
    missing = [raw.name for _, raw, file in candidates if file is None]
    if len(missing) > len(pairs) / 2 and not may_miss:
        raise InputError(
            f"{path}: {len(missing)} of {len(pairs)} images are not in {folder.root}; first: {shortened(missing[0])}; "
            "name the folder of the images (`train_images` in a config, --images of explore, convert and gallery)"
        )
    if missing and not may_miss:
        issues.note("image", f"missing in {folder.root}, left out", missing[0], len(missing))
    found = [(source, raw, file) for source, raw, file in candidates if file is not None]
    for _, raw, file in found:
        suffix = PurePosixPath(raw.name).suffix.lower()
        if (
            suffix
            and suffix != file.suffix.lower()
            and not raw.other_names
            and file.name != raw.name
            and file.stem != PurePosixPath(raw.name).name
        ):
            issues.note("image", "found with another file extension", f"{raw.name}, which is {file.name}")
    return found


def _origins(sources: list[Source], folder: ImageFinder) -> dict[Path, Origin | None]:
    """The `Origin` of each annotation file by its path; None for files outside of the folder of the images."""
    by_path = {source.path: source for source in sources}
    homes = {path: path if path.is_dir() else path.parent for path in by_path}
    if not isinstance(folder, ImageFolder):
        return {path: Origin(home) for path, home in homes.items()}
    with_images, several = {image.parent for image in folder.images}, len(set(homes.values())) > 1
    return {
        path: Origin(home, by_path[path].part, several or home in with_images) if home.is_relative_to(folder.root) else None
        for path, home in homes.items()
    }


def measured(found: list[Found], issues: AnnotationIssues) -> list[LocatedImage]:
    """Read the sizes of the image files, and compare them with the declared ones (see `compare_sizes`).

    Raises:
        InputError: some images cannot be read; the message lists the first `MAX_ERRORS` of them.
    """
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(_size_or_error, [file for _, _, file in found]))
    errors = [str(size) for size in sizes if isinstance(size, InputError)]
    if errors:
        more = f"\nand {len(errors) - MAX_ERRORS} more images" if len(errors) > MAX_ERRORS else ""
        raise InputError("\n".join(errors[:MAX_ERRORS]) + more)
    return [
        LocatedImage(source, compare_sizes(raw, file, size, issues), file, size)
        for (source, raw, file), size in zip(found, sizes, strict=True)
        if not isinstance(size, InputError)
    ]


def _size_or_error(file: Path) -> tuple[int, int] | InputError:
    try:
        return image_size(file)
    except InputError as error:
        return error


def declared(pairs: list[Read], folder: ImageFinder, path: Path) -> list[LocatedImage]:
    """Return the images with their paths and sizes as declared; the image files need not exist.

    Raises:
        InputError: a name leads out of the folder, or an image has no declared size.
    """
    images = []
    for source, raw in pairs:
        inner = inner_path(raw.name)
        if inner is None:
            raise InputError(f"{source.path}: image {excerpt(raw.name)} leads out of {folder.root}; expected a path below it")
        if raw.size_wh is None:
            raise InputError(f"{path}: image '{raw.name}' has no declared size; the image files are needed")
        images.append(LocatedImage(source, raw, folder.root / inner, raw.size_wh))
    return images


def note_unlisted(folder: ImageFinder, files: list[Path], lists_images: bool, issues: AnnotationIssues) -> None:
    """Add image files in unsupported formats, and images that the annotation does not list, to the issues.

    Args:
        folder: folder of the images; nothing is added if it is a list of images.
        files: image files of the annotation.
        lists_images: whether the annotation lists all images that belong to it.
        issues: they are added to it.
    """
    if not isinstance(folder, ImageFolder):
        return
    for path in folder.files:
        image_format = UNREADABLE_SUFFIXES.get(path.suffix.lower())
        if image_format is not None:
            key = path.relative_to(folder.root).as_posix()
            issues.note("file", f"in an unsupported format ({image_format}), left out; export it as PNG or TIFF", key)
    if lists_images:
        listed = set(files)
        for path in folder.images:
            if path not in listed:
                issues.note("image", "that the annotation does not list, left out", path.relative_to(folder.root).as_posix())

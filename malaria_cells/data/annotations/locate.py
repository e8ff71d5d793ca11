"""Finds the image files that an annotation names, whatever machine, slashes, case and Unicode normal form it was written with."""

from functools import cached_property
from pathlib import Path
from typing import Protocol

from malaria_cells.data.annotations.file_index import FileIndex
from malaria_cells.data.annotations.lookup import Origin, find_file
from malaria_cells.data.images import is_image, walk_files


class ImageFinder(Protocol):
    """Looks images up by the path that an annotation gives."""

    root: Path

    def find(self, name: str, origin: Origin | None = None) -> Path | None:
        """Return the image file below `root`, or None; `origin` is the place of the annotation file."""


class ImageFolder:
    """The folder of a data set, in which images are looked up by the path that an annotation gives.

    A path is tried relative to the annotation file, to the root and to ``images/``, and is then compared with the last components of all
    image paths. The longest matching ending decides. Components may stay unmatched if the path leads out of the folder (an absolute path
    of another machine, or ``../``), or if their names say nothing, as ``images`` does. An image of another part of the data set, or of
    a folder that contradicts the name or the annotation file, never matches, since its boxes would be those of another slide. If several
    images match, the one nearest to the annotation file is taken. Images outside of the folder are never found.
    """

    def __init__(self, root: Path):
        self.root = root

    def find(self, name: str, origin: Origin | None = None) -> Path | None:
        """Return the image file, or None.

        Raises:
            InputError: several images match equally well.
        """
        places = [*([origin.folder] if origin is not None else []), self.root, self.root / "images"]
        return find_file(name, self._index, places, origin)

    @cached_property
    def files(self) -> list[Path]:
        """All files in the folder and below, sorted."""
        return walk_files(self.root)

    @cached_property
    def images(self) -> list[Path]:
        """The images among `files`."""
        return [path for path in self.files if is_image(path)]

    @cached_property
    def _index(self) -> FileIndex:
        return FileIndex(self.images, self.root, lambda path: path.relative_to(self.root).parts[:-1])


class ImageList:
    """A list of images, in which the paths of an annotation are looked up; the annotation's other images are not found.

    Args:
        root: folder that the keys are relative to.
        keys: keys of the images.
        annotation: the annotation file or folder; paths relative to it are tried first.
    """

    def __init__(self, root: Path, keys: list[str], annotation: Path):
        self.root = root
        self._annotation_folder = annotation.resolve() if annotation.is_dir() else annotation.resolve().parent
        self._by_path = {(root / key).resolve(): root / key for key in keys}
        # All folders are compared, since the one above the images may be named after a slide.
        self._index = FileIndex(self._by_path, root, lambda path: path.parts[1:-1])

    def find(self, name: str, origin: Origin | None = None) -> Path | None:
        """Return the image file, or None.

        Raises:
            InputError: several images match equally well.
        """
        folders = [*([origin.folder.resolve()] if origin is not None else []), self._annotation_folder]
        path = find_file(name, self._index, [*folders, *(folder / "images" for folder in folders)], None)
        return None if path is None else self._by_path[path]

"""Finds the files that an annotation names: whatever the slashes, the case, the Unicode normal form and the machine it was written on."""

from functools import cached_property
from pathlib import Path
from typing import Protocol

from malaria_cells.data.annotations.file_index import FileIndex, Origin, found
from malaria_cells.data.images import is_image, walk_files


class ImageFinder(Protocol):
    """Looks images up by the path that an annotation gives."""

    root: Path

    def find(self, name: str, origin: Origin | None = None) -> Path | None:
        """Return the image's file below `root`, or None; `origin` is where the name was written."""


class ImageFolder:
    """A data set's folder, in which images are looked up by the path that an annotation gives.

    The path is tried beside the annotation file, from the root on, below ``images/``, then as the end of any image's path in the folder
    (whole path components). Of a path that leads out of the folder (an absolute one, of the machine that the annotation was made on, or
    ``../``) the longest ending that fits counts. So it does of another path where the folders that are left over on one side say
    nothing, as ``images`` does. An image of another part, or of a folder that the name or the annotation file tells apart from this
    one, is never taken: its boxes would be those of another slide. Of several that fit, the one nearest to the annotation file counts.
    Nothing outside the folder is ever found.
    """

    def __init__(self, root: Path):
        self.root = root

    def find(self, name: str, origin: Origin | None = None) -> Path | None:
        """Return the image's file, or None.

        Raises:
            InputError: several images fit equally well.
        """
        places = [*([origin.folder] if origin is not None else []), self.root, self.root / "images"]
        return found(name, self._index, places, origin)

    @cached_property
    def files(self) -> list[Path]:
        """All files of the folder, sorted."""
        return walk_files(self.root)

    @cached_property
    def images(self) -> list[Path]:
        """The images among them."""
        return [p for p in self.files if is_image(p)]

    @cached_property
    def _index(self) -> FileIndex:
        return FileIndex(self.images, self.root, lambda path: path.relative_to(self.root).parts[:-1])


class ImageList:
    """Given images, in which those that an annotation names are looked up: the rest of the annotation is not wanted.

    Args:
        root: folder that the keys are relative to.
        keys: the images.
        annotation: the annotation file; a path relative to it is tried first.
    """

    def __init__(self, root: Path, keys: list[str], annotation: Path):
        self.root = root
        self._beside = annotation.resolve() if annotation.is_dir() else annotation.resolve().parent
        self._by_path = {(root / key).resolve(): root / key for key in keys}
        # The folder above the images may be that of one slide, so that it is compared, too.
        self._index = FileIndex(self._by_path, root, lambda path: path.parts[1:-1])

    def find(self, name: str, origin: Origin | None = None) -> Path | None:
        """Return the image's file, or None.

        Raises:
            InputError: several images fit equally well.
        """
        own = [origin.folder.resolve()] if origin is not None else []
        places = [*own, self._beside, *(place / "images" for place in (*own, self._beside))]
        path = found(name, self._index, places, None)
        return None if path is None else self._by_path[path]

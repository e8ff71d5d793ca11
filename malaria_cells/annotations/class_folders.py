"""A folder a class, whole pictures being the examples: ``cell_images/Parasitized``, ``chest_xray/train/NORMAL``."""

from pathlib import Path

from malaria_cells.annotations.form import Form
from malaria_cells.annotations.source import RawPicture, Source, whole_picture
from malaria_cells.pictures import is_picture

FORM = Form(
    name="folders",
    title="a folder a class",
    recognised_by="two or more folders of pictures whose names are classes, with or without `train`, `val` and `test` above them",
    exported_by="Kaggle, NIH malaria cells, Keras' `image_dataset_from_directory`",
    not_read="files that are no pictures",
)


def recognises(source: Source) -> bool:
    """Whether it is a folder without pictures of its own that has at least two folders with pictures."""
    if not source.path.is_dir() or any(is_picture(p) for p in source.path.iterdir() if p.is_file()):
        return False
    return sum(_has_picture(folder) for folder in _folders(source.path)) >= 2


def read(source: Source) -> list[RawPicture]:
    """Read every picture below every folder; the folder's name is the category. Other files are skipped and counted."""
    found = []
    for folder in _folders(source.path):
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            key = path.relative_to(source.path).as_posix()
            if is_picture(path):
                found.append(whole_picture(key, folder.name))
            else:
                source.oddities.note("file", "that cannot be a picture, skipped", key)
    return found


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def _has_picture(folder: Path) -> bool:
    return any(is_picture(p) for p in folder.rglob("*"))

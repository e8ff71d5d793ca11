"""``convert``: reads any annotation and writes it as a data set in another format."""

from pathlib import Path

from malaria_cells.app.commands.explore import AnnotationRequest
from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.data.writers import WRITERS


def convert(request: AnnotationRequest, target: Path, format_name: str) -> int:
    """Read an annotation, write it to the folder `target`, and print what the format cannot represent.

    Raises:
        InputError: the annotation cannot be read or labels whole images, or `target` exists and is not empty.
    """
    write = WRITERS[format_name]
    files.check_replaceable(target, None)
    annotations = request.read()
    if annotations.whole:
        raise InputError(f"{request.source}: labels whole images and has no boxes to write as {format_name}")
    with files.replacing_folder(target, None) as new_folder:
        left_out = write(annotations, new_folder)
    for line in left_out:
        print(line)
    cells = int(annotations.class_counts.sum())
    print(f"{number_of(len(annotations), 'image')}, {cells:,} boxes of {len(annotations.labels)} classes: {target}")
    return 0

"""``convert``: any annotation in, a data set in another tool's format out."""

from pathlib import Path

from malaria_cells.app.commands.explore import AnnotationRequest
from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.data.writers import WRITERS


def convert(request: AnnotationRequest, target: Path, format_name: str) -> int:
    """Read an annotation, write it to the folder `target`, and say what the format could not hold.

    Raises:
        InputError: no annotation known, labels of whole images, or a folder in the way.
    """
    files.check_replaceable(target, None)
    annotations = request.read()
    if annotations.whole:
        raise InputError(f"{request.source}: its labels are of whole images; there are no boxes that {format_name} could hold")
    with files.replacing_folder(target, None) as beside:
        left_out = WRITERS[format_name](annotations, beside)
    for line in left_out:
        print(line)
    cells = int(annotations.class_counts.sum())
    print(f"{number_of(len(annotations), 'image')}, {cells:,} boxes of {len(annotations.labels)} classes: {target}")
    return 0

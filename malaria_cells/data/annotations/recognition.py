"""Decides what format of annotation a file or folder holds, by evidence in its content; where that is not clear, it says what it saw."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations import class_folders, csv_table
from malaria_cells.data.annotations.cleaning import AnnotationIssues
from malaria_cells.data.annotations.file_index import folded
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.parts import part_of_path
from malaria_cells.data.annotations.readers import FORMAT_NAMES, FORMATS, FolderReader, Reader, reader_named
from malaria_cells.data.annotations.source import RawImage, Source
from malaria_cells.data.annotations.unrecognised import advice_on, below, no_form, several_forms
from malaria_cells.data.images import is_image

_OF_FOLDERS = tuple(reader for reader in FORMATS if not reader.FORMAT.suffixes)
_SUFFIXES = frozenset(suffix for reader in FORMATS for suffix in reader.FORMAT.suffixes)

TRAINING_NAMES = ("training.json", "annotations.json", "_annotations.coco.json", "data.yaml", "train.csv")
TEST_NAMES = ("test.json",)
# Files that lie beside images and are no annotation of them: our own splits and tables of detections, Label Studio's list of categories.
_NO_ANNOTATIONS = frozenset(
    {
        "doubtful.csv",
        "notes.json",
        "split.json",
        "metrics.json",
        "detections.json",
        "detections.csv",
        "counts.csv",
        "predictions.csv",
        "failed.csv",
        "per_class.csv",
    }
)


@dataclass(frozen=True)
class Recognised:
    """The format of an annotation, and its files.

    Attributes:
        reader: of the format.
        sources: the files, or the one folder, each with the part that its place names.
        root: the folder that was searched, or the file's own.
        issues: takes a note of everything that is mended or left out; the sources share it.
    """

    reader: Reader
    sources: tuple[Source, ...]
    root: Path
    issues: AnnotationIssues

    @property
    def lists_images(self) -> bool:
        """Whether the files list the data set's images, so that one that is not listed is left out."""
        tested = {self.root / name for name in TEST_NAMES}
        return self.reader not in _OF_FOLDERS and not any(path.is_file() for path in tested)

    def read(self) -> list[tuple[Source, RawImage]]:
        """All images of all files."""
        return [(source, image) for source in self.sources for image in self.reader.read(source)]

    def __str__(self) -> str:
        if isinstance(self.reader, FolderReader):
            return f"{self.reader.FORMAT.title}: {self.reader.describe(self.sources[0])}"
        files = [source.path for source in self.sources]
        shown = ", ".join(p.relative_to(self.root).as_posix() if p.is_relative_to(self.root) else p.name for p in files[:3])
        return f"{self.reader.FORMAT.title}: {shown}" + (f" and {len(files) - 3} more files" if len(files) > 3 else "")


def recognise(path: Path, annotation_format: str = "auto") -> Recognised:
    """Find out what format a file or folder holds.

    Args:
        path: an annotation file, or the folder of a data set.
        annotation_format: one of `FORMAT_NAMES`, or ``auto`` to look at the content.

    Raises:
        InputError: no such path, an unknown format, no format, or several.
    """
    if not path.exists():
        raise InputError(f"{path}: no such annotation file or folder")
    readers = FORMATS if annotation_format == "auto" else (reader_named(annotation_format),)
    issues = AnnotationIssues()
    return _of_folder(path, readers, issues) if path.is_dir() else _of_file(path, readers, issues)


def _of_file(path: Path, readers: tuple[Reader, ...], issues: AnnotationIssues) -> Recognised:
    source = Source(path, issues)
    if len(readers) == 1:  # named by the user, whose word counts; the reader says what is wrong
        return Recognised(readers[0], (source,), path.parent, issues)
    for reader in readers:
        if _may_hold(path, reader.FORMAT) and reader.recognises(source):
            return Recognised(reader, (source,), path.parent, issues)
    raise InputError(f"{path}: {advice_on(source) or 'not an annotation of a known format'}; expected one of {', '.join(FORMAT_NAMES)}")


def _may_hold(path: Path, spec: Format) -> bool:
    return not spec.suffixes or path.suffix.lower() in spec.suffixes


def _of_folder(root: Path, readers: tuple[Reader, ...], issues: AnnotationIssues) -> Recognised:
    folder = Source(root, issues)  # searched once for all who ask
    files = folder.files
    found, not_read = _annotation_files(root, files, readers, issues)
    for reader in readers:
        if reader not in _OF_FOLDERS or (reader is class_folders and found):  # folders called as classes are the least evidence
            continue
        if len(readers) == 1 or reader.recognises(folder):
            found[reader.FORMAT.name] = [folder]
    if len(found) > 1:
        raise InputError(several_forms(root, found))
    if not found:
        raise InputError(no_form(folder, not_read, readers[0].FORMAT.name if len(readers) == 1 else None))
    ((name, sources),) = found.items()
    reader = reader_named(name)
    sources = _chosen(root, sources, issues) if len(sources) > 1 and not reader.FORMAT.per_image else sources
    for path, why in not_read.items():
        if why and reader.FORMAT.per_image and _may_hold(path, reader.FORMAT):  # an image's cells must not be lost with a damaged file
            raise InputError(f"{path}: {why}")
        issues.note("file", "without an annotation of a known format, not read", f"{path.relative_to(root)}" + (f" ({why})" if why else ""))
    return Recognised(reader, tuple(sources), root, issues)


def _annotation_files(
    root: Path, files: list[Path], readers: tuple[Reader, ...], issues: AnnotationIssues
) -> tuple[dict[str, list[Source]], dict[Path, str]]:
    """The files of each format, and those that could hold an annotation but are of no format, with the reason if they are broken."""
    found: dict[str, list[Source]] = defaultdict(list)
    not_read: dict[Path, str] = {}
    for path in files:
        if path.suffix.lower() not in _SUFFIXES or (path.name.lower() in _NO_ANNOTATIONS and len(readers) > 1):
            continue
        relative = path.relative_to(root)
        source = Source(path, issues, part_of_path(relative.parts[:-1], path.stem))
        try:
            reader = next((r for r in readers if r.FORMAT.suffixes and _may_hold(path, r.FORMAT) and r.recognises(source)), None)
        except InputError as error:
            not_read[path] = str(error).removeprefix(f"{path}: ")
            continue
        if reader is None:
            not_read[path] = ""
        elif len(readers) > 1 and "submission" in path.stem.lower().replace("_", ""):
            not_read[path] = "the example of a file to submit, whose labels are made up"
        elif len(readers) > 1 and reader is csv_table and (why := _no_image_of(source, files)):
            not_read[path] = why
        else:
            found[reader.FORMAT.name].append(source)
    return found, not_read


def _no_image_of(table: Source, files: list[Path]) -> str:
    """Why a table is no annotation of a folder's images: no row names one of them. A list of classes has such columns, too."""
    known = {folded(name) for path in files if is_image(path) for name in (path.name, path.stem)}
    try:
        rows = csv_table.read(Source(table.path))
    except InputError:  # it is told as the table is read, if nothing else is there to read
        return ""
    named = {folded(PurePosixPath(str(row.name).replace("\\", "/")).name) for row in rows}
    found = known & (named | {PurePosixPath(name).stem for name in named})
    return "" if found or not known else "it names none of the folder's images"


def _chosen(root: Path, sources: list[Source], issues: AnnotationIssues) -> list[Source]:
    """Of several files of one format those that make up the data set; the others are noted.

    A file that is called as training annotations usually are counts before others, as do files that are named as a part before
    those that are not, and COCO's ``instances`` before its ``person_keypoints`` of the same images. A config reads the
    test's file by itself.
    """
    usual = {root / name for name in TRAINING_NAMES}
    main = [source for source in sources if source.path in usual]
    tests = {root / name for name in TEST_NAMES} if main else set()
    instances = {source.part for source in sources if source.path.stem.startswith("instances")}
    kept = []
    for source in sources:
        stem = source.path.stem.lower()
        if source.path in tests:
            issues.note("annotation", "of the test part, read as `test_annotations` and not here", source.path.name)
        elif stem.startswith(("person_keypoints", "stuff", "panoptic")) and source.part in instances:
            issues.note("file", "of the same images as an `instances` file, not read", below(root, source.path))
        elif source not in main and source.part is None and (main or any(other.part for other in sources)):
            issues.note("file", "not named as a part of the data set, not read; name it itself to read it", below(root, source.path))
        else:
            kept.append(source)
    return kept

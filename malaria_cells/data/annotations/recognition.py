"""Recognises the annotation format of a file or folder by its content; if that is ambiguous, the error says what was found."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations.cleaning import AnnotationIssues
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.parts import part_of_path
from malaria_cells.data.annotations.readers import READERS, Reader, all_readers
from malaria_cells.data.annotations.source import RawImage, Source
from malaria_cells.data.annotations.unrecognised import advice_on, below, no_format, several_formats
from malaria_cells.data.annotations.written_paths import folded
from malaria_cells.data.images import is_image

CLASS_FOLDERS, TABLE = "folders", "csv"  # names of formats whose evidence is weak
TRAINING_NAMES = ("training.json", "annotations.json", "_annotations.coco.json", "data.yaml", "train.csv")
TEST_NAMES = ("test.json",)
# Names of files that are not annotations: splits and results that malaria_cells writes, and Label Studio's list of categories.
_NOT_ANNOTATIONS = frozenset(
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
    """The recognised format and files of an annotation.

    Attributes:
        reader: reader of the format.
        sources: the annotation files, or the one folder, each with the part of the data set that its path names.
        root: the folder that was searched, or the folder of the file.
        issues: everything that is corrected or left out; the sources share it.
    """

    reader: Reader
    sources: tuple[Source, ...]
    root: Path
    issues: AnnotationIssues

    @property
    def lists_images(self) -> bool:
        """Whether the files list all images of the data set, so that unlisted ones are left out."""
        test_files = {self.root / name for name in TEST_NAMES}
        return bool(self.reader.format.suffixes) and not any(path.is_file() for path in test_files)

    def read(self) -> list[tuple[Source, RawImage]]:
        """Read all images of all sources, each with its source."""
        return [(source, image) for source in self.sources for image in self.reader.read(source)]

    def __str__(self) -> str:
        if self.reader.describe is not None:
            return f"{self.reader.format.title}: {self.reader.describe(self.sources[0])}"
        files = [source.path for source in self.sources]
        names = ", ".join(path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name for path in files[:3])
        return f"{self.reader.format.title}: {names}" + (f" and {len(files) - 3} more files" if len(files) > 3 else "")


def recognise(path: Path, annotation_format: str = "auto") -> Recognised:
    """Recognise the annotation format of a file or folder.

    Args:
        path: an annotation file, or the folder of a data set.
        annotation_format: one of `READERS`, or ``auto`` to look at the content.

    Raises:
        InputError: no such path, an unknown `annotation_format`, or no format or several formats are recognised.
    """
    if not path.exists():
        raise InputError(f"{path}: no such annotation file or folder")
    readers = all_readers() if annotation_format == "auto" else (READERS[annotation_format],)
    issues = AnnotationIssues()
    return _of_folder(path, readers, issues) if path.is_dir() else _of_file(path, readers, issues)


def _of_file(path: Path, readers: tuple[Reader, ...], issues: AnnotationIssues) -> Recognised:
    source = Source(path, issues)
    if len(readers) == 1:  # the user named the format; the reader raises an error if the file has another one
        return Recognised(readers[0], (source,), path.parent, issues)
    for reader in readers:
        if _may_hold(path, reader.format) and reader.recognises(source):
            return Recognised(reader, (source,), path.parent, issues)
    raise InputError(f"{path}: {advice_on(source) or 'not an annotation of a known format'}; expected one of {', '.join(READERS)}")


def _may_hold(path: Path, spec: Format) -> bool:
    return not spec.suffixes or path.suffix.lower() in spec.suffixes


def _of_folder(root: Path, readers: tuple[Reader, ...], issues: AnnotationIssues) -> Recognised:
    folder = Source(root, issues)  # shared, so that the folder is searched only once
    files = folder.files
    sources_of, not_read = _annotation_files(root, files, readers, issues)
    for reader in readers:
        if reader.format.suffixes or (reader.format.name == CLASS_FOLDERS and sources_of):
            continue  # folders named after classes are the weakest evidence
        if len(readers) == 1 or reader.recognises(folder):
            sources_of[reader.format.name] = [folder]
    if len(sources_of) > 1:
        raise InputError(several_formats(root, sources_of))
    if not sources_of:
        raise InputError(no_format(folder, not_read, readers[0].format.name if len(readers) == 1 else None))
    ((name, sources),) = sources_of.items()
    reader = READERS[name]
    sources = _chosen(root, sources, issues) if len(sources) > 1 and not reader.format.per_image else sources
    for path, reason in not_read.items():
        if reason and reader.format.per_image and _may_hold(path, reader.format):  # a damaged file would leave an image without its cells
            raise InputError(f"{path}: {reason}")
        example = f"{path.relative_to(root)}" + (f" ({reason})" if reason else "")
        issues.note("file", "without an annotation of a known format, not read", example)
    return Recognised(reader, tuple(sources), root, issues)


def _annotation_files(
    root: Path, files: list[Path], readers: tuple[Reader, ...], issues: AnnotationIssues
) -> tuple[dict[str, list[Source]], dict[Path, str]]:
    """The annotation files by the name of their format; and the other files with such a suffix, with the reason why they are not read.

    The reason is empty for files that no reader recognises.
    """
    sources_of: dict[str, list[Source]] = defaultdict(list)
    not_read: dict[Path, str] = {}
    suffixes = {suffix for each in all_readers() for suffix in each.format.suffixes}
    for path in files:
        if path.suffix.lower() not in suffixes or (path.name.lower() in _NOT_ANNOTATIONS and len(readers) > 1):
            continue
        relative = path.relative_to(root)
        source = Source(path, issues, part_of_path(relative.parts[:-1], path.stem))
        try:
            reader = next((r for r in readers if r.format.suffixes and _may_hold(path, r.format) and r.recognises(source)), None)
        except InputError as error:
            not_read[path] = str(error).removeprefix(f"{path}: ")
            continue
        if reader is None:
            not_read[path] = ""
        elif len(readers) > 1 and "submission" in path.stem.lower().replace("_", ""):
            not_read[path] = "an example of a submission, whose labels are placeholders"
        elif len(readers) > 1 and reader.format.name == TABLE and (reason := _why_unrelated(source, files)):
            not_read[path] = reason
        else:
            sources_of[reader.format.name].append(source)
    return sources_of, not_read


def _why_unrelated(table: Source, files: list[Path]) -> str:
    """Why a table is not the annotation of the folder's images: no row names any of them; empty if it can be.

    A table of class names, for instance, may have the columns of an annotation.
    """
    known = {folded(name) for path in files if is_image(path) for name in (path.name, path.stem)}
    try:
        rows = READERS[TABLE].read(Source(table.path))
    except InputError:  # the error is raised again when the table is read
        return ""
    named = {folded(PurePosixPath(str(row.name).replace("\\", "/")).name) for row in rows}
    matching = known & (named | {PurePosixPath(name).stem for name in named})
    return "" if matching or not known else "it names none of the folder's images"


def _chosen(root: Path, sources: list[Source], issues: AnnotationIssues) -> list[Source]:
    """Select the files that make up the data set from several files of one format; the others are added to the issues.

    A file with a usual name of training annotations is preferred to others, files that are named after a part to files that are not, and
    COCO's ``instances`` to its ``person_keypoints`` of the same images. The test annotation is read separately, as the config's
    `test_annotations`.
    """
    training_files = {root / name for name in TRAINING_NAMES}
    main = [source for source in sources if source.path in training_files]
    tests = {root / name for name in TEST_NAMES} if main else set()
    instances = {source.part for source in sources if source.path.stem.startswith("instances")}
    chosen = []
    for source in sources:
        stem = source.path.stem.lower()
        if source.path in tests:
            issues.note("annotation", "of the test part, not read here but as `test_annotations`", source.path.name)
        elif stem.startswith(("person_keypoints", "stuff", "panoptic")) and source.part in instances:
            issues.note("file", "of the same images as an `instances` file, not read", below(root, source.path))
        elif source not in main and source.part is None and (main or any(other.part for other in sources)):
            issues.note(
                "file", "not named after a part of the data set, not read; pass the file itself to read it", below(root, source.path)
            )
        else:
            chosen.append(source)
    return chosen

"""Error messages for files and folders whose format is unknown or ambiguous: what was found, and what to do."""

from collections import Counter
from pathlib import Path

from malaria_cells.base.text import number_of
from malaria_cells.data.annotations.foreign import name_of_tool
from malaria_cells.data.annotations.readers import READERS, class_folders, yolo
from malaria_cells.data.annotations.source import Source
from malaria_cells.data.images import UNREADABLE_SUFFIXES, is_image


def several_formats(root: Path, sources_of: dict[str, list[Source]]) -> str:
    """The message for a folder with annotations in several formats; `sources_of` has the files by format name."""
    formats = "; ".join(
        f"{name}: {number_of(len(sources), 'file')}, first {below(root, sources[0].path)}"
        if sources[0].path != root
        else f"{name}: the folder"
        for name, sources in sources_of.items()
    )
    return (
        f"{root}: holds annotations of several formats ({formats}). Name the format with `annotation_format` (--format), "
        "or the file with `annotations` (on the command line: instead of the folder)"
    )


def no_format(folder: Source, not_read: dict[Path, str], requested: str | None) -> str:
    """The message for a folder in which no format, or not the requested one, was recognised.

    Args:
        folder: the folder.
        not_read: files that could not be read, with the reason; empty for files that no reader recognises.
        requested: name of the format that the user requested; None: any.
    """
    root, files, images = folder.path, folder.files, folder.images
    contents = [f"{number_of(len(images), 'image')} (first {below(root, images[0])})"] if images else ["no image"]
    suffixes = Counter(path.suffix.lower() or "without extension" for path in files if not is_image(path))
    contents += [
        f"{n:,} {suffix}" + (f" ({UNREADABLE_SUFFIXES[suffix]})" if suffix in UNREADABLE_SUFFIXES else "")
        for suffix, n in suffixes.most_common(6)
    ]
    hints = [f"{below(root, path)}: {reason}" for path, reason in not_read.items() if reason][:2]
    if requested is not None:
        lines = [f"{root}: holds no annotation of the format '{requested}'; found {', '.join(contents)}."]
        lines += [f"{line}." for line in hints]
        return "\n".join([*lines, "To try all formats, leave out `annotation_format` (--format)."])
    for path in [path for path in files if not is_image(path)][:200]:
        advice = advice_on(Source(path))
        if advice and len(hints) < 3:
            hints.append(f"{below(root, path)}: {advice}")
    lines = [f"{root}: holds no annotation of a known format; found {', '.join(contents)}."]
    lines += [f"{line}." for line in hints]
    lines += [text for text in (yolo.why_not(folder), class_folders.why_not(folder)) if text]
    lines.append(
        f"Expected one of {', '.join(READERS)} (described in docs/formats.md). Name the annotation file with `annotations:` "
        "in the config or --set annotations=FILE; for other commands, pass it instead of the folder."
    )
    return "\n".join(lines)


def below(root: Path, path: Path) -> str:
    """A path relative to the folder, with forward slashes, for messages."""
    return path.relative_to(root).as_posix()


def advice_on(source: Source) -> str:
    """What an unrecognised file is, and what to export instead; empty if the file is unknown."""
    tool = name_of_tool(source)
    return f"{tool[0]}; {tool[1]}" if tool is not None else ""

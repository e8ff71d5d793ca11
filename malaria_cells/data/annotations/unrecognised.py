"""What to say of a folder or file whose format is not clear: what was seen, what to export instead, which setting decides."""

from collections import Counter
from pathlib import Path

from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import class_folders, yolo
from malaria_cells.data.annotations.foreign import name_of_tool
from malaria_cells.data.annotations.readers import FORMAT_NAMES
from malaria_cells.data.annotations.source import Source
from malaria_cells.data.images import UNREADABLE_SUFFIXES, is_image


def several_forms(root: Path, found: dict[str, list[Source]]) -> str:
    """The message for a folder that holds annotations of several formats."""
    seen = "; ".join(
        f"{name}: {number_of(len(sources), 'file')}, first {below(root, sources[0].path)}"
        if sources[0].path != root
        else f"{name}: the folder"
        for name, sources in found.items()
    )
    return (
        f"{root}: holds annotations of several formats ({seen}). Name the format with `annotation_format` (--format), "
        "or the file itself with `annotations` (on the command line in the place of the folder)"
    )


def no_form(folder: Source, not_read: dict[Path, str], asked: str | None) -> str:
    """The message for a folder in which no format was recognised, or not the one that was asked for."""
    root, files, images = folder.path, folder.files, folder.images
    seen = [f"{number_of(len(images), 'image')} (first {below(root, images[0])})"] if images else ["no image"]
    endings = Counter(p.suffix.lower() or "no ending" for p in files if not is_image(p))
    seen += [
        f"{n:,} {ending}" + (f" ({UNREADABLE_SUFFIXES[ending]})" if ending in UNREADABLE_SUFFIXES else "")
        for ending, n in endings.most_common(6)
    ]
    broken = [f"{below(root, path)}: {why}" for path, why in not_read.items() if why]
    told = broken[:2]
    if asked is not None:
        lines = [f"{root}: holds no annotation of the format '{asked}'; found {', '.join(seen)}."]
        return "\n".join(
            [*lines, *(f"{line}." for line in told), "Without a format that is named (`annotation_format`, --format) all are tried."]
        )
    for path in [p for p in files if not is_image(p)][:200]:
        advice = advice_on(Source(path))
        if advice and len(told) < 3:
            told.append(f"{below(root, path)}: {advice}")
    lines = [f"{root}: holds no annotation of a known format; found {', '.join(seen)}."]
    lines += [f"{line}." for line in told]
    lines += [text for text in (yolo.why_not(folder), class_folders.why_not(folder)) if text]
    lines.append(
        f"Expected one of {', '.join(FORMAT_NAMES)} (docs/formats.md says how each looks). Name the annotation file with `annotations:` "
        "in the config or --set annotations=FILE, to other commands in the place of the folder."
    )
    return "\n".join(lines)


def below(root: Path, path: Path) -> str:
    """A path as it is shown: from the folder on."""
    return path.relative_to(root).as_posix()


def advice_on(source: Source) -> str:
    """What a file is that no reader recognises, and what to export instead; or nothing."""
    tool = name_of_tool(source)
    return f"{tool[0]}; {tool[1]}" if tool is not None else ""

"""Checks and unpacks a fetched archive."""

import errno
import lzma
import shutil
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path

from malaria_cells.app.commands.download_archives import Archive
from malaria_cells.app.commands.download_fetch import discard
from malaria_cells.base.errors import InputError

LARGE = 1 << 30  # bytes; an archive that unpacks to less is never refused
MAX_RATIO = 100  # unpacked size divided by compressed size of larger archives; tables reach 20, images 1
MAX_NAME_BYTES = 255  # length of a file name in most file systems
# Exceptions of zipfile and its decoders for a damaged archive. RuntimeError: it is encrypted, or its compression is not supported.
BROKEN = (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, IndexError, OSError, struct.error, zlib.error, lzma.LZMAError)


def unpack(part: Path, archive: Archive, folder: Path, extras: dict[str, Path]) -> None:
    """Check the archive, unpack it beside `folder`, and move the data set into place.

    Args:
        part: the fetched zip file, which is removed if it is damaged.
        archive: what it should hold.
        folder: the data set's folder, absent or empty.
        extras: fetched files that belong into the folder too, by their names there.

    Raises:
        InputError: the archive is damaged, is not as expected, or would write outside `folder`; or `folder` holds other files.
    """
    try:
        with zipfile.ZipFile(part) as zipped:
            _check_members(zipped)
            broken = zipped.testzip()
            if broken is not None:
                raise zipfile.BadZipFile(f"member {broken} fails its checksum")
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
                zipped.extractall(temporary)
                for name, extra in extras.items():
                    shutil.copyfile(extra, Path(temporary) / name)
                _move_into_place(Path(temporary), archive, folder)
    except InputError:
        raise
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:  # an error of the disk, not of the archive
            raise
        discard(part)
        raise InputError(f"{archive.url}: the archive is damaged ({error}) and was removed; run the command again") from error


def _check_members(zipped: zipfile.ZipFile) -> None:
    members = zipped.infolist()
    size, packed = sum(m.file_size for m in members), sum(m.compress_size for m in members)
    if size > max(LARGE, MAX_RATIO * packed):
        raise InputError(f"the archive's {packed:,} bytes would unpack to {size:,}, which images cannot; nothing was unpacked")
    checksums: dict[str, int] = {}
    for member in members:
        if checksums.setdefault(member.filename, member.CRC) != member.CRC:
            raise zipfile.BadZipFile(f"two members have the name '{member.filename}'")
        if any(len(part.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES for part in member.filename.split("/")):
            raise zipfile.BadZipFile(f"a member's name is longer than {MAX_NAME_BYTES} bytes: '{member.filename[:60]}..'")
        path = Path(member.filename.replace("\\", "/"))
        is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
        if path.is_absolute() or ".." in path.parts or is_link or (path.parts and ":" in path.parts[0]):
            raise InputError(
                f"the archive's member '{member.filename}' would be written outside the data set's folder; nothing was unpacked"
            )


def _move_into_place(unpacked: Path, archive: Archive, folder: Path) -> None:
    markers = sorted((p for p in unpacked.rglob(archive.marker) if "__MACOSX" not in p.parts), key=lambda p: len(p.parts))
    if not markers:
        raise InputError(f"{archive.url}: the archive holds no {archive.marker}; the data set may have changed its structure")
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
    if folder.exists():
        raise InputError(f"{folder}: holds files but no {archive.marker}; move it away and run the command again")
    shutil.move(markers[0].parent, folder)

"""``download``: fetch a public data set, or render the sample. Standard library only, so that it runs before anything is installed."""

import http.client
import os
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from malaria_cells.errors import InputError, nearest

MIRROR = "MALARIA_CELLS_MIRROR"
CHUNK = 1 << 20
TRIES = 5
TIMEOUT = 60  # seconds without a byte


@dataclass(frozen=True)
class Archive:
    """A public data set in one zip file.

    Attributes:
        url: where it is.
        marker: a file that the unpacked data set holds; the folder that it lies in becomes the data set's folder.
        about: one line: what it is, how large, its terms.
        next_step: what to type once it is there.
    """

    url: str
    marker: str
    about: str
    next_step: str


ARCHIVES = {
    "bbbc041": Archive(
        "https://data.broadinstitute.org/bbbc/BBBC041/malaria.zip",
        "training.json",
        "BBBC041: fields of P. vivax smears, boxed cells of six classes, CC BY-NC-SA 3.0 (Ljosa et al. 2012)",
        "python train.py --config=config.yaml",
    ),
    "iml": Archive(
        "https://codeload.github.com/QaziAmmar/"
        "A-Dataset-and-Benchmark-for-Malaria-Life-Cycle-Classification-in-Thin-Blood-Smear-Images/zip/refs/heads/main",
        "annotations.json",
        "IML-Malaria: fields of P. vivax smears, boxed cells of five classes, published for research (arXiv:2102.08708)",
        "python train.py --config=configs/iml.yaml",
    ),
}
SAMPLE = "sample"
SAMPLE_ABOUT = "56 rendered smears with boxes of six classes; needs no network"


def list_names() -> int:
    """Print the names with a line about each."""
    for name, archive in ARCHIVES.items():
        print(f"{name:10} {archive.about}")
    print(f"{SAMPLE:10} {SAMPLE_ABOUT}")
    return 0


def download(names: list[str], data: Path) -> int:
    """Provide each data set named, in the folder of its name below `data`; those already there are left alone.

    Raises:
        InputError: an unknown name; or the network, the server or the archive is not as it should be. What was fetched of
            a broken download is kept and continued the next time.
    """
    names = names or ["bbbc041"]
    known = [*ARCHIVES, SAMPLE]
    for name in names:
        if name not in known:
            raise InputError(f"'{name}' is no data set known{nearest(name, known)}; expected one of {', '.join(known)}")
    for name in names:
        if name == SAMPLE:
            _provide_sample(data / SAMPLE)
        else:
            _provide(ARCHIVES[name], data / name)
    return 0


def _provide_sample(folder: Path) -> None:
    if (folder / "training.json").is_file():
        print(f"{folder}: already there")
    else:
        try:
            from malaria_cells.sample import write_sample
        except ImportError as error:
            raise InputError(f"sample: rendering needs the installed package ({error}); run `make install` first") from error
        write_sample(folder, training=40, test=16, seed=42)
        print(f"{folder}: 40 training and 16 test pictures rendered")
    print(f"next:  python train.py --config=config.yaml --set train_images={folder}")


def _provide(archive: Archive, folder: Path) -> None:
    if (folder / archive.marker).is_file():
        print(f"{folder}: already there")
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.parent / f".{folder.name}.zip.part"
        _fetch(_address(archive.url), part)
        _unpack(part, archive, folder)
        part.unlink()
        _stamp(part).unlink(missing_ok=True)
        print(f"{folder}: done")
    print(f"next:  {archive.next_step}")


def _address(url: str) -> str:
    mirror = os.environ.get(MIRROR)
    return mirror.rstrip("/") + urllib.parse.urlparse(url).path if mirror else url


def _fetch(url: str, part: Path) -> None:
    """Fetch `url` into `part`, going on where an earlier try ended, several times if the connection breaks."""
    for attempt in range(1, TRIES + 1):
        try:
            if _fetch_rest(url, part):
                return
            reason: object = "the connection closed early"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise InputError(
                    f"{url}: the server answers {error.code} {error.reason}; the data may have moved, see the project's page"
                ) from error
            reason = error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
        if attempt < TRIES:
            print(f"{url}: {reason}; trying again ({attempt}/{TRIES - 1})", file=sys.stderr)
            time.sleep(min(2 ** (attempt - 1), 8) * float(os.environ.get("MALARIA_CELLS_RETRY_SECONDS", "1")))
    kept = f" {part.stat().st_size:,} bytes are kept in {part}, run the command again to go on." if part.exists() else ""
    raise InputError(f"{url}: {reason}. Check the network.{kept}")


def _fetch_rest(url: str, part: Path) -> bool:
    """Fetch what is missing of `part`; whether it is whole now."""
    have = part.stat().st_size if part.exists() else 0
    stamp = _stamp(part)
    request = urllib.request.Request(url, headers={"User-Agent": "malaria-cells"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if stamp.exists():  # a changed archive is sent whole, not as a wrong rest
            request.add_header("If-Range", stamp.read_text(encoding="utf-8"))
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing after `have`: it is whole, or not of this archive; unpacking tells
            return True
        raise
    with response:
        goes_on = response.status == 206
        version = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if version and not version.startswith("W/"):
            stamp.write_text(version, encoding="utf-8")
        length = response.headers.get("Content-Length")
        done = have if goes_on else 0
        total = done + int(length) if length else None
        with part.open("ab" if goes_on else "wb") as file:
            done = _copy(response, file, done, total, url)
    return total is None or done == total


def _copy(response: http.client.HTTPResponse, file, done: int, total: int | None, url: str) -> int:  # type: ignore[no-untyped-def]
    """Copy the body, saying how far it is; the number of bytes then there."""
    started, said, first = time.monotonic(), 0.0, done
    is_terminal = sys.stderr.isatty()
    while chunk := response.read(CHUNK):
        file.write(chunk)
        done += len(chunk)
        now = time.monotonic()
        if now - said >= (0.5 if is_terminal else 15):
            said = now
            rate = (done - first) / max(now - started, 1e-3)
            left = f", {(total - done) / max(rate, 1):.0f} s left" if total else ""
            size = f"{done / 1e6:,.0f}" + (f" of {total / 1e6:,.0f} MB" if total else " MB")
            line = f"{urllib.parse.urlparse(url).netloc}: {size}, {rate / 1e6:.1f} MB/s{left}"
            print(f"\r{line}   " if is_terminal else line, end="" if is_terminal else "\n", file=sys.stderr, flush=True)
    if is_terminal:
        print(file=sys.stderr)
    return done


def _unpack(part: Path, archive: Archive, folder: Path) -> None:
    """Test the archive, unpack it beside `folder`, and move the data set into place."""
    try:
        with zipfile.ZipFile(part) as zipped:
            broken = zipped.testzip()
            if broken is not None:
                raise zipfile.BadZipFile(f"member {broken} fails its checksum")
            _check_members(zipped)
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
                zipped.extractall(beside)
                _move_into_place(Path(beside), archive, folder)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        part.unlink()
        _stamp(part).unlink(missing_ok=True)
        raise InputError(f"{archive.url}: the archive is broken ({error}); it was removed, run the command again") from error


def _check_members(zipped: zipfile.ZipFile) -> None:
    for member in zipped.infolist():
        path = Path(member.filename.replace("\\", "/"))
        is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
        if path.is_absolute() or ".." in path.parts or is_link or (path.parts and ":" in path.parts[0]):
            raise InputError(f"the archive's member '{member.filename}' would land outside the data set's folder; nothing was unpacked")


def _move_into_place(unpacked: Path, archive: Archive, folder: Path) -> None:
    found = sorted((p for p in unpacked.rglob(archive.marker) if "__MACOSX" not in p.parts), key=lambda p: len(p.parts))
    if not found:
        raise InputError(f"{archive.url}: the archive holds no {archive.marker}; the data set may have changed its form")
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
    if folder.exists():
        raise InputError(f"{folder}: holds other files, but no {archive.marker}; move it away and run the command again")
    shutil.move(found[0].parent, folder)


def _stamp(part: Path) -> Path:
    return part.with_suffix(".version")

"""``download``: downloads a public data set, or renders the sample. Standard library only, so it runs before anything is installed."""

import base64
import errno
import http.client
import json
import lzma
import os
import shutil
import struct
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from malaria_cells.base.errors import InputError, nearest

MIRROR = "MALARIA_CELLS_MIRROR"
CHUNK = 1 << 20  # bytes read at once
TRIES = 5
TIMEOUT = 60  # seconds without a byte
LARGE = 1 << 30  # bytes; an archive that unpacks to less is never refused
MAX_RATIO = 100  # unpacked size divided by compressed size of larger archives; tables reach 20, images 1
MAX_NAME_BYTES = 255  # length of a file name in most file systems
# Exceptions of zipfile and its decoders for a damaged archive. RuntimeError: it is encrypted, or its compression is not supported.
BROKEN = (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, IndexError, OSError, struct.error, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Archive:
    """A public data set in one zip file.

    Attributes:
        url: address of the archive.
        marker: a file or folder of the unpacked data set; its parent folder becomes the data set's folder.
        about: one line on content, size and terms.
        next_step: command to run after the download.
        extras: addresses of additional files, by their names in the data set's folder.
        rules: page on which Kaggle's rules must be accepted; such an archive needs a token. None: it is not on Kaggle.
    """

    url: str
    marker: str
    about: str
    next_step: str
    extras: dict[str, str] = field(default_factory=dict)
    rules: str | None = None


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
    "nih": Archive(
        "https://data.lhncbc.nlm.nih.gov/public/Malaria/cell_images.zip",
        "Parasitized",
        "NIH malaria cells: 27,558 images of single cells, infected or not, P. falciparum, public domain (Rajaraman et al. 2018)",
        "python train.py --config=configs/nih.yaml",
    ),
    "ena24": Archive(
        "https://storage.googleapis.com/public-datasets-lila/ena24/ena24.zip",
        "annotations.json",
        "ENA24: 10,000 camera-trap images, boxed animals of 23 species, CDLA-permissive (Yousif et al. 2019); 3.6 GB",
        "python train.py --config=configs/ena24.yaml",
        extras={"annotations.json": "https://storage.googleapis.com/public-datasets-lila/ena24/ena24.json"},
    ),
    "bccd": Archive(
        "https://codeload.github.com/Shenggan/BCCD_Dataset/zip/refs/heads/master",
        "Annotations",
        "BCCD: 364 fields of blood, boxed red and white cells and platelets, MIT (github.com/Shenggan/BCCD_Dataset)",
        "python train.py --config=configs/bccd.yaml",
    ),
    "pneumonia": Archive(
        "https://data.mendeley.com/public-files/datasets/rscbjbr9sj/files/f12eaf6d-6023-432f-acc9-80c9d7393433/file_downloaded",
        "train",
        "Chest X-rays: 5,856 images, normal or pneumonia, CC BY 4.0 (Kermany et al. 2018, doi 10.17632/rscbjbr9sj.2); 1.2 GB",
        "python train.py --config=configs/pneumonia.yaml",
    ),
    "cassava": Archive(
        "https://www.kaggle.com/api/v1/competitions/data/download-all/cassava-leaf-disease-classification",
        "train.csv",
        "Cassava leaves: 21,397 images of five classes; needs a Kaggle token (Mwebaze et al. 2019); 6 GB",
        "python train.py --config=configs/cassava.yaml",
        rules="https://www.kaggle.com/competitions/cassava-leaf-disease-classification/rules",
    ),
}
SAMPLE = "sample"
SAMPLE_ABOUT = "56 rendered smears with boxes of six classes; needs no network"


def list_names() -> int:
    """Print each name with a line about the data set."""
    for name, archive in ARCHIVES.items():
        print(f"{name:10} {archive.about}")
    print(f"{SAMPLE:10} {SAMPLE_ABOUT}")
    return 0


def download(names: list[str], data: Path) -> int:
    """Download data sets to the folders ``data/NAME``. Data sets that are already there are left unchanged.

    Raises:
        InputError: a name is unknown, the connection or the server fails, or the archive is damaged. The bytes of an interrupted download
            are kept, and the next call continues it.
    """
    names = names or ["bbbc041"]
    known = [*ARCHIVES, SAMPLE]
    for name in names:
        if name not in known:
            raise InputError(f"unknown data set '{name}'{nearest(name, known)}; expected one of {', '.join(known)}")
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
            from malaria_cells.data.sample import write_sample
        except ImportError as error:
            raise InputError(f"sample: rendering needs the installed package ({error}); run `make install` first") from error
        write_sample(folder, training=40, test=16, seed=42)
        print(f"{folder}: 40 training and 16 test images rendered")
    print(f"next:  python train.py --config=config.yaml --set train_images={folder}")


def _provide(archive: Archive, folder: Path) -> None:
    if (folder / archive.marker).exists():
        print(f"{folder}: already there")
    else:
        authorization = _kaggle_authorization(archive) if archive.rules else None
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.parent / f".{folder.name}.zip.part"
        _fetch(_address(archive.url), part, authorization)
        extras = {name: folder.parent / f".{folder.name}.{name}.part" for name in archive.extras}
        for name, extra in extras.items():
            _fetch(_address(archive.extras[name]), extra)
        _unpack(part, archive, folder, extras)
        for file in (part, *extras.values()):
            file.unlink(missing_ok=True)
            _version_file(file).unlink(missing_ok=True)
        print(f"{folder}: done")
    print(f"next:  {archive.next_step}")


def _address(url: str) -> str:
    mirror = os.environ.get(MIRROR)
    return mirror.rstrip("/") + urllib.parse.urlparse(url).path if mirror else url


def _kaggle_authorization(archive: Archive) -> str:
    """The HTTP basic authorization for Kaggle, from the environment or the token file."""
    user, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    path = Path(os.environ.get("KAGGLE_CONFIG_DIR", Path.home() / ".kaggle")) / "kaggle.json"
    if not (user and key) and path.is_file():
        try:
            token = json.loads(path.read_text(encoding="utf-8"))
            user, key = token["username"], token["key"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f'{path}: expected {{"username": .., "key": ..}} as Kaggle writes it ({error!r}); create a new token'
            ) from error
    if not (user and key):
        raise InputError(
            f"Kaggle gives these data to members only, and there is no token at {path}.\n"
            f"On kaggle.com choose Settings, API, Create New Token; save it as {path} (or set KAGGLE_USERNAME and KAGGLE_KEY); "
            f"accept the rules at {archive.rules}; then run the command again."
        )
    return "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()


def _fetch(url: str, part: Path, authorization: str | None = None) -> None:
    """Download `url` into `part`, continuing an earlier download, with retries if the connection breaks."""
    for attempt in range(1, TRIES + 1):
        try:
            if _continue_download(url, part, authorization):
                return
            reason: object = "the connection closed early"
        except urllib.error.HTTPError as error:
            if error.code in {401, 403} and authorization:
                raise InputError(
                    f"{url}: Kaggle answers {error.code}: the token is invalid or the rules are not accepted; "
                    "create a new token or accept the rules"
                ) from error
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
    advice = f" {part.stat().st_size:,} bytes are kept in {part}, run the command again to continue." if part.exists() else ""
    raise InputError(f"{url}: {reason}. Check the network.{advice}")


def _continue_download(url: str, part: Path, authorization: str | None) -> bool:
    """Download the missing bytes of `part` and return whether it is complete."""
    start = part.stat().st_size if part.exists() else 0
    version_file = _version_file(part)
    request = urllib.request.Request(url, headers={"User-Agent": "malaria-cells"})
    if authorization:
        request.add_unredirected_header("Authorization", authorization)  # not sent to the storage server of a redirect
    if start:
        request.add_header("Range", f"bytes={start}-")
        if version_file.exists():  # the server sends the whole archive if it has changed
            request.add_header("If-Range", version_file.read_text(encoding="utf-8"))
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # no bytes after `start`: `part` is complete or of another archive, which unpacking shows
            return True
        raise
    with response:
        is_partial = response.status == 206
        version = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if version and not version.startswith("W/"):
            version_file.write_text(version, encoding="utf-8")
        length = response.headers.get("Content-Length")
        done = start if is_partial else 0
        total = done + int(length) if length else None
        with part.open("ab" if is_partial else "wb") as file:
            done = _copy(response, file, done, total, url)
    return total is None or done == total


def _copy(response: http.client.HTTPResponse, file, done: int, total: int | None, url: str) -> int:  # type: ignore[no-untyped-def]
    """Append the body to `file`, printing the progress, and return the number of bytes that the file then has."""
    started, last_print, first = time.monotonic(), 0.0, done
    is_terminal = sys.stderr.isatty()
    while chunk := response.read(CHUNK):
        file.write(chunk)
        done += len(chunk)
        now = time.monotonic()
        if now - last_print >= (0.5 if is_terminal else 15):
            last_print = now
            rate = (done - first) / max(now - started, 1e-3)
            left = f", {(total - done) / max(rate, 1):.0f} s left" if total else ""
            size = f"{done / 1e6:,.0f}" + (f" of {total / 1e6:,.0f} MB" if total else " MB")
            line = f"{urllib.parse.urlparse(url).netloc}: {size}, {rate / 1e6:.1f} MB/s{left}"
            print(f"\r{line}   " if is_terminal else line, end="" if is_terminal else "\n", file=sys.stderr, flush=True)
    if is_terminal:
        print(file=sys.stderr)
    return done


def _unpack(part: Path, archive: Archive, folder: Path, extras: dict[str, Path]) -> None:
    """Check the archive, unpack it beside `folder`, and move the data set into place."""
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
        part.unlink()
        _version_file(part).unlink(missing_ok=True)
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


def _version_file(part: Path) -> Path:
    return part.with_suffix(".version")

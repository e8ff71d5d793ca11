"""Fetching of a file by HTTP; an interrupted download is continued, by the next call too."""

import base64
import errno
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import BinaryIO

from malaria_cells.base.errors import InputError

MIRROR = "MALARIA_CELLS_MIRROR"
CHUNK = 1 << 20  # bytes read at once
TRIES = 5
TIMEOUT = 60  # seconds without a byte
# Errors of the file that is written; those of the network have other numbers, or come as urllib's.
OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.ENOENT, errno.ENOTDIR, errno.EISDIR}


def fetch(url: str, part: Path, authorization: str | None = None) -> None:
    """Download `url`, or the mirror's file of the same path, into `part`; continue an earlier download, and retry if the connection breaks.

    Args:
        url: address of the file.
        part: file to write; beside it, a file remembers which version of the server's file it holds.
        authorization: value of the HTTP header of that name.

    Raises:
        InputError: the server refuses, or all `TRIES` failed; the bytes so far are kept.
        OSError: the file cannot be written, as on a full disk; the bytes so far are kept.
    """
    mirror = os.environ.get(MIRROR)
    url = mirror.rstrip("/") + urllib.parse.urlparse(url).path if mirror else url
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
            if getattr(error, "errno", None) in OF_THE_DISK:
                raise
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


def _copy(response: http.client.HTTPResponse, file: BinaryIO, done: int, total: int | None, url: str) -> int:
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


def discard(part: Path) -> None:
    """Remove a fetched file and what remembers its version."""
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _version_file(part: Path) -> Path:
    return part.with_suffix(".version")


def kaggle_authorization(rules: str) -> str:
    """The HTTP basic authorization for Kaggle, from the environment or the token file.

    Raises:
        InputError: there is no token, or it is damaged; the message names the page `rules`.
    """
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
            f"accept the rules at {rules}; then run the command again."
        )
    return "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()

"""The name of an image from the ways in which Label Studio refers to one."""

import base64
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.shapes import is_file
from malaria_cells.data.images import is_image

_USUAL_KEYS = ("image", "img", "picture", "photo", "image_url", "url")
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")  # the prefix that keeps uploaded files of one name apart


def image_name(annotation: Path, data: dict[str, Any]) -> str:
    """The image's path; one that is absolute has a root that is not known here.

    Args:
        annotation: the exported file. An image beside it may keep the prefix that Label Studio gives to uploads, as in
            ``ab12cd34-name.jpg``; where there is none of that name, the prefix is left out.
        data: the task's data, of which one value refers to the image.

    Raises:
        InputError: no value, or several, may be an image.
    """
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value}
    usual = next((key for key in _USUAL_KEYS if key in texts), None)
    fitting = [usual] if usual else [key for key, value in texts.items() if is_image(Path(_path(value)))]
    if len(fitting) != 1:
        raise InputError(f"{annotation}: a task has the data {excerpt(data, 120)}; expected the image's path under the key `image`")
    name = _path(texts[fitting[0]])
    if not name.strip("/") or len(name) > 4096:
        raise InputError(f"{annotation}: a task has the image {excerpt(texts[fitting[0]])}; expected its path or address")
    folder, slash, own = name.rpartition("/")
    if _UPLOADED.match(own) and "/upload" in f"/{folder}/":
        beside = annotation.parent
        kept = any(is_file(beside / place / own) for place in (".", "images", folder.lstrip("/")))
        return own if kept else _UPLOADED.sub("", own)
    return folder + slash + own


def _path(reference: str) -> str:
    """The path in a reference: of an address without its host, of local storage below its root, of cloud storage below its bucket."""
    try:
        parts = urlsplit(reference)
        asked = parse_qs(parts.query)
    except ValueError:  # brackets that are no IPv6 address
        return reference
    if "d" in asked and "local-files" in parts.path:
        return "/" + asked["d"][0].lstrip("/")
    if "fileuri" in asked:  # cloud storage behind Label Studio: the address in base 64
        try:
            return _path(base64.b64decode(asked["fileuri"][0], validate=True).decode())
        except (ValueError, RecursionError):
            return reference
    if len(parts.scheme) > 1 and (parts.netloc or parts.scheme == "data"):
        return "" if parts.scheme == "data" else unquote(parts.path)
    return unquote(parts.path) if reference.startswith("/data/") else reference

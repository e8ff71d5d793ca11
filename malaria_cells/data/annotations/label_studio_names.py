"""Image paths from the references in Label Studio's tasks: URLs, uploads, local and cloud storage."""

import base64
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.shapes import is_file
from malaria_cells.data.images import is_image

_IMAGE_KEYS = ("image", "img", "picture", "photo", "image_url", "url")
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")  # prefix that makes the names of uploaded files unique


def image_name(annotation: Path, data: dict[str, Any]) -> str:
    """The image's path. An absolute path is relative to an unknown root on Label Studio's machine.

    Args:
        annotation: path of the exported file. The prefix that Label Studio gives to uploads, as in ``ab12cd34-name.jpg``, is removed
            unless there is an image with that prefix beside this file.
        data: data of the task, of which one value refers to the image.

    Raises:
        InputError: no value, or more than one, may refer to an image.
    """
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value}
    image_key = next((key for key in _IMAGE_KEYS if key in texts), None)
    keys = [image_key] if image_key else [key for key, value in texts.items() if is_image(Path(_path(value)))]
    if len(keys) != 1:
        raise InputError(f"{annotation}: a task has the data {excerpt(data, 120)}; expected the image's path under the key `image`")
    name = _path(texts[keys[0]])
    if not name.strip("/") or len(name) > 4096:
        raise InputError(f"{annotation}: a task has the image {excerpt(texts[keys[0]])}; expected its path or address")
    folder, _, file_name = name.rpartition("/")
    if _UPLOADED.match(file_name) and "/upload" in f"/{folder}/":
        exists = any(is_file(annotation.parent / place / file_name) for place in (".", "images", folder.lstrip("/")))
        return file_name if exists else _UPLOADED.sub("", file_name)
    return name


def _path(reference: str) -> str:
    """The path in a reference: of a URL without the host, of local storage below its root, of cloud storage below its bucket."""
    try:
        parts = urlsplit(reference)
        query = parse_qs(parts.query)
    except ValueError:  # the reference has brackets that are not an IPv6 address
        return reference
    if "d" in query and "local-files" in parts.path:
        return "/" + query["d"][0].lstrip("/")
    if "fileuri" in query:  # URL in cloud storage, encoded in base 64
        try:
            return _path(base64.b64decode(query["fileuri"][0], validate=True).decode())
        except (ValueError, RecursionError):
            return reference
    if len(parts.scheme) > 1 and (parts.netloc or parts.scheme == "data"):
        return "" if parts.scheme == "data" else unquote(parts.path)
    return unquote(parts.path) if reference.startswith("/data/") else reference

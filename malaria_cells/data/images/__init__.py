"""Reads image files of any supported format as upright uint8 RGB, and lists the images of a folder."""

from malaria_cells.data.images.large import LargeImage, as_large
from malaria_cells.data.images.listing import list_images
from malaria_cells.data.images.names import SUFFIXES, UNREADABLE_SUFFIXES, is_image
from malaria_cells.data.images.opening import open_image
from malaria_cells.data.images.reading import image_size, is_read_alike, read_image, stored_turn
from malaria_cells.data.images.refusal import LARGE_PIXELS
from malaria_cells.data.images.walking import walk_files

__all__ = [
    "LARGE_PIXELS",
    "SUFFIXES",
    "UNREADABLE_SUFFIXES",
    "LargeImage",
    "as_large",
    "image_size",
    "is_image",
    "is_read_alike",
    "list_images",
    "open_image",
    "read_image",
    "stored_turn",
    "walk_files",
]

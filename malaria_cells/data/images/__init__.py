"""Reads image files of any supported format as upright uint8 RGB, and lists the images of a folder."""

from malaria_cells.data.images.listing import list_images
from malaria_cells.data.images.names import SUFFIXES, UNREADABLE_SUFFIXES, is_image
from malaria_cells.data.images.reading import image_size, is_read_alike, read_image, stored_turn
from malaria_cells.data.images.walking import walk_files

__all__ = [
    "SUFFIXES",
    "UNREADABLE_SUFFIXES",
    "image_size",
    "is_image",
    "is_read_alike",
    "list_images",
    "read_image",
    "stored_turn",
    "walk_files",
]

"""The one reader of pictures: upright uint8 RGB, whatever is on disk; and which files of a folder are pictures."""

from malaria_cells.data.images.listing import list_pictures
from malaria_cells.data.images.names import SUFFIXES, UNREADABLE_SUFFIXES, is_picture
from malaria_cells.data.images.reading import is_read_alike, picture_size, read_picture, stored_turn
from malaria_cells.data.images.walking import walk_files

__all__ = [
    "SUFFIXES",
    "UNREADABLE_SUFFIXES",
    "is_picture",
    "is_read_alike",
    "list_pictures",
    "picture_size",
    "read_picture",
    "stored_turn",
    "walk_files",
]

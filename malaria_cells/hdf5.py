"""Looks at an HDF5 file of weights before its content is read: HDF5 may point at other files, and declare arrays of any size."""

from typing import Any

from malaria_cells.errors import InputError

SIGNATURE = b"\x89HDF\r\n\x1a\n"  # the first bytes of an HDF5 file
MAX_EXPANSION = 1100  # bytes of an array by the bytes that hold it; deflate reaches 1,032
SMALL = 2**16  # bytes that an array may have without any being stored
MAX_OBJECTS = 200_000  # groups and arrays; the largest of keras.applications has about 10,000


def check_hdf5(file: Any) -> int:
    """Refuse a file that points at other files, or declares more than it holds.

    Args:
        file: an open `h5py.File` or group.

    Returns:
        The number of values in all of its arrays.

    Raises:
        InputError: such a file. The message does not name it.
    """
    import h5py

    values = objects = 0

    def look(name: str, link: Any) -> None:
        nonlocal values, objects
        objects += 1
        if objects > MAX_OBJECTS:
            raise InputError(f"holds more than {MAX_OBJECTS:,} groups and arrays, which no network has")
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"its '{name[:60]}' is a link to another place or file; expected a network's weights themselves")
        found = file[name]
        if isinstance(found, h5py.Dataset):
            values += _checked_values(found, name[:60])

    file.visititems_links(look)
    return values


def _checked_values(array: Any, name: str) -> int:
    if array.external or array.is_virtual:
        raise InputError(f"the values of its '{name}' are in another file; expected a network's weights themselves")
    size = int(array.size or 0)
    if size * array.dtype.itemsize > max(SMALL, MAX_EXPANSION * array.id.get_storage_size()):
        raise InputError(f"its '{name}' declares {size:,} values and does not hold them; it is damaged or was made to do harm")
    return size

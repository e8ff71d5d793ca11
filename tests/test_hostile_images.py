"""Broken and malicious images: an array or one sentence that names the file, soon and in little memory."""

import io
import random
import struct
import time
import tracemalloc

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from malaria_cells.base.errors import InputError
from malaria_cells.data.images import image_size, read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 30, 3), dtype=np.uint8)


def tiff(pixels=PIXELS, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def pillow(format_name, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(buffer, format_name, **options)
    return buffer.getvalue()


def sources():
    grey = PIXELS[..., 0]
    yield from (
        tiff(photometric="rgb", **options)
        for options in (
            {},
            {"bigtiff": True},
            {"byteorder": ">"},
            {"compression": "lzw", "predictor": True},
            {"compression": "jpeg", "tile": (16, 16)},
            {"compression": "deflate", "tile": (16, 16)},
            {"compression": "jpeg2000"},
            {"compression": "webp"},
            {"compression": "zstd"},
            {"compression": "packbits", "rowsperstrip": 5},
            {"ome": True},
        )
    )
    yield tiff(grey, photometric="palette", colormap=np.arange(768, dtype=np.uint16).reshape(3, 256) * 85)
    yield tiff(grey.astype(np.uint16) * 257, photometric="miniswhite")
    yield tiff(np.moveaxis(PIXELS, 2, 0), photometric="rgb", planarconfig="separate", compression="lzma")
    yield tiff(grey, imagej=True)
    yield tiff(np.stack([PIXELS] * 3), photometric="rgb")
    yield tiff(np.dstack([PIXELS, grey]), photometric="separated")
    yield from (pillow("TIFF", "1", compression=c) for c in ("group3", "group4"))
    yield from (pillow("TIFF", "YCbCr", compression=c) for c in (None, "jpeg"))
    yield from (pillow(format_name) for format_name in ("JPEG", "PNG", "BMP", "WEBP", "GIF", "JPEG2000"))
    yield pillow("JPEG", "CMYK")
    yield pillow("PNG", "P", transparency=3)


def outcome(reader, path):
    try:
        return reader(path)
    except InputError as error:
        return str(error)


def damaged(content, rng):
    data = bytearray(content)
    kind = rng.randrange(5)
    if kind == 0:
        del data[rng.randrange(4, len(data)) :]
    elif kind == 1:
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == 2:
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(min(300, len(data)))] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    elif kind == 3:
        numbers = [0, 1, 2**31 - 1, 2**32 - 1, 10**9, 65536, rng.randrange(len(data))]
        struct.pack_into("<I", data, rng.randrange(len(data) - 4), rng.choice(numbers))
    else:
        start, place = rng.randrange(len(data)), rng.randrange(len(data))
        data[place:place] = data[start : start + rng.randrange(1, 40)]
    return bytes(data)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("number", range(len(list(sources()))))
def test_whatever_is_damaged_an_array_or_a_sentence_comes_out(tmp_path, number):
    rng = random.Random(number)
    content = list(sources())[number]
    path = tmp_path / "p.tif"
    for _ in range(40):
        path.write_bytes(damaged(content, rng))
        size, found = outcome(image_size, path), outcome(read_image, path)
        if isinstance(found, str):
            assert found.startswith(f"{path}: ")
            continue
        assert found.dtype == np.uint8
        assert found.shape == (size[1], size[0], 3)


@pytest.mark.parametrize(
    "options", [{}, {"compression": "lzw"}, {"compression": "jpeg"}, {"compression": "deflate", "tile": (16, 16)}], ids=str
)
def test_a_tiff_that_is_cut_off_is_refused_or_whole(tmp_path, options):
    content = tiff(photometric="rgb", **options)
    path = tmp_path / "p.tif"
    path.write_bytes(content)
    whole = read_image(path)
    for length in range(8, len(content), 37):
        path.write_bytes(content[:length])
        try:
            found = read_image(path)
        except InputError:
            continue
        np.testing.assert_array_equal(found, whole)


def patched(content, **values):
    """A TIFF of ours whose tags are given other values."""
    data = bytearray(content)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        for name, value in values.items():
            tag = file.pages[0].tags[name]
            struct.pack_into("<H" if tag.dtype == 3 else "<I", data, tag.valueoffset, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ImageWidth": 10**9, "ImageLength": 10**9}, "1000000000 x 1000000000 pixels; the limit is"),
        ({"ImageWidth": 20_000, "ImageLength": 20_000}, "the image is broken"),
        ({"ImageWidth": 0}, "the image is broken"),
        ({"ImageLength": 399_999_999, "ImageWidth": 1}, "the image is broken"),
        ({"RowsPerStrip": 0}, "the image is broken|a stack"),
        ({"SamplesPerPixel": 60_000}, "a TIFF of a kind that cannot be read|the image is broken"),
        ({"StripOffsets": 2**31}, "the image is broken .cut off"),
        ({"Compression": 60_000}, "a TIFF compressed by number 60000, which cannot be read; export it"),
        ({"PhotometricInterpretation": 999}, "a TIFF of a kind that cannot be read .its colours are 999.; export it as RGB"),
    ],
    ids=str,
)
def test_headers_that_claim_too_much_are_refused_at_once(tmp_path, change, message):
    path = tmp_path / "p.tif"
    path.write_bytes(patched(tiff(photometric="rgb", metadata=None), **change))
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(InputError, match=message):
        read_image(path)
    assert time.process_time() - began < 5
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_pages_that_run_in_a_circle_or_are_missing_are_refused(tmp_path):
    for offset, message in ((None, "its list of pages is circular"), (2**30, "a page is missing")):
        content = bytearray(tiff(photometric="rgb", metadata=None))
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            where, first = file.pages.next_page_offset, file.pages[0].offset
        struct.pack_into("<I", content, where, first if offset is None else offset)
        (tmp_path / "p.tif").write_bytes(content)
        for reader in (read_image, image_size):
            with pytest.raises(InputError, match=message):
                reader(tmp_path / "p.tif")


def test_a_stack_of_thousands_is_counted_no_further_than_needed(tmp_path):
    tifffile.imwrite(tmp_path / "p.tif", np.zeros((1200, 2, 2), np.uint8), photometric="minisblack", metadata=None)
    with pytest.raises(InputError, match="a stack of 1,000 or more pages of 2 x 2 pixels"):
        image_size(tmp_path / "p.tif")


@pytest.mark.skipif(not hasattr(__import__("os"), "mkfifo"), reason="a system without such files")
def test_what_is_no_file_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "p.jpg")
    with pytest.raises(InputError, match=r"p\.jpg: is not a regular file; name an image"):
        read_image(tmp_path / "p.jpg")


@pytest.mark.parametrize("format_name", ["tif", "jp2"])
def test_a_few_bytes_of_jpeg_2000_do_not_unfold_into_gigabytes(tmp_path, format_name):
    deep = np.zeros((16, 16), np.uint16) + 60_000
    whole = (
        tiff(deep, photometric="minisblack", compression="jpeg2000")
        if format_name == "tif"
        else imagecodecs.jpeg2k_encode(deep, codecformat="jp2")
    )
    path = tmp_path / f"p.{format_name}"
    path.write_bytes(whole)
    assert read_image(path).shape == (16, 16, 3)
    content = bytearray(whole)
    start = content.index(b"\xff\x4f\xff\x51")
    for place in (8, 12, 24, 28):  # right, bottom, and the tile's
        struct.pack_into(">I", content, start + place, 60_000)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"another size than declared|two sizes"):
        read_image(path)

"""Images whose regions are read: the pixels of the whole image, bounded memory and disk, and errors that name the file."""

import io
import shutil
import struct
import zlib
from collections import namedtuple

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from malaria_cells.base.errors import InputError
from malaria_cells.data.images import LargeImage, as_large, listing, open_image, read_image, slides
from malaria_cells.data.patches import crop_boxes, crops_of_file
from malaria_cells.data.stain import Stain

SIZE_WH = (333, 301)


@pytest.fixture(scope="module")
def smooth():
    """An image that JPEG stores well, with colours of all kinds."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    return cv2.resize(noise, SIZE_WH, interpolation=cv2.INTER_CUBIC)


TIFFS = {
    "tiles, JPEG": {"tile": (64, 48), "compression": "jpeg", "photometric": "rgb", "subsampling": (2, 2)},
    "tiles, JPEG in RGB": {"tile": (64, 64), "compression": "jpeg", "photometric": "rgb"},
    "tiles, LZW": {"tile": (128, 128), "compression": "lzw", "photometric": "rgb"},
    "tiles, a predictor": {"tile": (128, 128), "compression": "zlib", "predictor": True, "photometric": "rgb"},
    "tiles, no compression": {"tile": (64, 64), "photometric": "rgb"},
    "strips, LZW": {"rowsperstrip": 17, "compression": "lzw", "photometric": "rgb"},
    "one strip, Deflate": {"rowsperstrip": 301, "compression": "zlib", "photometric": "rgb"},
    "one strip, no compression": {"photometric": "rgb"},
    "turned": {"tile": (64, 64), "photometric": "rgb", "extratags": [(274, "H", 1, 6)]},
}


def assert_same_regions(path, whole):
    """Any region, and the gathered overview, are those of the whole image."""
    large = open_image(path, large_from=0)
    assert isinstance(large, LargeImage)
    assert large.shape == whole.shape
    height, width = whole.shape[:2]
    for left, top, right, bottom in [(0, 0, width, height), (0, 0, 1, 1), (width - 1, height - 1, width, height), (50, 61, 190, 129)]:
        assert np.array_equal(large.read(left, top, right - left, bottom - top), whole[top:bottom, left:right])
    large.close()
    assert np.array_equal(large.read(3, 5, 7, 9), whole[5:14, 3:10])  # it is opened again
    large.close()


@pytest.mark.parametrize("kind", TIFFS)
def test_regions_of_a_tiff_are_those_of_the_whole(tmp_path, smooth, kind):
    tifffile.imwrite(tmp_path / "a.tif", smooth, **TIFFS[kind])
    assert_same_regions(tmp_path / "a.tif", read_image(tmp_path / "a.tif"))


def test_regions_of_grey_inks_and_palettes_are_those_of_the_whole(tmp_path, smooth):
    tile = {"tile": (64, 64), "compression": "zlib"}
    tifffile.imwrite(tmp_path / "grey.tif", smooth[..., 0], photometric="minisblack", **tile)
    tifffile.imwrite(tmp_path / "white is 0.tif", smooth[..., 0], photometric="miniswhite", **tile)
    tifffile.imwrite(tmp_path / "cmyk.tif", np.dstack([smooth, smooth[..., 0]]), photometric="separated", **tile)
    table = np.random.default_rng(1).integers(0, 65536, (3, 256), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "palette.tif", smooth[..., 0], photometric="palette", colormap=table, **tile)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 4
    for path in paths:
        assert_same_regions(path, read_image(path))


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_regions_of_a_jpeg_are_upright(tmp_path, smooth, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=92, exif=exif)
    assert_same_regions(tmp_path / "a.jpg", read_image(tmp_path / "a.jpg"))


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"subsampling": 2, "restart_marker_rows": 1}])
def test_regions_of_other_jpegs_and_of_png_are_those_of_the_whole(tmp_path, smooth, options):
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=85, **options)
    Image.fromarray(smooth).save(tmp_path / "a.png")
    for name in ("a.jpg", "a.png"):
        assert_same_regions(tmp_path / name, read_image(tmp_path / name))


def test_what_is_judged_by_the_whole_image_is_read_whole(tmp_path, smooth):
    deep = smooth.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb", tile=(64, 64))
    tifffile.imwrite(tmp_path / "alpha.tif", np.dstack([smooth, smooth[..., 0] | 128]), photometric="rgb", extrasamples=["unassalpha"])
    tifffile.imwrite(tmp_path / "planes.tif", np.moveaxis(smooth, 2, 0), photometric="rgb", planarconfig="separate", tile=(64, 64))
    Image.fromarray(smooth[..., 0]).save(tmp_path / "grey.jpg")
    Image.fromarray(np.dstack([smooth, smooth[..., 0] | 128])).save(tmp_path / "alpha.png")
    Image.fromarray(smooth).save(tmp_path / "a.bmp")
    for path in tmp_path.iterdir():
        image = open_image(path, large_from=0)
        assert isinstance(image, np.ndarray), path
        assert np.array_equal(image, read_image(path))


def test_small_images_are_arrays(tmp_path, smooth):
    tifffile.imwrite(tmp_path / "a.tif", smooth, photometric="rgb", tile=(64, 64))
    assert np.array_equal(open_image(tmp_path / "a.tif"), smooth)
    assert isinstance(open_image(tmp_path / "a.tif", large_from=SIZE_WH[0] * SIZE_WH[1]), np.ndarray)


@pytest.mark.parametrize("shape_hw", [(2560, 3072), (5001, 2999), (200, 9001)])
def test_one_pass_gathers_the_sample_of_the_stain_and_a_reduced_image(shape_hw):
    image = np.random.default_rng(0).integers(0, 256, (*shape_hw, 3), dtype=np.uint8)
    overview = as_large(image).overview
    step = max(int(np.sqrt(shape_hw[0] * shape_hw[1] / 60_000)), 1)
    assert np.array_equal(overview.sample, image[::step, ::step])
    of_sample, of_whole = Stain.of_sample(overview.sample), Stain.of(image)
    assert np.array_equal(of_sample.white, of_whole.white)
    assert np.array_equal(of_sample.density, of_whole.density)
    halved = image
    while max(halved.shape[:2]) // 2 >= 1280:
        height, width = (n // 2 for n in halved.shape[:2])
        halved = cv2.resize(halved[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    assert np.array_equal(overview.reduced, halved)


def test_crops_of_a_large_file_are_those_of_the_whole_also_at_its_border(tmp_path, smooth, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", smooth, photometric="rgb", tile=(64, 64))
    boxes = np.array([[0, 0, 40, 30], [300, 280, 333, 301], [100, 100, 160, 170], [0, 150, 20, 201]], np.float32)
    expected = crop_boxes(smooth, boxes, 2.0, (32, 32))
    monkeypatch.setattr("malaria_cells.data.images.opening.LARGE_PIXELS", 0)
    assert np.array_equal(crops_of_file(tmp_path / "a.tif", boxes, 2.0, (32, 32)), expected)


def refusal(path, large_from=0):
    def read():
        return open_image(path, large_from).read(0, 0, 1, 1)

    with pytest.raises(InputError) as caught:
        read()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


@pytest.mark.parametrize("cut", [2, 20, 5000])
def test_a_jpeg_that_is_cut_off_is_refused_as_by_the_reader_of_whole_images(tmp_path, smooth, cut):
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, format="JPEG", quality=95)
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue()[:-cut])
    assert "cut off" in refusal(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="truncated"):
        read_image(tmp_path / "a.jpg")


def test_a_png_or_tiff_that_is_cut_off_is_refused(tmp_path, smooth):
    Image.fromarray(smooth).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", smooth, photometric="rgb", tile=(64, 64), compression="zlib")
    for name in ("a.png", "a.tif"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        assert "broken" in refusal(tmp_path / name)


def png(width, height, rows=0):
    """A PNG that declares a size and holds that many rows, uncompressed."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    chunks = {
        b"IHDR": struct.pack(">II5B", width, height, 8, 2, 0, 0, 0),
        b"IDAT": zlib.compress(bytes(rows * (3 * width + 1)), 0),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks.items())


def test_a_header_of_more_than_the_bytes_can_hold_is_refused_before_anything_is_decoded(tmp_path, smooth):
    (tmp_path / "a.png").write_bytes(png(60_000, 60_000))
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, format="JPEG")
    content = bytearray(buffer.getvalue())
    at = content.find(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", 65_000, 65_000)
    (tmp_path / "a.jpg").write_bytes(content)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        one = np.zeros((16, 16, 3), np.uint8)
        writer.write(iter([one]), shape=(16, 16, 3), dtype=np.uint8, tile=(16, 16), photometric="rgb", compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(60_000)
        tiff.pages[0].tags["ImageLength"].overwrite(60_000)
    for name in ("a.png", "a.jpg", "a.tif"):
        assert "cannot be in" in refusal(tmp_path / name)


def test_a_large_header_over_few_pixels_reserves_disk_but_no_memory_and_is_refused(tmp_path):
    """20,000 x 20,000 pixels, for which the file has bytes enough, but not the right ones."""
    (tmp_path / "a.png").write_bytes(png(20_000, 20_000, rows=10))
    message = refusal(tmp_path / "a.png", None)
    assert "broken" in message or "no room" in message


def test_a_long_strip_of_pixels_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(png(2_000_000, 60, rows=1))
    assert "has sides of 64 to 500,000 pixels" in refusal(tmp_path / "a.png")


def test_a_disk_without_room_is_said_before_anything_is_decoded(tmp_path, smooth, monkeypatch):
    Image.fromarray(smooth).save(tmp_path / "a.jpg")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "total used free")(10, 9, 1))
    assert "set TMPDIR to a folder of another disk" in refusal(tmp_path / "a.jpg")


def test_images_of_other_kinds_keep_their_limit(tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "a.bmp")
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    content[18:26] = struct.pack("<ii", 25_000, 25_000)
    (tmp_path / "a.bmp").write_bytes(content + bytes(1_000_000))
    assert "held whole, up to 400,000,000 pixels; save it as a TIFF with tiles" in refusal(tmp_path / "a.bmp", None)


def test_a_file_that_vanishes_is_an_error_of_that_file(tmp_path, smooth):
    tifffile.imwrite(tmp_path / "a.tif", smooth, photometric="rgb", tile=(64, 64))
    large = open_image(tmp_path / "a.tif", 0)
    (tmp_path / "a.tif").unlink()
    with pytest.raises(InputError, match=r"a\.tif: no such image"):
        large.read(0, 0, 10, 10)


def test_a_slide_is_opened_by_its_library_and_listed_for_detection(tmp_path, smooth):
    pytest.importorskip("openslide")
    tifffile.imwrite(tmp_path / "a.tif", smooth, photometric="rgb", tile=(64, 64), compression="zlib")
    (tmp_path / "a.tif").rename(tmp_path / "a.scn")
    assert_same_regions(tmp_path / "a.scn", smooth)
    assert listing.list_images(tmp_path, slides=True)[1] == ["a.scn"]
    with pytest.raises(InputError, match="found no image"):
        listing.list_images(tmp_path)
    (tmp_path / "b.ndpi").write_bytes(b"no slide at all")
    assert "OpenSlide cannot read it" in refusal(tmp_path / "b.ndpi")


def test_without_the_library_a_slide_names_it(tmp_path, monkeypatch):
    (tmp_path / "a.mrxs").write_bytes(b"slide")
    monkeypatch.setattr(slides, "reads_slides", lambda: False)
    assert "pip install 'malaria-cells[slides]'" in refusal(tmp_path / "a.mrxs")

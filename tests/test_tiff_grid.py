"""Every kind of TIFF comes out as the numbers that were written, or is refused with what to export; never wrong."""

import itertools
from typing import NamedTuple

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from malaria_cells.base.errors import InputError
from malaria_cells.data.images import image_size, read_image

HEIGHT, WIDTH = 21, 37
COLOURS = {"minisblack": 1, "miniswhite": 1, "palette": 1, "rgb": 3, "ycbcr": 3, "separated": 4}
LOSSLESS = (None, "lzw", "deflate", "packbits", "zstd", "lzma")
OF_IMAGES = ("jpeg", "jpeg2000", "webp")
NOT_READ = ("jpegxr", "jpegxl", "lerc", "png")
UNDO = {  # how an upright image is stored for each orientation
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a, 3),
}


class Cell(NamedTuple):
    photometric: str
    compression: str | None
    bits: int | str
    planes: str
    tiled: bool
    order: str
    orientation: int


def ramps(height=HEIGHT, width=WIDTH):
    """Smooth colours, dark and bright, that no two channels fraction; float RGB from 0 to 255."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / (width - 1), 60 + 150 * y / height, 230 - 120 * (x + y) / (width + height)], axis=-1)


def written(cell):
    """What to write (H, W, C), and the float RGB that it means."""
    peak = {"f4": 65535, "f2": 1}.get(cell.bits) or 2 ** min(cell.bits, 16) - 1
    colours = ramps()
    if cell.photometric == "separated":
        colours = np.dstack([colours, colours[..., :1] * 0.3])
    colours = colours[..., : COLOURS[cell.photometric]] / 255
    exact = colours * peak
    kind = {1: bool, 2: np.uint8, 4: np.uint8, 8: np.uint8, 10: np.uint16, 12: np.uint16, 16: np.uint16, 32: np.uint32}.get(
        cell.bits, cell.bits
    )
    values = (exact if isinstance(cell.bits, str) else np.rint(exact)).astype(kind)
    part = values.astype(float) / peak
    meant = {
        "minisblack": lambda: np.repeat(part, 3, axis=2),
        "miniswhite": lambda: np.repeat(1 - part, 3, axis=2),
        "rgb": lambda: part,
        "separated": lambda: (1 - part[..., :3]) * (1 - part[..., 3:]),
        "ycbcr": lambda: from_ycbcr(part),
        "palette": lambda: palette(cell.bits)[1][values[..., 0].astype(int)] / 255,
    }
    return values, meant[cell.photometric]() * 255


def from_ycbcr(part):
    y, cb, cr = part[..., 0], part[..., 1] - 128 / 255, part[..., 2] - 128 / 255
    return np.clip(np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1), 0, 1)


def palette(bits):
    """A table of colours as TIFF has it, 16 bits, and as it is meant."""
    table = np.random.default_rng(0).integers(0, 256, (3, 2**bits))
    return (table * 257).astype(np.uint16), table.T


def write(path, cell, values):
    stored = np.ascontiguousarray(UNDO[cell.orientation](values))
    tags = [(274, "H", 1, cell.orientation, True)]
    options = {"tile": (16, 32)} if cell.tiled else {"rowsperstrip": 8}
    if cell.photometric == "ycbcr":
        tags.append((530, "H", 2, (1, 1), True))
        options["subsampling"] = (1, 1)
    if cell.photometric == "palette":
        options["colormap"] = palette(cell.bits)[0]
    if stored.shape[2] == 1:
        stored = stored[..., 0]
    else:
        options["planarconfig"] = cell.planes
        stored = np.moveaxis(stored, 2, 0) if cell.planes == "separate" else stored
    if cell.bits in (2, 4, 10, 12):
        options["bitspersample"] = cell.bits
    if cell.compression in ("lzw", "deflate", "zstd", "lzma") and cell.bits in (8, 16) and cell.tiled:
        options["predictor"] = True
    compression = "none" if cell.compression is None else cell.compression
    tifffile.imwrite(
        path, stored, photometric=cell.photometric, compression=compression, byteorder=cell.order, metadata=None, extratags=tags, **options
    )


def writers_of_the_library_are_wrong(cell):
    """Numbers that tifffile itself writes otherwise than it is told, as its own reader and others show."""
    packed = cell.bits in (10, 12) or (cell.bits == 16 and cell.compression in OF_IMAGES)
    return (cell.order == ">" and packed) or (cell.compression == "jpeg" and (cell.bits != 8 or cell.photometric in ("palette", "ycbcr")))


def cells(photometric, compression):
    bits = (2, 4, 8) if photometric == "palette" else (1, 2, 4, 8, 10, 12, 16, 32, "f2", "f4")
    if compression in (*NOT_READ, "zstd", "lzma"):
        bits = (8,)
    planes = ("contig",) if COLOURS[photometric] == 1 else ("contig", "separate")
    for number, (b, p, t, o) in enumerate(itertools.product(bits, planes, (False, True), "<>")):
        cell = Cell(photometric, compression, b, p, t, o, 1 + number % 8)
        if not writers_of_the_library_are_wrong(cell):
            yield cell


def must_be_read(cell):
    if cell.photometric == "palette":
        return cell.bits in (2, 4, 8) and cell.compression in LOSSLESS
    if cell.photometric == "ycbcr":
        return cell.bits == 8 and cell.compression in LOSSLESS
    return (cell.compression in LOSSLESS and cell.bits in (8, 12, 16)) or (cell.compression in OF_IMAGES and cell.bits == 8)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("compression", [*LOSSLESS, *OF_IMAGES, *NOT_READ])
@pytest.mark.parametrize("photometric", list(COLOURS))
def test_every_cell_is_right_or_refused(tmp_path, photometric, compression):
    wrong, refused = [], []
    path = tmp_path / "cell.tif"
    for cell in cells(photometric, compression):
        values, meant = written(cell)
        try:
            write(path, cell, values)
        except (ValueError, TypeError, NotImplementedError, KeyError, RuntimeError):
            continue  # there is no such TIFF
        try:
            found = read_image(path)
        except InputError as error:
            refused.append(cell)
            if "export" not in str(error):
                wrong.append((cell, str(error)))
            continue
        size = image_size(path)
        off = np.abs(found - meant) if found.shape == meant.shape else np.array([np.inf])
        if size != (WIDTH, HEIGHT) or (off.mean() > 6 if compression == "jpeg" else off.max() > 1.5):
            wrong.append((cell, size, off.max()))
    assert not wrong
    assert not [cell for cell in refused if must_be_read(cell)]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha", "unspecified"])
def test_transparency_is_laid_on_white(tmp_path, bits, planes, colours, kind):
    peak = 2**bits - 1
    opacity = np.linspace(0, 1, WIDTH)[None, :, None].repeat(HEIGHT, axis=0)
    part = ramps()[..., :colours] / 255
    values = np.dstack([part * opacity if kind == "assocalpha" else part, opacity])
    values = np.rint(values * peak).astype(f"u{bits // 8}")
    stored = np.moveaxis(values, 2, 0) if planes == "separate" else values
    photometric = "rgb" if colours == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "p.tif", stored, photometric=photometric, planarconfig=planes, extrasamples=[kind], metadata=None)
    if kind == "unspecified" and colours == 1:
        with pytest.raises(InputError, match=r"its 2 colour channels are grey values of one page.*merge the channels to RGB"):
            read_image(tmp_path / "p.tif")
        return
    meant = 255 * (part if kind == "unspecified" else part * opacity + 1 - opacity)
    np.testing.assert_allclose(read_image(tmp_path / "p.tif"), np.broadcast_to(meant, (HEIGHT, WIDTH, 3)), atol=1.3)


@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_grey_channels_of_one_page_are_to_be_merged(tmp_path, planes):
    stored = ramps().astype(np.uint8)
    stored = np.moveaxis(stored, 2, 0) if planes == "separate" else stored
    tifffile.imwrite(tmp_path / "p.tif", stored, photometric="minisblack", planarconfig=planes, metadata=None)
    with pytest.raises(InputError, match=r"its 3 colour channels are grey values of one page.*merge the channels to RGB"):
        read_image(tmp_path / "p.tif")


@pytest.mark.parametrize("writer", ["ome", "imagej"])
@pytest.mark.parametrize(
    ("axes", "advice"),
    [
        ("CYX", r"its 3 colour channels are separate pages \(3 pages of 37 x 21 pixels\); merge the channels to RGB"),
        ("ZYX", r"a stack of 3 pages of 37 x 21 pixels; save each as a separate image"),
        ("TYX", r"a stack of 3 pages of 37 x 21 pixels; save each as a separate image"),
        ("ZCYX", r"its 3 colour channels are separate pages \(6 pages of 37 x 21 pixels\); merge the channels to RGB"),
        ("ZYXS", r"a stack of 2 pages of 37 x 21 pixels; save each as a separate image"),
    ],
)
def test_channels_are_to_be_merged_and_stacks_to_be_taken_apart(tmp_path, writer, axes, advice):
    page = ramps().astype(np.uint8)
    shape = {"ZCYX": (2, 3), "ZYXS": (2,)}.get(axes, (3,))
    values = np.broadcast_to(page if axes.endswith("S") else page[..., 0], (*shape, *page.shape[: len(axes) - len(shape)])).copy()
    options = {"ome": {"ome": True, "photometric": "rgb" if axes.endswith("S") else "minisblack"}, "imagej": {"imagej": True}}[writer]
    tifffile.imwrite(tmp_path / "p.tif", values, metadata={"axes": axes}, **options)
    for reader in (read_image, image_size):
        with pytest.raises(InputError, match=advice):
            reader(tmp_path / "p.tif")


@pytest.mark.parametrize(
    "options", [{"imagej": True}, {"ome": True, "photometric": "rgb"}, {"bigtiff": True, "photometric": "rgb"}], ids=str
)
def test_one_page_in_colour_of_a_microscopes_program_is_read(tmp_path, options):
    page = ramps().astype(np.uint8)
    tifffile.imwrite(tmp_path / "p.tif", page, **options)
    np.testing.assert_array_equal(read_image(tmp_path / "p.tif"), page)


@pytest.mark.parametrize(
    "options",
    [
        {"truncate": True},
        {"volumetric": True},
        {"description": '{"truncated": true, "shape": [4, 21, 37]}', "truncate": True, "metadata": None},
    ],
    ids=str,
)
def test_a_stack_behind_one_header_is_refused(tmp_path, options):
    values = np.repeat(ramps()[None, ..., 0].astype(np.uint8), 4, axis=0)
    tifffile.imwrite(tmp_path / "p.tif", values, **({"photometric": "minisblack"} | options))
    with pytest.raises(InputError, match="a stack of 4 pages of 37 x 21 pixels"):
        read_image(tmp_path / "p.tif")


def test_channels_behind_one_header_are_refused(tmp_path):
    values = np.repeat(ramps()[None, ..., 0].astype(np.uint8), 4, axis=0)
    tifffile.imwrite(tmp_path / "p.tif", values, imagej=True, truncate=True, metadata={"axes": "CYX"})
    with pytest.raises(InputError, match=r"its 4 colour channels are separate pages \(4 pages of 37 x 21 pixels\); merge the channels"):
        read_image(tmp_path / "p.tif")


def test_the_largest_page_is_the_image_wherever_it_is(tmp_path):
    page = ramps(40, 60).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "first.tif") as tiff:
        tiff.write(page[::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
        tiff.write(page, photometric="rgb", metadata=None)
    with tifffile.TiffWriter(tmp_path / "pyramid.tif", bigtiff=True) as tiff:
        tiff.write(page, photometric="rgb", tile=(16, 16), subifds=2, metadata=None)
        tiff.write(page[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
        tiff.write(page[::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
    for name in ("first.tif", "pyramid.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name), page)
        assert image_size(tmp_path / name) == (60, 40)
    with tifffile.TiffWriter(tmp_path / "two.tif") as tiff:
        tiff.write(page, photometric="rgb", metadata=None)
        tiff.write(page[:35], photometric="rgb", metadata=None)
    with pytest.raises(
        InputError, match=r"2 pages of which none is a thumbnail \(60 x 40 pixels, 60 x 35\); save each as a separate image"
    ):
        read_image(tmp_path / "two.tif")


def test_a_raw_file_of_a_camera_is_none_of_its_previews(tmp_path):
    with tifffile.TiffWriter(tmp_path / "p.tif") as tiff:
        tiff.write(ramps(10, 20).astype(np.uint8), photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        tiff.write(ramps(40, 60)[..., 0].astype(np.uint16), photometric="cfa", metadata=None)
    with pytest.raises(InputError, match="it is a raw file of a camera; develop it"):
        read_image(tmp_path / "p.tif")


@pytest.mark.parametrize(
    ("mode", "compression"),
    [
        *itertools.product(["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB"], [None, "tiff_lzw"]),
        *itertools.product(["1"], ["group3", "group4", "tiff_ccitt"]),
        *itertools.product(["L", "RGB", "CMYK", "YCbCr", "LAB"], ["jpeg"]),
    ],
)
def test_what_another_library_writes_is_what_it_meant(tmp_path, mode, compression):
    source = Image.fromarray(ramps(24, 32).astype(np.uint8))
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(source, *profiles, outputMode="LAB")
    else:
        image = source.convert(mode, palette=Image.Palette.ADAPTIVE)
    image.save(tmp_path / "p.tif", compression=compression)
    meant = np.asarray(source if mode == "LAB" else image.convert("RGB")).astype(int)
    if (mode, compression) == ("LAB", "jpeg"):
        with pytest.raises(InputError, match="export it as RGB"):
            read_image(tmp_path / "p.tif")
        return
    off = np.abs(read_image(tmp_path / "p.tif") - meant)
    assert off.mean() < 2
    assert off.max() <= {"LAB": 30, "YCbCr": 8}.get(
        mode, 3 if compression == "jpeg" else 0
    )  # Lab of 8 bits is coarse where colours are deep


def test_palettes_of_every_scale(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    meant = np.random.default_rng(0).integers(0, 256, (256, 3))
    for factor in (1, 256, 257):
        tifffile.imwrite(tmp_path / "p.tif", values, photometric="palette", colormap=(meant.T * factor).astype(np.uint16), metadata=None)
        np.testing.assert_array_equal(read_image(tmp_path / "p.tif"), meant[values])


def test_values_of_a_camera_are_refused_in_every_colour_and_sense(tmp_path):
    values = (ramps() * 64).astype(np.uint16)  # 14 bits
    for photometric, stored in (("rgb", values), ("minisblack", values[..., 0]), ("miniswhite", values[..., 0])):
        tifffile.imwrite(tmp_path / "p.tif", stored, photometric=photometric, metadata=None)
        with pytest.raises(InputError, match="16 bits or more, but its values are so small"):
            read_image(tmp_path / "p.tif")
    tifffile.imwrite(tmp_path / "p.tif", values.astype(np.int16) - 9, photometric="rgb", metadata=None)
    with pytest.raises(InputError, match="its values go down to -9, below 0; export it with 8 bits"):
        read_image(tmp_path / "p.tif")

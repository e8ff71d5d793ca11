import subprocess
import sys
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image

from malaria_cells.base.errors import InputError
from malaria_cells.data.images import image_size, read_image


def marked(width=30, height=20):
    """Upright: red in the top left corner, blue in the bottom right one."""
    pixels = np.full((height, width, 3), 255, dtype=np.uint8)
    pixels[:5, :5] = [255, 0, 0]
    pixels[-5:, -5:] = [0, 0, 255]
    return pixels


UNDO = {  # how a camera that writes this orientation has stored an upright image
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, 3),
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(tmp_path, orientation):
    image = Image.fromarray(np.ascontiguousarray(UNDO[orientation](marked())))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "p.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "p.png"), marked())
    assert image_size(tmp_path / "p.png") == (30, 20)


def test_grey_palette_transparent_and_16_bit_become_rgb(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(marked()).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    rgba = np.zeros((4, 4, 4), dtype=np.uint8)
    rgba[:2] = [10, 20, 30, 255]
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert np.array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=2))
    assert np.array_equal(read_image(tmp_path / "palette.png"), marked())
    see_through = read_image(tmp_path / "rgba.png")
    assert see_through[0, 0].tolist() == [10, 20, 30]
    assert see_through[3, 0].tolist() == [255, 255, 255]
    assert np.array_equal(read_image(tmp_path / "deep.png")[..., 0], grey)


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 3)], ids=["grey", "colour"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_twelve_bits_saved_in_sixteen_are_refused(tmp_path, shape, suffix):
    path = tmp_path / f"camera.{suffix}"
    values = np.random.default_rng(0).integers(0, 4096, shape).astype(np.uint16)
    cv2.imwrite(str(path), values * 16)
    assert read_image(path).max() > 250
    cv2.imwrite(str(path), values)
    with pytest.raises(InputError, match=rf"camera\.{suffix}: 16 bits or more, but its values are so small .*; export it with 8 bits"):
        read_image(path)
    cv2.imwrite(str(path), (values // 300).astype(np.uint8))  # as dark, in 8 bits, is a dark image
    assert read_image(path).max() <= 15


def test_fractions_are_refused(tmp_path):
    Image.fromarray(np.random.default_rng(0).random((16, 16), dtype=np.float32)).save(tmp_path / "p.tif")
    with pytest.raises(InputError, match=r"p\.tif: 16 bits or more, but its values are so small"):
        read_image(tmp_path / "p.tif")


@pytest.mark.parametrize("values", [np.full((4, 4), 70_000, np.int32), np.array([[0, np.nan]], np.float32)], ids=["large", "nan"])
def test_values_beyond_16_bits_are_refused(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "p.tif")
    with pytest.raises(InputError, match=r"p\.tif: its values go up to (70,000|nan), over the 65,535 of 16 bits; export it with 8 bits"):
        read_image(tmp_path / "p.tif")


def test_a_stack_is_refused_and_a_scanners_smaller_pages_are_not(tmp_path):
    page = Image.fromarray(marked())
    page.save(tmp_path / "stack.tif", save_all=True, append_images=[page, page.resize((15, 10)), page])
    with pytest.raises(InputError, match=r"stack\.tif: a stack of 3 pages of 30 x 20 pixels; save each as a separate image"):
        read_image(tmp_path / "stack.tif")
    page.save(tmp_path / "scan.tif", save_all=True, append_images=[page.resize((15, 10)), page.resize((7, 5))])
    np.testing.assert_array_equal(read_image(tmp_path / "scan.tif"), marked())


def test_colours_in_fractions_are_refused(tmp_path):
    assert cv2.imwrite(str(tmp_path / "fractions.tif"), marked().astype(np.float32) / 255)
    with pytest.raises(InputError, match=r"fractions\.tif: a TIFF compressed by SGILOG, which cannot be read; export it with 8 bits"):
        read_image(tmp_path / "fractions.tif")


def test_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").tolist() == [[[1, 2, 3]]]


def test_broken_images_name_the_file(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").touch()
    with pytest.raises(InputError, match=r"cut\.jpg: the image is broken"):
        read_image(tmp_path / "cut.jpg")
    for name in ("text.jpg", "empty.png"):
        with pytest.raises(InputError, match=f"{name}: not an image"):
            read_image(tmp_path / name)
        with pytest.raises(InputError, match=f"{name}: not an image"):
            image_size(tmp_path / name)
    with pytest.raises(InputError, match="is a folder; name an image in it"):
        read_image(tmp_path)
    with pytest.raises(InputError, match=r"none\.png: no such image"):
        read_image(tmp_path / "none.png")


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Pillow's, about what it skips
@pytest.mark.parametrize("suffix", ["tif", "jpg", "png", "bmp", "webp", "gif"])
def test_however_an_image_is_damaged_the_error_names_it(tmp_path, suffix):
    rng = np.random.default_rng(1)
    path = tmp_path / f"cells.{suffix}"
    page = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    page.save(path, **({"save_all": True, "append_images": [page.resize((20, 16))]} if suffix == "tif" else {}))
    whole = path.read_bytes()
    refused = []
    for damage in range(120):
        data = bytearray(whole)
        if damage % 2:
            del data[rng.integers(4, len(data)) :]
        else:
            data[rng.integers(0, min(200, len(data)))] = rng.integers(0, 256)
        path.write_bytes(data)
        for reader in (read_image, image_size):
            try:
                reader(path)
            except InputError as error:
                refused.append(str(error))
    assert len(refused) > 60
    assert all(message.startswith(f"{path}: ") for message in refused)


def test_too_large_is_seen_from_the_header(tmp_path, monkeypatch):
    monkeypatch.setattr("malaria_cells.data.images.refusal.MAX_PIXELS", 99)
    Image.new("RGB", (10, 10)).save(tmp_path / "p.png")
    with pytest.raises(InputError, match=r"p\.png: 10 x 10 pixels; the limit is 99"):
        read_image(tmp_path / "p.png")


def test_a_program_in_an_images_place_is_not_started(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **options: started.append(args))
    path = tmp_path / "smear.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n%%EOF\n")
    for reader in (read_image, image_size):
        with pytest.raises(
            InputError, match=r"smear\.jpg: not an image that can be read: it is PostScript; export it as JPEG, PNG or TIFF"
        ):
            reader(path)
    assert not started


@pytest.mark.parametrize("suffix", ["ppm", "tga", "ico", "pcx", "sgi", "dds", "pdf", "eps", "avif"])
def test_pillows_other_formats_are_not_asked(tmp_path, suffix):
    Image.fromarray(marked(32, 32)).save(tmp_path / f"p.{suffix}")
    path = (tmp_path / f"p.{suffix}").rename(tmp_path / "p.jpg")
    with pytest.raises(InputError, match=r"p\.jpg: not an image that can be read"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "it is HEIC of a telephone; export it as JPEG, or set the camera"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "it is AVIF; export it as JPEG, PNG or TIFF"),
        (b"ZISRAWFILE\0\0", "it is CZI of Zeiss; open it in its own program, or in Fiji with Bio-Formats"),
        (b"II*\0\x10\0\0\0CR\x02\0", "it is a raw file of a camera; develop it"),
        (b"<!DOCTYPE html><html>", "it is a web page, probably from a failed download; download it again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer; fetch the image with `git lfs pull`"),
        (b"", "the file is empty; copy it again"),
    ],
)
def test_what_is_no_image_is_called_by_its_name(tmp_path, content, what):
    (tmp_path / "p.jpg").write_bytes(content)
    with pytest.raises(InputError, match=rf"p\.jpg: not an image that can be read: {what}"):
        read_image(tmp_path / "p.jpg")


def test_reading_leaves_pillow_as_it_was_for_others():
    code = (
        "from PIL import Image, ImageFile; before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES\n"
        "import malaria_cells.data.images, warnings; filters = list(warnings.filters)\n"
        "malaria_cells.data.images.read_image('docs/images/smear.jpg')\n"
        "assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) and filters == warnings.filters and before[0]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_more_pixels_than_pillow_likes_are_read(tmp_path, monkeypatch):
    Image.fromarray(marked()).save(tmp_path / "p.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert np.array_equal(read_image(tmp_path / "p.png"), marked())
    assert image_size(tmp_path / "p.png") == (30, 20)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_an_animation_is_refused(tmp_path, suffix):
    frames = [Image.fromarray(marked()), Image.fromarray(255 - marked())]
    frames[0].save(tmp_path / f"p.{suffix}", save_all=True, append_images=frames[1:])
    for reader in (read_image, image_size):
        with pytest.raises(
            InputError, match=rf"p\.{suffix}: an animation of 2 frames, only one of which would be read; save the wanted frame"
        ):
            reader(tmp_path / f"p.{suffix}")


def test_the_previews_of_a_telephones_jpeg_are_not_looked_at(tmp_path):
    first = Image.fromarray(np.full((20, 30, 3), 200, np.uint8))
    first.save(tmp_path / "p.jpg", format="MPO", save_all=True, append_images=[first.resize((15, 10))])
    assert read_image(tmp_path / "p.jpg").shape == (20, 30, 3)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "jp2"])
@pytest.mark.parametrize(("most", "what"), [(0, "transparent everywhere"), (100, "nowhere more than 39% opaque")])
def test_transparency_over_everything_is_refused(tmp_path, suffix, most, what):
    pixels = np.dstack([marked(), np.full((20, 30), most, np.uint8)])
    Image.fromarray(pixels).save(tmp_path / f"p.{suffix}", **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    with pytest.raises(InputError, match=rf"p\.{suffix}: it is {what} and would become white; export it without"):
        read_image(tmp_path / f"p.{suffix}")


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", ["jp2", "j2k", "png"])
def test_every_depth_of_jpeg_2000_and_png(tmp_path, bits, channels, suffix):
    if suffix == "png" and bits not in (8, 16):
        return
    meant = np.linspace(0, 255, 24 * 32).reshape(24, 32, 1) * [1, 0.7, 0.4]
    meant = np.repeat(meant[..., :1], 3, axis=2) if channels < 3 else meant
    peak = 2**bits - 1
    values = meant[..., : channels if channels in (1, 3) else channels - 1] / 255 * peak
    if channels in (2, 4):
        values = np.dstack([values, np.full((24, 32), peak)])
    values = np.rint(values).astype(np.uint8 if bits == 8 else np.uint16)
    if suffix == "png":
        content = imagecodecs.png_encode(values)
    else:
        content = imagecodecs.jpeg2k_encode(values, level=0, bitspersample=bits, codecformat=suffix)
    (tmp_path / f"p.{suffix}").write_bytes(content)
    np.testing.assert_allclose(read_image(tmp_path / f"p.{suffix}"), meant, atol=1.1)
    if bits == 16:
        dark = values // 16
        content = imagecodecs.png_encode(dark) if suffix == "png" else imagecodecs.jpeg2k_encode(dark, level=0, codecformat=suffix)
        (tmp_path / f"p.{suffix}").write_bytes(content)
        with pytest.raises(InputError, match=r"so small that it would be converted to black|and would become white"):
            read_image(tmp_path / f"p.{suffix}")


def test_colours_for_print_are_turned_into_light(tmp_path):
    meant = np.linspace(10, 250, 24 * 32).reshape(24, 32, 1) * [1, 0.7, 0.4]
    Image.fromarray(meant.astype(np.uint8)).convert("CMYK").save(tmp_path / "p.jpg", quality=98)
    assert np.abs(read_image(tmp_path / "p.jpg") - meant).mean() < 1.5

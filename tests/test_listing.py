import logging
import os
from pathlib import Path

import pytest
from PIL import Image

from malaria_cells.base.errors import InputError
from malaria_cells.data.images import SUFFIXES, UNREADABLE_SUFFIXES, list_images, read_image


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_listing_file_directory_glob(tmp_path):
    for name in ("b/x.png", "a/x.png", "a/y.JPG", "a/deep/z.tif", "a/notes.txt", "a/.hidden.png", "ø ß/ü.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert list_images(tmp_path) == (tmp_path, ["a/deep/z.tif", "a/x.png", "a/y.JPG", "b/x.png", "ø ß/ü.png"])
    assert list_images(tmp_path / "a" / "x.png") == (tmp_path / "a", ["x.png"])
    assert list_images(f"{tmp_path}/*/x.png") == (tmp_path, ["a/x.png", "b/x.png"])
    assert list_images(f"{tmp_path}/**/z.*")[1] == ["a/deep/z.tif"]


def test_listing_nothing(tmp_path):
    with pytest.raises(InputError, match="no such image or directory"):
        list_images(tmp_path / "none")
    with pytest.raises(InputError, match="found no image"):
        list_images(tmp_path)
    with pytest.raises(InputError, match="found no image"):
        list_images(f"{tmp_path}/*.png")


def test_formats_that_are_not_read_are_counted_and_named_with_what_to_export(tmp_path, caplog):
    put(tmp_path, "a.jpg", "b.HEIC", "c.heic", "sub/d.CR2", "e.czi", "f.mp4", "Thumbs.db", "._g.heic", "notes.txt", ".git/h.heic")
    assert list_images(tmp_path)[1] == ["a.jpg"]
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(": ", 1)[1] for line in lines] == [
        f"1 file left out (CZI of Zeiss, which cannot be read), first: {tmp_path / 'e.czi'}; "
        "open it in its own program, or in Fiji with Bio-Formats or QuPath, and export it as TIFF or PNG with 8 bits in RGB",
        f"2 files left out (HEIC of a telephone, which cannot be read), first: {tmp_path / 'b.HEIC'}; "
        "export it as JPEG, or set the camera to its most compatible format",
        f"1 file left out (a raw file of a camera, which cannot be read), first: {tmp_path / 'sub/d.CR2'}; "
        "develop it in the camera's program and export it as TIFF or JPEG",
        f"1 file left out (a video, which cannot be read), first: {tmp_path / 'f.mp4'}; export the frames that are wanted as PNG",
    ]


def test_what_was_left_out_is_told_before_the_error_that_it_explains(tmp_path, caplog):
    put(tmp_path, "a.heic")
    with pytest.raises(InputError, match="found no image"):
        list_images(tmp_path)
    assert "1 file left out (HEIC of a telephone" in caplog.text


def test_no_suffix_is_both_read_and_not():
    assert not SUFFIXES & UNREADABLE_SUFFIXES.keys()
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES | UNREADABLE_SUFFIXES.keys())


@pytest.mark.parametrize("suffix", sorted({*UNREADABLE_SUFFIXES}))
def test_each_format_that_is_not_read_is_refused_by_its_name(tmp_path, suffix):
    path = tmp_path / f"p{suffix}"
    for content in (b"no image", b"II*\0 like a TIFF, as raw files are"):
        path.write_bytes(content)
        with pytest.raises(
            InputError, match=rf"p\{suffix}: not an image that can be read: it is {UNREADABLE_SUFFIXES[suffix]}; .*(export|open)"
        ):
            read_image(path)


def test_linked_folders_are_followed_and_an_image_counts_once(tmp_path, caplog):
    put(tmp_path, "pool/g.png", "data/own.png", "data/sub/x.png")
    (tmp_path / "data/A").symlink_to(tmp_path / "pool")
    (tmp_path / "data/B").symlink_to(tmp_path / "pool")
    (tmp_path / "data/again.png").symlink_to("own.png")
    (tmp_path / "data/latest").symlink_to("sub")
    (tmp_path / "data/gone.png").symlink_to("nowhere")
    assert list_images(tmp_path / "data")[1] == ["A/g.png", "own.png", "sub/x.png"]
    assert f"3 links left out, since the image is already listed; first: {tmp_path / 'data/B/g.png'}" in caplog.text
    assert f"1 link left out, since the target is missing; first: {tmp_path / 'data/gone.png'}" in caplog.text


def test_the_home_folder(tmp_path, monkeypatch):
    put(tmp_path, "data/a.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert list_images("~/data") == (tmp_path / "data", ["a.png"])
    assert list_images("~/data/a.png") == (tmp_path / "data", ["a.png"])
    assert list_images("~/da*/*.png") == (tmp_path, ["data/a.png"])
    with pytest.raises(InputError, match=r"~nobody_of_this_name/x.png: "):
        list_images("~nobody_of_this_name/x.png")
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "~/b.png")
    assert list_images("~") == (Path("~"), ["b.png"])


def test_brackets_in_names_are_found_before_they_are_a_pattern(tmp_path):
    put(tmp_path, "slides [A]/IMG [1].png", "slides [A]/IMG [2].png", "slides A/x.png")
    assert list_images(f"{tmp_path}/slides [A]")[1] == ["IMG [1].png", "IMG [2].png"]
    assert list_images(f"{tmp_path}/slides [A]/IMG [1].png")[1] == ["IMG [1].png"]
    assert list_images(f"{tmp_path}/slides [A]/*.png") == (tmp_path / "slides [A]", ["IMG [1].png", "IMG [2].png"])
    assert list_images(f"{tmp_path}/slides [A]/IMG [2]*")[1] == ["IMG [2].png"]
    assert list_images(f"{tmp_path}/slides [A-Z]/*")[1] == ["slides A/x.png"]
    assert list_images(f"{tmp_path}/sl*[[]A[]]/*1[]].png")[1] == ["slides [A]/IMG [1].png"]
    with pytest.raises(
        InputError, match=r"found no image \(\[ and \] stand for one of the letters between them; write \[\[\] for a bracket"
    ):
        list_images(f"{tmp_path}/slides [B]/*.png")


def test_patterns_in_other_cases_of_the_letters(tmp_path, caplog):
    put(tmp_path, "A/a.PNG", "A/b.PNG", "B/c.png", "B/d.PNG", "B/deep/E.Png")
    assert list_images(f"{tmp_path}/A/*.png")[1] == ["a.PNG", "b.PNG"]
    assert list_images(f"{tmp_path}/a/?.png") == (tmp_path, ["A/a.PNG", "A/b.PNG"])
    assert not caplog.records
    assert list_images(f"{tmp_path}/B/*.png")[1] == ["c.png"]
    assert "B/*.png: 1 image left out that would match if case were ignored; first: " in caplog.text
    assert list_images(f"{tmp_path}/**/e.png")[1] == ["B/deep/E.Png"]


def test_patterns_do_not_search_hidden_folders_and_end_in_loops(tmp_path):
    put(tmp_path, "a/x.png", ".git/x.png", "a/.cache/x.png", "a/@eaDir/x.png", "__MACOSX/x.png", "a/._x.png")
    (tmp_path / "a/up").symlink_to(tmp_path)
    assert list_images(f"{tmp_path}/**/*.png")[1] == ["a/x.png"]
    assert list_images(f"{tmp_path}/**")[1] == ["a/x.png"]
    assert list_images(f"{tmp_path}/*/x.png")[1] == ["a/x.png"]
    assert list_images(f"{tmp_path}/.g*/x.png")[1] == [".git/x.png"]
    assert list_images(f"{tmp_path}/.git/*.png")[1] == ["x.png"]


def test_names_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match="cannot be searched"):
        list_images(tmp_path / ("x" * 300 + ".png"))
    with pytest.raises(InputError, match=r"found no image|cannot be searched"):
        list_images(tmp_path / ("x" * 300 + "*.png"))


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text_is_left_out_and_told(tmp_path, caplog):
    put(tmp_path, "a.png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).touch()
    assert list_images(tmp_path)[1] == ["a.png"]
    assert r"1 image left out, since the name is not text; first: " in caplog.text
    assert r"\udcff.png'; rename them" in caplog.text


def test_jpeg_2000_and_slides_in_a_folder_are_listed_and_read(tmp_path, caplog):
    Image.new("RGB", (9, 5), (200, 10, 30)).save(tmp_path / "a.jp2")
    Image.new("RGB", (9, 5), (200, 10, 30)).save(tmp_path / "b.svs", format="TIFF")
    caplog.set_level(logging.WARNING)
    root, keys = list_images(tmp_path)
    assert keys == ["a.jp2", "b.svs"]
    assert not caplog.records
    assert all(abs(read_image(root / key).astype(int) - [200, 10, 30]).max() <= 3 for key in keys)

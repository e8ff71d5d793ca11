"""One finder for all formats: whatever the slashes, the case, the Unicode normal form and the machine that a name is from."""

import contextlib
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations.locate import ImageFolder, ImageList
from malaria_cells.data.annotations.lookup import Origin
from malaria_cells.data.annotations.written_paths import inner_path


def folder(root: Path, *names: str) -> ImageFolder:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return ImageFolder(root)


@pytest.mark.parametrize(
    ("on_disk", "written"),
    [
        ("a/b.png", "a/b.png"),
        ("a/b.png", "a\\b.png"),
        ("a/b.png", ".\\a\\b.png"),
        ("a/b.png", "A/B.PNG"),
        ("a/b.png", "b.jpg"),
        ("a/b.png", "b"),
        ("a/b.png", "C:\\Users\\me\\a\\b.png"),
        ("a/b.png", "/home/me/set/a/b.png"),
        ("a/b.png", "..\\..\\x\\a\\b.png"),
        ("a/b.png", "../../x/b.png"),
        ("a/b.png", "https://host/files/b.png"),
        ("a/b.png", "x/../a/b.png"),
        ("images/b.png", "train/b.png"),
        ("b.png", "slide1/b.png"),
        ("images/x y.png", "images/x%20y.png"),
        ("Präparat.png", unicodedata.normalize("NFD", "Präparat.png")),
        (unicodedata.normalize("NFD", "Präparat.png"), "Präparat.png"),
        ("images\\b.png", "images\\b.png"),
        ("img.v2.png", "img.v2"),
    ],
)
def test_found(tmp_path, on_disk, written):
    found = folder(tmp_path, on_disk, "other/c.png").find(written)
    assert found is not None
    assert found.samefile(tmp_path / on_disk)


@pytest.mark.parametrize("written", ["slide1/b.png", "slide1\\b.png", "none.png", "", "\0", "x" * 300 + ".png", "..", "/", "b.png/c"])
def test_not_found(tmp_path, written):
    """An image of one slide is never taken for that of another, and no name is a fault of the system's."""
    assert folder(tmp_path, "slide2/b.png").find(written) is None


@pytest.mark.parametrize("written", ["b.png", "B.png", "b", "/home/me/b.png"])
def test_several_fit(tmp_path, written):
    with pytest.raises(InputError, match=f"{Path(written).name}: matches several images"):
        folder(tmp_path, "x/b.png", "y/b.png").find(written)


def test_case_tells_apart_where_both_are_there(tmp_path):
    finder = folder(tmp_path, "b.png", "B.png", "c.png", "c.jpg")
    if len(finder.images) < 4:
        pytest.skip("the file system does not tell b.png from B.png")
    assert finder.find("B.png") == tmp_path / "B.png"
    assert finder.find("c.jpg") == tmp_path / "c.jpg"
    with pytest.raises(InputError, match="matches several"):
        finder.find("b.PNG")
    with pytest.raises(InputError, match="matches several"):
        finder.find("c.tif")


def test_the_file_beside_the_annotation_comes_first(tmp_path):
    finder = folder(tmp_path, "train/b.png", "test/b.png")
    assert finder.find("b.png", Origin(tmp_path / "test")) == tmp_path / "test" / "b.png"


def test_a_list_of_images_of_one_slide_takes_none_of_another(tmp_path):
    folder(tmp_path, "slide2/b.png")
    finder = ImageList(tmp_path / "slide2", ["b.png"], tmp_path / "x.json")
    assert finder.find("slide1/b.png") is None
    assert finder.find("slide2/b.png") == finder.find("b.png") == finder.find("images/b.png") == tmp_path / "slide2" / "b.png"


def test_nothing_outside_is_found(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"")
    finder = folder(tmp_path / "set", "b.png")
    for name in ("../secret.png", str(tmp_path / "secret.png"), "..\\secret.png", "x/../../secret.png"):
        assert finder.find(name) is None
        assert inner_path(name) is None


names = st.text(st.sampled_from("aäB.\\/ %2:0"), max_size=12)


@given(name=names | st.text(max_size=8))
def test_any_name_finds_a_file_of_the_folder_or_none(tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp() / "finder"
    finder = folder(root, "a/ä.png", "B/a.png", "0.png") if not root.exists() else ImageFolder(root)
    with contextlib.suppress(InputError):
        assert finder.find(name) in {None, *finder.images}
    inner = inner_path(name)
    assert inner is None or ((root / inner).resolve().is_relative_to(root.resolve()) and ".." not in inner.split("/"))

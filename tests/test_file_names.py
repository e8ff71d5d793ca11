"""Names that become files: none of them is another's, on any system."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from malaria_cells.app.cli import main
from malaria_cells.base.errors import InputError
from malaria_cells.base.file_names import LONGEST, distinct, fitted, folded, inside, stem_of_label
from malaria_cells.data.annotations import AnnotationSet, load_annotations
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.writers import WRITERS, image_copies
from tests.conftest import write_bbbc041, write_image

# Few letters in many formats, so that names often meet: upper and lower case, composed and decomposed, the names that numbers give.
PART = st.one_of(
    st.text(alphabet="aA\u00e4\u0308_2. \u212a\udcff", min_size=1, max_size=4).filter(lambda name: name.strip(". /") != ""),
    st.sampled_from(["images", "Images", "a", "a.png", "b" * 300]),
)
KEYS = st.lists(
    st.builds(
        lambda folders, name, suffix: "/".join([*folders, name + suffix]),
        st.lists(PART, max_size=2),
        PART,
        st.sampled_from([".png", ".jpg", ".PNG"]),
    ),
    max_size=12,
    unique=True,
)


def one_a_file(paths):
    """Whether each path can be a file of its own on a system that looks at neither case nor Unicode normal form."""
    compared = [folded(path) for path in paths]
    folders = {"/".join(path.split("/")[:i]) for path in compared for i in range(1, path.count("/") + 1)}
    return len(set(compared)) == len(compared) and not folders & set(compared)


@given(KEYS)
@example(["a_b/c.png", "a/b_c.png"])
@example(["a.png", "a.jpg", "a_2.png", "A.png", "a_2.jpg"])
@example(["images/a.png", "JPEGImages/a.png", "a.png"])
@example(["\u00e4.png", "a\u0308.png"])
@example(["a.png", "a.png/b.png"])
@example(["a.png", "a.txt/b.png"])
def test_images_and_their_label_files_have_names_of_their_own_in_every_form(keys):
    coco = image_copies.short_keys(keys)
    assert list(coco) == keys
    assert one_a_file(coco.values())
    yolo = image_copies.short_keys(keys, label_files=True)
    assert one_a_file(yolo.values())
    assert one_a_file(image_copies.label_name(name, ".txt") for name in yolo.values())
    voc = image_copies.flat_names(keys)
    assert one_a_file(voc.values())
    assert one_a_file(image_copies.label_name(name, ".xml") for name in voc.values())
    for names in (coco, yolo, voc):
        assert names == dict(zip(keys, names.values(), strict=True))
        assert all(len(part.encode()) <= LONGEST for name in names.values() for part in name.split("/"))


@given(KEYS)
def test_drawn_images_have_names_of_their_own(keys):
    names = distinct(keys, lambda name: (f"{name}.png", f"{name}_without_red_cells.png"), 200)
    assert one_a_file([f"{name}{end}" for name in names for end in (".png", "_without_red_cells.png")])


@given(st.lists(st.one_of(st.text(), st.text(alphabet="rR()[]/ _.", min_size=1, max_size=3)), unique=True, max_size=12))
@example(["CON", "con", "NUL.a", "ring", "Ring", "ring_explained", "", ".", "..", "\U0001f9a0", "\U0001f9a0\U0001f9a0", "a" * 400])
def test_classes_have_files_of_their_own(labels):
    stems = distinct(
        [stem_of_label(label) for label in labels], lambda stem: (f"{stem}.png", f"{stem}_explained.png"), 200, "{stem}{suffix}_{number}"
    )
    assert one_a_file([f"{stem}{end}" for stem in stems for end in (".png", "_explained.png")])
    for stem in stems:
        assert re.fullmatch(r"[\w.~-]+", stem)
        assert not stem.startswith(".")
        assert not re.match(r"(con|nul|aux|prn|com\d|lpt\d)(\.|$)", f"{stem}.png", re.IGNORECASE)
        assert len(stem.encode()) <= 200


def test_a_name_that_is_free_is_kept_and_one_that_a_number_would_take_too():
    assert distinct(["a.png", "A.png", "A_2.png", "b.png"]) == ["a.png", "A_3.png", "A_2.png", "b.png"]
    assert distinct(["../../x.png", "/etc/passwd", "C:/x.png"]) == ["_/_/x.png", "etc/passwd", "C_/x.png"]


def test_long_names_stay_apart():
    one, other = "a" * 250 + "1.png", "a" * 250 + "2.png"
    assert fitted(one) != fitted(other)
    assert fitted(one).endswith(".png")
    assert len(fitted("\u00e4" * 300).encode()) <= LONGEST


@pytest.mark.parametrize(
    "path", ["../a.png", "a/../../b.png", "..\\a.png", "/etc/a.png", "\\\\server\\a.png", "C:\\a.png", "C:/a.png", "", "a\0.png"]
)
def test_a_path_that_leads_outside_is_refused(path):
    with pytest.raises(InputError, match="leads outside the output folder"):
        inside(path)
    for names in (image_copies.short_keys, image_copies.flat_names):
        with pytest.raises(InputError, match="leads outside the output folder"):
            names(["b.png", path])


def boxes_by_colour(annotations):
    """The boxes by the image's colour, which says which image it was, whatever its name is now."""
    found = {}
    for p in annotations.images:
        with Image.open(p.path) as image:
            colour = image.convert("RGB").getpixel((0, 0))[0]
        assert colour not in found
        found[colour] = sorted(p.cells_xyxy.round(1).tolist())
    return found


@pytest.mark.parametrize("format_name", ["coco", "voc", "yolo"])
@pytest.mark.parametrize(
    "names",
    [
        ["images/a.png", "images/a.bmp"],
        ["a_b/c.png", "a/b_c.png", "x/c.png"],
        ["Ring.png", "ring.png", "RING.bmp"],
        ["\u00e4.png", "a\u0308.png"],
        ["images/x.png", "x.png", "JPEGImages/x.png"],
        ["smear 1.png", "smear.png", "smear -1.png"],
        ["l" * 250 + ".png", "a.png"],
    ],
    ids=["suffixes", "folders", "case", "unicode", "images", "spaces", "long"],
)
def test_as_many_images_and_boxes_are_read_as_were_written(tmp_path, format_name, names, capsys):
    entries = {name: [("ring", 5, 5, 30 + i, 40)] * 1 + [("cell", 50, 5, 70 + i, 40)] * (i % 2) for i, name in enumerate(names)}
    path = write_bbbc041(tmp_path / "s", entries)
    for i, name in enumerate(names):
        write_image(tmp_path / "s" / name, value=100 + 20 * i)
    source = load_annotations(path, None)
    assert main(["convert", str(path), str(tmp_path / "o"), "--to", format_name]) == 0
    said = capsys.readouterr().out
    again = load_annotations(tmp_path / "o", None)
    assert boxes_by_colour(again) == boxes_by_colour(source)
    if names[0] == "images/a.png" and format_name != "coco":
        new = {"voc": "images_a_2.png", "yolo": "a_2.png"}[format_name]
        number = {"voc": "2 images", "yolo": "1 image"}[format_name]
        assert f"{number} renamed, since two files would have the same name; first: images/a." in said
        assert any(p.key.endswith(new) for p in again.images)
    assert ("renamed, since two files" in said) == any(p.path.name not in {n.split("/")[-1] for n in names} for p in again.images)


def test_what_voc_cannot_hold_is_said(tmp_path, capsys):
    path = write_bbbc041(tmp_path / "s", {"a.png": [("ring", 5, 5, 20, 20)]})
    annotations = load_annotations(path, LabelSet(("ring", "cell")))
    assert WRITERS["voc"](annotations, tmp_path / "voc") == ["VOC has no list of classes, so cell without a box was not written"]
    path = write_bbbc041(tmp_path / "s", {"a.png": [("a\u0001b", 5, 5, 20, 20)]})
    assert main(["convert", str(path), str(tmp_path / "voc2"), "--to", "voc"]) == 2
    assert "XML cannot hold this name" in capsys.readouterr().err
    assert not (tmp_path / "voc2").exists()


def test_yolo_finds_images_by_their_endings_alone(tmp_path):
    (image,) = load_annotations(write_bbbc041(tmp_path / "s", {"a.png": []}), LabelSet(("ring",))).images
    with pytest.raises(InputError, match="a: YOLO's readers recognise images by suffix"):
        WRITERS["yolo"](AnnotationSet(LabelSet(("ring",)), (replace(image, key="a"),)), tmp_path / "o")


def test_the_class_of_ignore_regions_has_a_name_of_its_own_in_coco(tmp_path):
    path = write_bbbc041(tmp_path / "s", {"a.png": [("ignore", 5, 5, 20, 20), ("difficult", 30, 30, 50, 50)]})
    WRITERS["coco"](load_annotations(path, LabelSet(("ignore",), ("difficult",))), tmp_path / "coco")
    content = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    assert [c["name"] for c in content["categories"]] == ["ignore", "ignore region"]


def test_parts_that_coco_cannot_say_are_told(tmp_path, capsys):
    from tests.test_formats import bccd

    bccd(tmp_path / "BCCD")
    assert main(["convert", str(tmp_path / "BCCD"), str(tmp_path / "coco"), "--to", "coco"]) == 0
    assert re.search(r"the data set's own parts \(.*train 4.*\), which a COCO file cannot store, were left out", capsys.readouterr().out)


def test_a_gallery_has_files_for_each_class_and_keeps_somebody_elses(tmp_path, capsys):
    labels = ["ring (early)", "ring [early]", "P. vivax/ring", "P. vivax ring", "Ring", "ring", "CON"]
    source = write_bbbc041(tmp_path / "s", {"a.png": [(label, 10 * i, 10, 10 * i + 9, 30) for i, label in enumerate(labels)]})
    for _ in range(2):  # over its own files it may write
        assert main(["gallery", str(source), "--output", str(tmp_path / "g"), "--count", "1"]) == 0
    stems = sorted(p.stem for p in (tmp_path / "g").glob("*.png"))
    assert stems == ["CON_", "P._vivax_ring", "P._vivax_ring_2", "Ring", "ring_2", "ring_early_", "ring_early__2"]
    assert len(list((tmp_path / "g").glob("*.gif"))) == len(labels)
    for theirs in ("Ring.png", "CON_.gif"):
        own = tmp_path / theirs.replace(".", "_")
        write_image((own / theirs).with_suffix(".png"))
        (own / theirs).with_suffix(".png").rename(own / theirs)
        before = (own / theirs).read_bytes()
        assert main(["gallery", str(source), "--output", str(own)]) == 2
        assert f"holds {theirs}, which no gallery wrote" in capsys.readouterr().err
        assert (own / theirs).read_bytes() == before
        assert [p.name for p in own.iterdir()] == [theirs]

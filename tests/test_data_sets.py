"""Several data sets are read and split each by itself, and what one does not annotate is unknown in its images."""

import json
import shutil
from collections import Counter

import pytest
from PIL import Image

from malaria_cells.base.errors import InputError
from malaria_cells.config import OneSet, load_config, make_config, names_of
from malaria_cells.data.data_sets import describe_unannotated
from malaria_cells.data.dataset import load_data_set
from malaria_cells.data.single_cell_sets import describe_labels_not_in_images, describe_single_cells
from tests.conftest import write_bbbc041
from tests.test_leaks import NAMES, annotate, slides

LABELS = ["ring", "leukocyte", "platelet"]
CELL = (1, 1, 30, 30)


@pytest.fixture
def two(tmp_path):
    """Two laboratories that call their images alike: one marks leukocytes too, under another name."""
    write_bbbc041(tmp_path / "a" / "lab", {f"{i}.png": [("ring", *CELL)] for i in range(10)})
    write_bbbc041(tmp_path / "b" / "lab", {f"{i}.png": [("ring", *CELL), ("WBC", 40, 1, 70, 30)] for i in range(10)})
    return [{"path": str(tmp_path / "a" / "lab")}, {"path": str(tmp_path / "b" / "lab"), "label_map": {"WBC": "leukocyte"}}]


def load(entries, **values):
    return load_data_set(make_config({"data_sets": entries, "labels": LABELS, **values}, "test"))


def test_every_set_is_in_every_part_under_its_own_name(two):
    data = load([two[0], two[1] | {"weight": 0.5}])
    for part in data.parts.values():
        assert {p.data_set for p in part.images} == {"lab", "lab2"}
    every = data.all_images
    assert Counter(p.data_set for p in every.images) == {"lab": 10, "lab2": 10}
    assert [p.key for p in every.images] == sorted(f"{name}/{i}.png" for name in ("lab", "lab2") for i in range(10))
    assert all(p.group == p.key and p.weight == (1 if p.data_set == "lab" else 0.5) for p in every.images)
    assert every.class_counts.tolist() == [20, 10, 0]
    assert {p.data_set: p.unannotated for p in every.images} == {"lab": (1, 2), "lab2": (2,)}
    assert describe_unannotated(every) == [
        "lab: does not annotate leukocyte, platelet: unknown there, not background",
        "lab2: does not annotate platelet: unknown there, not background",
    ]


def test_each_set_is_split_as_it_is_alone(two, tmp_path):
    """Its own split file, its own test annotation, or a fraction of it; and a fraction for validation."""
    (tmp_path / "a" / "lab" / "split.json").write_text(json.dumps({"train": [f"{i}.png" for i in range(7)], "test": ["7.png", "8.png"]}))
    (tmp_path / "named.json").write_text(json.dumps({"train": [f"{i}.png" for i in range(8)], "test": ["9.png"]}))
    write_bbbc041(tmp_path / "c", {f"{i}.png": [("ring", *CELL)] for i in range(10)})
    named = two[1] | {"split": str(tmp_path / "named.json"), "name": "mine"}
    data = load([two[0], named, {"path": str(tmp_path / "c")}])
    assert {p.key for p in data.test.images if p.data_set != "c"} == {"lab/7.png", "lab/8.png", "mine/9.png"}
    assert Counter(p.data_set for p in data.test.images)["c"] == 2
    alone = load_data_set(make_config({"train_images": str(tmp_path / "c"), "labels": LABELS}, "test"))
    for part, annotations in alone.parts.items():
        assert {f"c/{p.key}" for p in annotations.images} == {p.key for p in data.parts[part].images if p.data_set == "c"}
    without = load([two[1], {"path": str(tmp_path / "c")}], test_size=0)
    assert without.test is None
    assert len(without.all_images) == 20
    beside = load([two[0], {"path": str(tmp_path / "c")}], test_size=0)
    assert [p.key for p in beside.test.images] == ["lab/7.png", "lab/8.png"]


def test_one_set_of_a_list_is_split_as_train_images_is(two):
    (entry,) = two[:1]
    listed, plain = load([entry]), load_data_set(make_config({"train_images": entry["path"], "labels": LABELS}, "test"))
    for part, annotations in plain.parts.items():
        assert [f"lab/{p.key}" for p in annotations.images] == [p.key for p in listed.parts[part].images]
        assert {p.data_set for p in annotations.images} == {""}


def test_labels_that_are_left_to_the_data_are_those_of_all_sets(two):
    assert load(two, labels=None).train.labels.names == ("leukocyte", "ring")


def test_what_is_annotated_can_be_said(two):
    data = load([two[0] | {"annotated_labels": LABELS}, two[1]])
    assert {p.data_set: p.unannotated for p in data.all_images.images} == {"lab": (), "lab2": (2,)}
    with pytest.raises(InputError, match=r"data_sets: lab: annotated_labels: 'rings' is not in labels \(did you mean 'ring'\?\)"):
        load([two[0] | {"annotated_labels": ["rings"]}, two[1]])
    with pytest.raises(
        InputError, match="data_sets: lab2: annotated_labels: 'leukocyte' is missing, but the annotation has 10 cells of it"
    ):
        load([two[0], two[1] | {"annotated_labels": ["ring"]}])


def test_groups_of_two_sets_are_two(tmp_path):
    """Two laboratories each have a slide 1."""
    for name in ("a", "b"):
        write_bbbc041(tmp_path / name, {f"slide{s}_{i}.png": [("ring", *CELL)] for s in range(6) for i in range(2)})
    data = load([{"path": str(tmp_path / "a"), "group": r"(slide\d)"}, {"path": str(tmp_path / "b")}])
    groups = {p.key: p.group for p in data.all_images.images}
    assert groups["a/slide1_0.png"] == groups["a/slide1_1.png"] == "a/slide1"
    assert groups["b/slide1_0.png"] == "b/slide1_0.png"


def test_copies_in_two_sets_are_on_one_side(tmp_path, caplog):
    slides(tmp_path / "a", NAMES)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    entries = [{"path": str(tmp_path / name)} for name in ("a", "b")]
    data = load(entries)
    assert "12 images under two names or more, first 'a/slide0_0.png' and 'b/slide0_0.png'" in caplog.text
    for part in data.parts.values():
        of = {name: {p.key.partition("/")[2] for p in part.images if p.data_set == name} for name in ("a", "b")}
        assert of["a"] == of["b"] != set()
    # Where a set says which its test images are, the other's copies of these are tested on as well.
    split = {"train": NAMES[:8], "test": NAMES[8:]}
    (tmp_path / "a" / "split.json").write_text(json.dumps(split))
    data = load(entries[::-1])
    assert {p.key.partition("/")[2] for p in data.test.images if p.data_set == "b"} == set(NAMES[8:])
    without = load(entries, test_size=0)
    assert len(without.test) == 2 * len(NAMES[8:])
    # Where both say it, and not the same, nothing can be done.
    (tmp_path / "b" / "split.json").write_text(json.dumps({"train": NAMES[4:], "test": NAMES[:4]}))
    with pytest.raises(InputError, match=r"data_sets: 8 images under two names in two parts.*'a/slide0_0.png' \(training\)"):
        load(entries)


def test_a_few_new_images_beside_copies_go_into_training(tmp_path):
    slides(tmp_path / "a", NAMES)
    slides(tmp_path / "b", [*NAMES, "new.png"])
    data = load([{"path": str(tmp_path / name)} for name in ("a", "b")])
    assert "b/new.png" in {p.key for p in data.train.images}


@pytest.fixture
def cells(tmp_path):
    """Single cells in a folder a class, two slides each, as the field publishes them."""
    for name in ("sick", "leukocyte"):
        slides(tmp_path / "cells" / name, ["s1_1.png", "s1_2.png", "s2_1.png"])
        (tmp_path / "cells" / name / "training.json").unlink()
    return {"path": str(tmp_path / "cells"), "group": r"(s\d+)_", "label_map": {"sick": ["ring", "platelet"]}}


def test_single_cells_are_beside_the_parts_and_may_be_of_several_classes(two, cells):
    data = load([*two, cells])
    assert {p.data_set for p in data.all_images.images} == {"lab", "lab2"}
    single = data.single_cells
    assert [(p.key, p.group, p.one_of, p.cell_class_ids.tolist()) for p in single.images if "s1_1" in p.key] == [
        ("cells/leukocyte/s1_1.png", "cells/s1", (), [1]),
        ("cells/sick/s1_1.png", "cells/s1", (0, 2), [0]),
    ]
    assert single.labels == data.train.labels
    assert len(data.all_cut) == len(data.all_images) + 6
    assert describe_single_cells(single) == [
        "cells: 6 images of single cells, which train the classifier alone: leukocyte 3, ring or platelet 3"
    ]
    assert describe_single_cells(load(two).single_cells) == []
    # What is measured of images is measured of them alone.
    assert data.all_cut.median_cell_size == data.all_images.median_cell_size


def test_labels_that_are_left_to_the_data_are_the_members_of_lists(two, cells):
    data = load([*two, cells | {"label_map": {"sick": ["ring", "schizont"]}}], labels=None)
    assert data.train.labels.names == ("leukocyte", "ring", "schizont")


def test_lists_are_for_single_cells_beside_images(two, cells):
    with pytest.raises(InputError, match="data_sets: lab2: label_map: WBC is mapped to a list, which only images of single"):
        load([two[0], two[1] | {"label_map": {"WBC": ["leukocyte", "platelet"]}}])
    with pytest.raises(InputError, match="data_sets: cells: label_map has a list, which needs another data set with boxes"):
        load([cells])
    with pytest.raises(InputError, match=r"data_sets: cells: label_map: 'rings' is not in labels \(did you mean 'ring'\?\)"):
        load([two[0], cells | {"label_map": {"sick": ["rings", "platelet"]}}])
    with pytest.raises(InputError, match=r"label_map.sick"):
        load([two[0], cells | {"label_map": {"sick": ["ring"]}}])
    with pytest.raises(InputError, match="label_map: 'sick' lists 'ring' twice; expected different labels in the list"):
        load([two[0], cells | {"label_map": {"sick": ["ring", "ring"]}}])
    assert load([cells | {"label_map": {"sick": "ring"}}], test_size=0).single_cells is None


def test_what_does_not_teach_of_single_cells_is_left_out_and_counted(two, cells, tmp_path, caplog):
    split = {"train": ["sick/s1_1.png", "leukocyte/s1_1.png", "leukocyte/s1_2.png"], "test": ["sick/s2_1.png", "leukocyte/s2_1.png"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    parted = cells | {"split": str(tmp_path / "split.json"), "label_map": {"leukocyte": "debris", "sick": ["ring", "platelet"]}}
    single = load([two[0], parted], labels=["ring", "platelet"], ignore_labels=["debris"]).single_cells
    assert [p.key for p in single.images] == ["cells/sick/s1_1.png"]
    assert "cells: 2 images of its test part left out, since detection is not scored on single cells" in caplog.text
    assert "cells: 2 images without a label to learn (`ignore_labels`, `min_box_size`), left out; first: cells/leukocyte" in caplog.text
    with pytest.raises(InputError, match="data_sets: cells: none of its 6 images of single cells has a label to learn; check `labels`"):
        load([two[0], cells], labels=["ring", "platelet"], ignore_labels=["leukocyte"], min_box_size=1000)


def test_images_with_one_label_are_no_single_cells(two, cells, tmp_path, caplog):
    load([two[0], cells])
    assert "read as single cells" not in caplog.text
    for name in ("sick", "leukocyte"):
        Image.new("RGB", (400, 300)).save(tmp_path / "cells" / name / "s1_1.png")
        Image.new("RGB", (400, 300)).save(tmp_path / "cells" / name / "s1_2.png")
    load([two[0], cells])
    assert "cells: its images are read as single cells, but are 400 pixels wide, 14 times a cell of the other sets" in caplog.text


def test_of_a_label_that_no_image_has_it_is_said_whether_single_cells_teach_it(two, cells):
    data = load([two[0], cells], labels=[*LABELS, "schizont"])
    assert describe_labels_not_in_images(data.train, data.single_cells) == [
        "labels: 'leukocyte' does not occur in the training part; the model learns it from images of single cells alone",
        "labels: 'platelet' does not occur in the training part; single cells labelled with several classes include it, "
        "but the model cannot distinguish it by them",
        "labels: 'schizont' does not occur in the training part; the model cannot learn it",
    ]
    assert describe_labels_not_in_images(data.train, None)[0].endswith("training part; the model cannot learn it")


def test_whose_fault_it_is_is_said(two, tmp_path):
    with pytest.raises(InputError, match=r"^data_sets: none: path: no such folder: .*none"):
        load([two[0], {"path": str(tmp_path / "none")}])
    with pytest.raises(InputError, match=r"(?s)^data_sets: lab2: .*category 'WBC' is in neither labels.*label_map: \{WBC: leukocyte\}"):
        load([two[0], {"path": two[1]["path"]}])
    annotate(tmp_path / "few", ["1.png"])
    slides(tmp_path / "few", ["1.png"])
    with pytest.raises(InputError, match="data_sets: few: 1 image of 1 group cannot be split"):
        load([two[0], {"path": str(tmp_path / "few")}])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data_sets": [{"path": "a"}], "train_images": "b"}, "train_images and data_sets are both given; expected one of them"),
        ({"data_sets": [{"path": "a"}], "split_file": "b"}, "split_file: cannot be used together with data_sets.*as `split`"),
        ({"data_sets": [{"path": "a"}], "corrections": "b"}, "corrections: cannot be used together with.*a data set of their own"),
        ({"data_sets": []}, r"data_sets: List should have at least 1 item.*; write a list of sets, as in \[\{path: data/iml\}\]"),
        ({"data_sets": {"path": "a"}}, r"data_sets: .*list; found \{'path': 'a'\}; write a list of sets, as in \[\{path: data/iml\}\]"),
        ({"data_sets": ["a"]}, r"data_sets\.0: .*found 'a'; write an entry as in \{path: data/iml\}"),
        ({"data_sets": [{"path": "a", "wieght": 2}]}, r"unknown key 'data_sets\.0\.wieght' \(did you mean 'data_sets\.weight'\?\)"),
        ({"data_sets": [{"path": "a", "weight": 0}]}, r"data_sets\.0\.weight: Input should be greater than 0"),
        ({"data_sets": [{"path": "a", "name": "a/b"}]}, r"data_sets\.0\.name: expected a plain name"),
        ({"data_sets": [{"path": "a", "name": "x"}, {"path": "b", "name": "x"}]}, "the name 'x' is given twice;"),
        ({"data_sets": [{"path": "a", "name": "x"}, {"path": "b", "name": "X"}]}, "the name 'X' is given twice \\(also as 'x'\\)"),
        ({"data_sets": [{"path": "a", "name": "x" * 101}]}, r"data_sets\.0\.name: expected up to 100 printable characters on one line"),
        ({"data_sets": [{"path": "a", "name": "x\n"}]}, r"data_sets\.0\.name: expected up to 100 printable characters on one line"),
    ],
)
def test_wrong_lists(values, message):
    with pytest.raises(InputError, match=message):
        make_config(values, "test")


def test_names_from_folders_differ_in_more_than_capitals_and_are_names_of_folders():
    entries = [OneSet(path=path) for path in ("a/BCCD", "b/bccd", "c/line\nbreak", "d/" + 200 * "x", "e/" + 200 * "x")]
    names = names_of(entries)
    assert names[:3] == ["BCCD", "bccd2", "line_break"]
    assert all(OneSet(path="a", name=name).name == name for name in names)
    assert len(set(names)) == len(names)


def test_data_that_is_set_stands_in_the_place_of_what_the_file_says(tmp_path):
    one, several = tmp_path / "one.yaml", tmp_path / "several.yaml"
    one.write_text("train_images: a")
    several.write_text("data_sets: [{path: b}]")
    assert [entry.path for entry in load_config(one, ["data_sets=[{path: c}]"]).data_sets] == ["c"]
    set_one = load_config(several, ["train_images=c"])
    assert (set_one.train_images, set_one.data_sets) == ("c", None)
    with pytest.raises(InputError, match="--set: train_images and data_sets are both given"):
        load_config(one, ["data_sets=[{path: c}]", "train_images=d"])
    with pytest.raises(InputError, match=r"--set data_sets\.0\.weight: expected the whole list"):
        load_config(several, ["data_sets.0.weight=2"])


def test_a_split_file_that_a_test_annotation_outdoes_is_named(tmp_path, caplog):
    write_bbbc041(tmp_path, {f"{i}.png": [("ring", *CELL)] for i in range(6)})
    shutil.copy(tmp_path / "training.json", tmp_path / "test.json")
    content = json.loads((tmp_path / "training.json").read_text())
    (tmp_path / "training.json").write_text(json.dumps(content[:4]))
    (tmp_path / "test.json").write_text(json.dumps(content[4:]))
    with pytest.raises(InputError, match=r"data_sets: .*none\.json: expected a file of the format"):
        load([{"path": str(tmp_path), "split": "none.json"}])
    (tmp_path / "mine.json").write_text(json.dumps({"train": ["0.png", "1.png"], "test": ["2.png", "3.png"]}))
    data = load([{"path": str(tmp_path), "split": "mine.json"}])
    assert {p.key.partition("/")[2] for p in data.test.images} == {"4.png", "5.png"}
    assert "mine.json is not used, since" in caplog.text


def test_what_is_kept_with_a_model_reads_back(two):
    import yaml

    config = make_config({"data_sets": two, "labels": LABELS}, "test")
    assert make_config(yaml.safe_load(config.to_yaml()), "test") == config
    # A recipe of one set has the text, and so the fingerprint, that it had before there were lists.
    assert "data_sets" not in make_config({}, "test").to_yaml()

"""From a run to the doubtful cells, and from their corrections back into the training."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from malaria_cells.app.cli import main
from malaria_cells.base.errors import InputError
from malaria_cells.config import make_config
from malaria_cells.data.annotations import load_annotations
from malaria_cells.data.dataset import load_data_set
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.results.review import doubts, most_doubtful
from tests.conftest import write_bbbc041


def detections(probabilities, objectness, counted_as):
    p = np.array(probabilities, dtype=np.float32)
    data = {"probabilities": p, "objectness": np.array(objectness), "counted_as": np.array(counted_as)}
    return Detections.from_boxes(xyxy=np.zeros((len(p), 4)), class_id=p.argmax(axis=1), confidence=p.max(axis=1), **data)


def test_doubt_is_about_infection_where_there_is_any(six_classes):
    p = [[0.5, 0, 0, 0.5, 0, 0, 0], [0, 0, 0, 0.5, 0.5, 0, 0], [0.9, 0, 0, 0.1, 0, 0, 0], [0.25, 0, 0, 0.25, 0, 0, 0.5]]
    found = detections(p, [1, 1, 1, 0.5], [3, 3, 0, 3])
    assert doubts(found, six_classes) == pytest.approx([1, 0, 0.469, 0.5], abs=1e-3)
    stages = LabelSet(("a", "b", "c", "d"))
    assert doubts(detections([[0.25] * 4, [1, 0, 0, 0]], [1, 1], [0, 0]), stages) == pytest.approx([1, 0], abs=1e-3)


def test_only_what_is_counted_is_asked_about(six_classes):
    p = [[0.5, 0, 0, 0.5, 0, 0, 0]] * 3
    results = {"b.png": detections(p, [1, 0.9, 1], [3, 0, -1]), "a.png": detections(p[:1], [0.95], [3])}
    assert [(c.key, c.index) for c in most_doubtful(results, six_classes, 9)] == [("b.png", 0), ("a.png", 0), ("b.png", 1)]
    assert len(most_doubtful(results, six_classes, 2)) == 2


@pytest.fixture(scope="module")
def reviewed(untrained_model, sample, tmp_path_factory):
    output = tmp_path_factory.mktemp("review") / "results"
    arguments = ["--image", str(sample / "images"), "--annotations", str(sample / "test.json"), "--output", str(output)]
    assert main(["run", "--model", str(untrained_model), *arguments, "--review", "9", "--compare"]) == 0
    return output


def test_the_review_is_a_data_set_of_all_counted_cells(reviewed, six_classes, sample, capsys):
    review = reviewed / "review"
    with (review / "doubtful.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["number"] for r in rows] == [str(i) for i in range(1, 10)]
    assert sorted(-float(r["doubt"]) for r in rows) == [-float(r["doubt"]) for r in rows]
    data = load_annotations(review / "annotations.json", six_classes)
    assert {p.key.split("/")[-1] for p in data.images} == {r["image"].split("/")[-1] for r in rows}
    with (reviewed / "counts.csv").open(newline="") as file:
        counts = {r["image"]: sum(int(r[name]) for name in six_classes.names) for r in csv.DictReader(file)}
    assert {p.key.removeprefix("images/"): len(p.cells_xyxy) for p in data.images} == {
        p.key.removeprefix("images/"): counts[p.key.removeprefix("images/")] for p in data.images
    }
    assert len(COCO(str(review / "annotations.json")).anns) == sum(len(p.cells_xyxy) for p in data.images)
    capsys.readouterr()
    with Image.open(review / "sheet.png") as sheet:
        assert sheet.width > 900


def test_annotated_beside_detected_with_and_without_red_cells(reviewed, sample):
    names = {p.name for p in (reviewed / "compared").iterdir()}
    keys = {p.key.removeprefix("images/") for p in load_annotations(sample / "test.json", None).images}
    assert names == {f"{key}{suffix}.png" for key in keys for suffix in ("", "_without_red_cells")}
    first = sorted(keys)[0]
    both = [np.asarray(Image.open(reviewed / "compared" / f"{first}{suffix}.png")) for suffix in ("", "_without_red_cells")]
    assert both[0].shape == both[1].shape
    assert both[0].shape[1] > 2 * 640
    assert (both[0] != both[1]).any()


def test_a_review_is_not_overwritten(reviewed, untrained_model, sample, capsys):
    before = (reviewed / "review" / "annotations.json").read_bytes()
    image = str(sorted((sample / "images").iterdir())[0])
    assert main(["run", "--model", str(untrained_model), "--image", image, "--output", str(reviewed), "--review", "3"]) == 2
    assert "may hold corrections" in capsys.readouterr().err
    assert (reviewed / "review" / "annotations.json").read_bytes() == before


def test_compare_needs_an_annotation(untrained_model, sample, tmp_path, capsys):
    image = str(sorted((sample / "images").iterdir())[0])
    assert main(["run", "--model", str(untrained_model), "--image", image, "--output", str(tmp_path / "r"), "--compare"]) == 2
    assert "--annotations" in capsys.readouterr().err


@pytest.fixture
def data_set(tmp_path):
    """Twelve images that differ, the last two of them for the test."""
    root = tmp_path / "data"
    names = [f"{i:02}.png" for i in range(12)]
    write_bbbc041(root, {n: [("ring", 10, 10, 40, 40)] for n in names[:10]})
    write_bbbc041(root, {n: [("ring", 10, 10, 40, 40)] for n in names[10:]}, name="test.json")
    for i, name in enumerate(names):
        Image.fromarray(np.full((80, 100, 3), 100 + i, dtype=np.uint8)).save(root / name)
    return root


def corrected(data_set, tmp_path, names, label="trophozoite"):
    folder = tmp_path / "corrected"
    write_bbbc041(
        folder, {f"renamed_{n}": [(label, 5, 5, 50, 50), ("red blood cell", 60, 10, 90, 40)] for n in names}, name="annotations.json"
    )
    for name in names:
        if (data_set / name).exists():
            shutil.copyfile(data_set / name, folder / f"renamed_{name}")
    return folder


def test_corrections_replace_the_same_images_and_add_new_ones(data_set, tmp_path):
    folder = corrected(data_set, tmp_path, ["00.png", "03.png", "new.png"])
    settings = {"train_images": str(data_set), "corrections": str(folder)}
    data = load_data_set(make_config(settings, "test"))
    images = {p.key: p for part in (data.train, data.validation) for p in part.images}
    assert len(images) == 11
    names = data.train.labels.names
    for key in ("00.png", "03.png", "corrections/renamed_new.png"):
        assert [names[i] for i in images[key].class_ids] == ["trophozoite", "red blood cell"]
    assert [names[i] for i in images["01.png"].class_ids] == ["ring"]
    assert "corrections/renamed_new.png" in {p.key for p in data.train.images} | {p.key for p in data.validation.images}
    by_file = load_data_set(make_config(settings | {"corrections": str(folder / "annotations.json")}, "test"))
    assert by_file.train.fingerprint == data.train.fingerprint


def test_test_images_cannot_come_back_as_corrections(data_set, tmp_path):
    folder = corrected(data_set, tmp_path, ["11.png"])
    with pytest.raises(InputError, match=r"'renamed_11\.png' is the test image '11\.png'"):
        load_data_set(make_config({"train_images": str(data_set), "corrections": str(folder)}, "test"))


@pytest.mark.slow
def test_a_review_can_be_trained_on(reviewed, sample, tmp_path, capsys):
    """The whole round: detect, review, correct a label, train."""
    review = shutil.copytree(reviewed / "review", tmp_path / "review")
    content = json.loads((review / "annotations.json").read_text())
    tested = {p.key.split("/")[-1] for p in load_annotations(sample / "test.json", None).images}
    content["images"] = [i for i in content["images"] if i["file_name"].split("/")[-1] not in tested]
    kept = {i["id"] for i in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    assert content["annotations"]
    content["annotations"][0]["category_id"] = 2
    (review / "annotations.json").write_text(json.dumps(content))
    values = {"train_images": sample, "corrections": review, "output_models": tmp_path / "m", "patch_cache": tmp_path / "c", "name": "m"}
    values |= {"epochs": 1, "steps_per_epoch": 2, "image_size": "[32, 32]", "proposals": "watershed"}
    sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    assert main(["train", "--config", "configs/from_scratch.yaml", *sets]) == 0
    assert (tmp_path / "m" / "m" / "model.yaml").is_file()


def test_a_review_is_read_without_its_list_of_doubtful_cells(data_set, tmp_path, caplog):
    folder = corrected(data_set, tmp_path, ["new.png"])
    (folder / "doubtful.csv").write_text("image,label,score,x_min,y_min,x_max,y_max\nrenamed_new.png,ring,0.5,5,5,50,50\n")
    settings = {"train_images": str(data_set), "corrections": str(folder)}
    data = load_data_set(make_config(settings, "test"))
    assert "corrections/renamed_new.png" in {p.key for p in data.all_images.images}
    (folder / "annotations").mkdir()  # what CVAT gave back is not passed over without a word
    shutil.copyfile(folder / "annotations.json", folder / "annotations" / "instances_default.json")
    load_data_set(make_config(settings, "test"))
    assert "1 file not named after a part of the data set, not read" in caplog.text
    assert "first: annotations/instances_default.json" in caplog.text

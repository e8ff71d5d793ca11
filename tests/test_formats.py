"""One test a habit of each format, on data sets generated in their layouts."""

import json
import logging

import numpy as np
import pytest
import yaml
from PIL import Image

from malaria_cells.base.errors import InputError
from malaria_cells.config import make_config
from malaria_cells.data.annotations import load_annotations
from malaria_cells.data.dataset import load_data_set
from malaria_cells.data.labels import LabelSet
from tests.conftest import write_image


def camera_traps(folder, missing=1):
    """COCO Camera Traps' habits (lila.science): string ids, empty images, labels without a box, images that are not there."""
    for i in range(4):
        write_image(folder / "images" / f"{i}.jpg")
    images = [{"id": f"img-{i}", "file_name": f"images/{i}.jpg", "width": 100, "height": 80} for i in range(4 + missing)]
    annotations = [
        {"id": "a", "image_id": "img-0", "category_id": 7, "bbox": [10.5, 20.25, 30.0, 40.5]},
        {"id": "b", "image_id": "img-0", "category_id": 9, "bbox": [-5.0, 10.0, 40.0, 20.0]},
        {"id": "c", "image_id": "img-1", "category_id": 7, "bbox": [10, 10, 20, 20], "iscrowd": 1},
        {"id": "d", "image_id": "img-2", "category_id": 0},
        {"id": "e", "image_id": "gone", "category_id": 7, "bbox": [1, 1, 9, 9]},
    ]
    categories = [{"id": 0, "name": "empty"}, {"id": 7, "name": "bird"}, {"id": 9, "name": "fox"}]
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories, "info": {}}))
    return path


def test_coco_with_camera_traps_habits(tmp_path, caplog):
    labels = LabelSet(("bird", "fox"))
    with caplog.at_level(logging.WARNING):
        found = load_annotations(camera_traps(tmp_path), labels)
    assert [p.key for p in found.images] == [f"images/{i}.jpg" for i in range(4)]
    assert found.images[0].boxes_xyxy.tolist() == [[10.5, 20.25, 40.5, 60.75], [0, 10, 35, 30]]
    assert found.images[0].class_ids.tolist() == [0, 1]
    assert found.images[1].ignore.tolist() == [True]
    assert found.class_counts.tolist() == [1, 1]  # the crowd is no example
    assert len(found.images[3].boxes_xyxy) == 0
    text = "\n".join(found.issues)
    assert "1 image missing in" in text
    assert "left out; first: images/4.jpg" in text
    assert "1 annotation without a box, left out; first: images/2.jpg" in text
    assert "1 annotation of an image that `images` does not list, left out; first: image_id gone" in text
    assert "1 box past the border, clipped" in text
    assert [r.message for r in caplog.records] == list(found.issues)


def test_coco_with_most_images_missing_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"6 of 10 images are not in .*; first: images/4\.jpg"):
        load_annotations(camera_traps(tmp_path, missing=6), LabelSet(("bird", "fox")))


def test_coco_without_a_part_of_it(tmp_path):
    path = camera_traps(tmp_path)
    content = json.loads(path.read_text())
    del content["categories"][1]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="have the category_id 7, which `categories` does not list"):
        load_annotations(path, LabelSet(("bird", "fox")))


def bccd(folder, n=6):
    """BCCD's layout (github.com/Shenggan/BCCD_Dataset): Annotations, JPEGImages, ImageSets/Main; RBC, WBC, Platelets."""
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for i in range(n):
        stem = f"BloodImage_{i:05}"
        write_image(folder / "JPEGImages" / f"{stem}.jpg", (64, 48))
        objects = "".join(
            f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>{difficult}</difficult>"
            f"<bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + 9}</xmax><ymax>{y + 11}</ymax></bndbox></object>"
            for name, x, y, difficult in [("RBC", 1, 1, 0), ("WBC", 21, 11, 0), ("Platelets", 41, 21, int(i == 0))]
        )
        (folder / "Annotations" / f"{stem}.xml").write_text(
            f"<annotation><folder>JPEGImages</folder><filename>{stem}.jpg</filename>"
            f"<size><width>64</width><height>48</height><depth>3</depth></size>{objects}</annotation>"
        )
    stems = [f"BloodImage_{i:05}" for i in range(n)]
    lists = {"train": stems[: n - 2], "val": stems[n - 2 : n - 1], "trainval": stems[: n - 1], "test": stems[n - 1 :]}
    for name, part in lists.items():
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(part) + "\n")
    return folder


def test_voc_in_the_bccd_layout(tmp_path):
    labels = LabelSet(("RBC", "WBC", "Platelets"))
    found = load_annotations(bccd(tmp_path / "BCCD"), labels)
    assert found.images[0].key == "JPEGImages/BloodImage_00000.jpg"
    # VOC counts pixels from 1, both corners belong to the box: 1 to 10 are ten pixels.
    assert found.images[0].boxes_xyxy[0].tolist() == [0, 0, 10, 12]
    assert found.images[0].ignore.tolist() == [False, False, True]
    assert found.class_counts.tolist() == [6, 6, 5]
    assert [p.part for p in found.images] == ["train"] * 4 + ["validation", "test"]
    data = load_data_set(make_config({"train_images": str(tmp_path / "BCCD"), "labels": list(labels.names)}, "test"))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [4, 1, 1]


def test_voc_files_that_were_renamed_or_cut(tmp_path):
    folder = bccd(tmp_path / "BCCD")
    first = folder / "Annotations" / "BloodImage_00000.xml"
    first.write_text(first.read_text().replace("BloodImage_00000.jpg", "old name"))
    assert load_annotations(folder, None).images[0].key == "JPEGImages/BloodImage_00000.jpg"
    first.write_text(first.read_text()[:200])
    with pytest.raises(InputError, match=r"BloodImage_00000\.xml: not valid XML"):
        load_annotations(folder, None)
    first.write_text("<annotation><object><bndbox/></object></annotation>")
    with pytest.raises(InputError, match="an object without a name; expected <annotation>"):
        load_annotations(folder, None)


def yolo(folder, names=("ring", "red blood cell")):
    for part in ("train", "valid", "test"):
        write_image(folder / part / "images" / f"{part}.png", (200, 100))
        (folder / part / "labels").mkdir()
        (folder / part / "labels" / f"{part}.txt").write_text("1 0.5 0.5 0.2 0.4\n0 0.1 0.2 0.1 0.2 0.93\n\n0 0.5 0.5 0.7 0.5 0.6 0.9\n")
    write_image(folder / "train" / "images" / "empty.png", (200, 100))
    content = {"train": "../train/images", "val": "../valid/images", "test": "../test/images", "nc": 2, "names": list(names)}
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    return folder


def test_yolo_as_roboflow_writes_it(tmp_path):
    found = load_annotations(yolo(tmp_path / "set"), LabelSet(("red blood cell", "ring")))
    assert [(p.key, p.part) for p in found.images] == [
        ("test/images/test.png", "test"),
        ("train/images/empty.png", "train"),
        ("train/images/train.png", "train"),
        ("valid/images/valid.png", "validation"),
    ]
    assert len(found.images[1].boxes_xyxy) == 0
    # a box, a box with a score, an outline of three corners
    assert found.images[0].boxes_xyxy == pytest.approx(np.array([[80, 30, 120, 70], [10, 10, 30, 30], [100, 50, 140, 90]]))
    assert found.images[0].class_ids.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("line", "message"),
    [("0 0.1 0.2", "line 1 is '0 0.1 0.2'; expected: class"), ("a b", "line 1 is"), ("5 0.5 0.5 0.1 0.1", "class 5 has no name in")],
)
def test_yolo_lines_that_are_none(tmp_path, line, message):
    folder = yolo(tmp_path / "set")
    (folder / "train" / "labels" / "train.txt").write_text(line)
    with pytest.raises(InputError, match=message):
        load_annotations(folder, None)


def write_modes(folder):
    """Grey, RGBA, 16-bit and palette images."""
    folder.mkdir(parents=True)
    grey = np.tile(np.arange(0, 250, 5, dtype=np.uint8), (40, 1))
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(np.dstack([grey, grey, grey, np.full_like(grey, 255)])).save(folder / "rgba.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(grey).convert("P").save(folder / "palette.png")
    return grey


def test_folder_per_class_as_nih_has_it(tmp_path):
    """NIH's cell_images (Rajaraman et al. 2018, PeerJ 6:e4568) holds Thumbs.db files; modes are of other public sets."""
    root = tmp_path / "cell_images"
    grey = write_modes(root / "Parasitized")
    write_image(root / "Uninfected" / "a.png", (30, 20))
    (root / "Uninfected" / "Thumbs.db").write_bytes(b"no image")
    found = load_annotations(root, LabelSet(("Uninfected", "Parasitized")))
    assert found.whole
    assert [(p.key, p.class_ids.tolist()) for p in found.images] == [
        *((f"Parasitized/{n}.png", [1]) for n in ("deep", "grey", "palette", "rgba")),
        ("Uninfected/a.png", [0]),
    ]
    assert found.images[-1].boxes_xyxy.tolist() == [[0, 0, 30, 20]]
    assert found.issues == (f"{root}: 1 file without an image file's extension, left out; first: Uninfected/Thumbs.db",)
    from malaria_cells.data.patch_store import Cropping, build_patch_store

    store = build_patch_store(found, Cropping((40, 50), 1.25, 10, 0), tmp_path / "cache")
    assert len(store) == 5  # no background: the label is of the whole image
    for patch in store.patches[:4]:
        assert np.abs(patch.astype(int) - grey[..., None]).max() <= 1


def test_a_folder_that_is_no_class(tmp_path):
    for name in ("NORMAL", "PNEUMONIA", "broken"):
        write_image(tmp_path / name / "a.png")
    with pytest.raises(InputError, match=r"category 'broken' is in neither labels nor ignore_labels.*Found: NORMAL, PNEUMONIA, broken"):
        load_annotations(tmp_path, LabelSet(("NORMAL", "PNEUMONIA")))


def cassava(folder, header="image_id,label"):
    """Cassava's layout (kaggle.com/c/cassava-leaf-disease-classification): train.csv beside train_images."""
    for i in range(6):
        write_image(folder / "train_images" / f"{i}.jpg")
    path = folder / "train.csv"
    path.write_text("\n".join([header, *(f"{i}.jpg,{i % 3}" for i in range(6))]) + "\n")
    return path


def test_csv_as_cassava_has_it(tmp_path):
    found = load_annotations(cassava(tmp_path), LabelSet(("0", "1", "2")))
    assert found.whole
    assert [(p.key, p.class_ids[0]) for p in found.images] == [(f"train_images/{i}.jpg", i % 3) for i in range(6)]


def test_csv_names_the_columns_that_it_found(tmp_path):
    with pytest.raises(InputError, match=r"train\.csv: found the columns picture, label; expected one for the image \(image_id"):
        load_annotations(cassava(tmp_path, "picture,label"), LabelSet(("0", "1", "2")))


def test_csv_of_names_without_suffix_and_of_boxes(tmp_path):
    cassava(tmp_path)
    (tmp_path / "train.csv").write_text("id_code,diagnosis\n0,healthy\n3,ill\n")
    assert [p.key for p in load_annotations(tmp_path / "train.csv", None).images] == ["train_images/0.jpg", "train_images/3.jpg"]
    (tmp_path / "b.csv").write_text("image,label,score,x_min,y_min,x_max,y_max\n0.jpg,ring,0.9,1,2,30,40\n0.jpg,wbc,0.8,5.5,6,50,60\n")
    boxes = load_annotations(tmp_path / "b.csv", None).images[0]
    assert boxes.boxes_xyxy.tolist() == [[1, 2, 30, 40], [5.5, 6, 50, 60]]


def test_train_size_is_images_a_class(tmp_path, caplog):
    for i in range(8):
        write_image(tmp_path / "NORMAL" / f"{i}.png", value=100 + i)
    for i in range(5):
        write_image(tmp_path / "PNEUMONIA" / f"{i}.png", value=100 + i)
    values = {"train_images": str(tmp_path), "labels": ["NORMAL", "PNEUMONIA"], "infected_labels": [], "test_size": 0.3}
    whole = load_data_set(make_config(values, "test"))
    with caplog.at_level(logging.WARNING):
        data = load_data_set(make_config(values | {"train_size": 4}, "test"))
    assert whole.train.class_counts.tolist() == [5, 3]
    assert data.train.class_counts.tolist() == [4, 3]
    assert "train_size: 'PNEUMONIA' has 3 images, 4 were asked for; all are taken" in caplog.text
    assert data.train.fingerprint == load_data_set(make_config(values | {"train_size": 4}, "test")).train.fingerprint
    for part in ("validation", "test"):  # what is scored does not depend on how much is trained on
        assert data.parts[part].fingerprint == whole.parts[part].fingerprint


def test_a_folder_that_holds_nothing_known(tmp_path):
    write_image(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"holds no annotation of a known format; found 1 image \(first a\.png\)"):
        load_data_set(make_config({"train_images": str(tmp_path)}, "test"))


def test_a_test_folder_with_the_names_of_the_training_folder(tmp_path):
    """chest_xray has train/NORMAL and test/NORMAL; nothing keeps their file names apart."""
    for part in ("train", "test"):
        for name in ("NORMAL", "PNEUMONIA"):
            for i in range(4):
                write_image(tmp_path / part / name / f"{i}.png", value=90 + i)
    values = {"train_images": str(tmp_path / "train"), "test_annotations": str(tmp_path / "test"), "labels": ["NORMAL", "PNEUMONIA"]}
    data = load_data_set(make_config(values, "test"))
    assert len(data.train) + len(data.validation) == 8
    assert sorted(p.key for p in data.test.images) == sorted(f"test/{n}/{i}.png" for n in ("NORMAL", "PNEUMONIA") for i in range(4))
    assert len({p.key for p in data.all_images.images}) == 16


def test_labels_left_to_the_data(tmp_path, caplog):
    camera_traps(tmp_path)
    with caplog.at_level(logging.WARNING):
        data = load_data_set(
            make_config({"train_images": str(tmp_path), "labels": None, "ignore_labels": ["fox"], "infected_labels": []}, "test")
        )
    assert len({r.message for r in caplog.records}) == len(caplog.records) == 5  # nothing is warned of twice
    assert data.train.labels.names == ("bird",)
    assert data.train.labels.ignored == ("fox",)

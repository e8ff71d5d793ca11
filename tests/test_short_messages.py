"""Messages stay short enough to be read, however long what they quote is; found by mutated inputs (`make torture`)."""

import json
from pathlib import Path

import pytest
import yaml

from malaria_cells.base.errors import InputError, reason
from malaria_cells.config import load_config, make_config
from malaria_cells.data.annotations import load_annotations
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.inference.model_yaml import load_description
from tests.conftest import write_image
from tests.tiny_exports import save_export

LONG_NAME = "x" * 70_000
FORMATS = {".json": "coco", ".csv": "via", ".xml": "voc", ".yaml": "yolo"}


def coco(category_id, other):
    boxes = [{"id": 1, "image_id": 1, "category_id": category_id, "bbox": [1, 2, 30, 40]}]
    images = [{"id": 1, "file_name": "a.png", "width": 200, "height": 150}]
    return json.dumps({"images": images, "annotations": boxes, "categories": [{"id": other, "name": "ring"}]})


def outline(points):
    content = json.loads(coco(1, 1))
    del content["annotations"][0]["bbox"]
    content["annotations"][0]["segmentation"] = [points]
    return json.dumps(content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("annotations.json", coco(LONG_NAME, 1)),
        ("annotations.json", coco(list(range(3000)), 1)),
        ("annotations.json", coco(1, LONG_NAME)),
        ("annotations.json", outline(LONG_NAME)),
        ("via.csv", f"filename,region_shape_attributes,region_attributes{LONG_NAME}\na.png,{{}},{{}}\n"),
        ("data.yaml", f"names: [ring]\ntrain: ../../{LONG_NAME}\n"),
        ("config.yaml", f"{LONG_NAME}: 3\n"),
        ("config.yaml", f"refiner: {{{LONG_NAME}: 3}}\n"),
        ("a.xml", f"<?xml version='1.0' encoding='{'9' * 5000}'?><annotation/>"),
        ("model.yaml", f"format_version: {LONG_NAME}\n"),
        ("annotations.json", coco(1, 1).replace("200", "3").replace("a.png", LONG_NAME)),
    ],
)
def test_messages_stay_short_whatever_is_long(name, content, tmp_path):
    write_image(tmp_path / "a.png", (200, 150))
    (tmp_path / name).write_text(content, encoding="utf-8")
    read = {"config.yaml": load_config, "model.yaml": lambda path: load_description(path.parent)}.get(name)
    with pytest.raises(InputError) as error:
        (read or (lambda path: load_annotations(path.parent, None, annotation_format=FORMATS[Path(name).suffix])))(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path))
    assert len(str(error.value)) < 2500


def test_messages_of_settings_and_of_libraries_stay_short(tmp_path):
    (tmp_path / "config.yaml").write_text("epochs: 3\n", encoding="utf-8")
    for override in (LONG_NAME, f"{LONG_NAME}=3", f"{LONG_NAME}=[", f"labels=[{LONG_NAME}, 3]"):
        with pytest.raises(InputError) as error:
            load_config(tmp_path / "config.yaml", [override])
        assert len(str(error.value)) < 2500
    assert len(reason(ValueError(LONG_NAME))) == 500
    with pytest.raises(InputError, match="unknown key"):
        make_config({LONG_NAME: 1}, "test")


@pytest.mark.parametrize("part", ["names", "proposals"])
def test_messages_about_a_model_stay_short(part, tmp_path):
    """Of a name of a class, and of the proposal method, each as long as a mutant makes it."""
    save_export(tmp_path, 6)
    content = yaml.safe_load((tmp_path / "model.yaml").read_text(encoding="utf-8"))
    if part == "names":
        content["labels"]["names"][0] = LONG_NAME
    else:
        content["proposals"] = LONG_NAME
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_detector(tmp_path, "onnx")
    assert str(error.value).startswith(str(tmp_path / "model.yaml"))
    assert len(str(error.value)) <= 3010


def test_a_long_message_keeps_its_beginning_and_its_advice():
    message = str(InputError(f"a.json: found {LONG_NAME}; expected a number"))
    assert message.startswith("a.json: found xxx")
    assert message.endswith("xx; expected a number")
    assert len(message) < 3010
    assert str(InputError("a.json: short")) == "a.json: short"

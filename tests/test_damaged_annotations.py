"""An annotation with a fault in it is read, as far as it makes sense, or refused with the file's name; nothing else is raised."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations import AnnotationSet, load_annotations
from malaria_cells.data.sample import write_sample
from malaria_cells.data.writers import WRITERS
from tests.conftest import write_image

JUNK = [None, True, -1, 0, 1e308, float("nan"), float("inf"), "", "ring", [], {}, [1], {"id": 1}, "12", -1e9, "../x"]
INSERTED = [b"nan", b"-", b"\n", b",", b'"', b"<", b"\xff", b"\xe4", b"1e309", b" ", b"null", b"\x00"]


def as_iml(annotations: AnnotationSet, folder: Path) -> None:
    def entry(p):
        boxes = [dict(zip("xywh", map(str, (x, y, r - x, b - y)), strict=True)) for x, y, r, b in p.cells_xyxy.tolist()]
        return {"image_name": p.key, "objects": [{"type": "ring", "bbox": box} for box in boxes]}

    (folder / "annotations.json").write_text(json.dumps([entry(p) for p in annotations.images]))


def as_csv(annotations: AnnotationSet, folder: Path) -> None:
    with (folder / "train.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("image", "label", "x_min", "y_min", "x_max", "y_max"))
        table.writerows((p.key, "ring", *box) for p in annotations.images for box in p.cells_xyxy.tolist())


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """The same two images in every format."""
    root = tmp_path_factory.mktemp("formats")
    write_sample(root / "bbbc041", training=2, test=1, seed=3, size_wh=(320, 240))
    (root / "bbbc041" / "test.json").unlink()
    annotations = load_annotations(root / "bbbc041" / "training.json", None)
    for name in ("coco", "voc", "yolo"):
        WRITERS[name](annotations, root / name)
    for name, write in (("iml", as_iml), ("csv", as_csv)):
        (root / name).mkdir()
        (root / name / "images").symlink_to(root / "bbbc041" / "images")
        write(annotations, root / name)
    return {folder.name: folder for folder in root.iterdir()}


def annotation_in(folder: Path) -> Path:
    return next(iter([*folder.glob("*.json"), *folder.glob("*.csv"), *folder.glob("*.yaml")]), folder)


def texts_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix in {".json", ".csv", ".yaml", ".txt", ".xml"})


def read_or_refused(path: Path, damaged: bytes, folder: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(damaged)
    try:
        load_annotations(annotation_in(folder), None)
    except InputError as error:
        refused = str(error)
    else:
        refused = str(folder)
    finally:
        path.write_bytes(whole)
    assert str(folder) in refused


@pytest.mark.parametrize("name", ["bbbc041", "coco", "csv", "iml", "voc", "yolo"])
@given(data=st.data())
def test_text_with_bytes_lost_changed_or_added(name, folders, data):
    path = data.draw(st.sampled_from(texts_in(folders[name])))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content)))
    lost = data.draw(st.sampled_from([0, 0, 1, 3, 200, len(content)]))
    added = data.draw(st.sampled_from([b"", *INSERTED]) | st.binary(max_size=2))
    read_or_refused(path, content[:at] + added + content[at + lost :], folders[name])


def places(content: object, place: tuple = ()) -> Iterator[tuple]:
    """Where values are in parsed JSON, of lists the first three."""
    if place:
        yield place
    inner = content.items() if isinstance(content, dict) else enumerate(content[:3]) if isinstance(content, list) else ()
    for key, value in inner:
        yield from places(value, (*place, key))


@pytest.mark.parametrize("name", ["bbbc041", "coco", "iml"])
@given(data=st.data())
def test_json_with_a_value_lost_or_of_another_kind(name, folders, data):
    path = annotation_in(folders[name])
    content = json.loads(path.read_bytes())
    *way, last = data.draw(st.sampled_from(list(places(content))))
    inner = content
    for key in way:
        inner = inner[key]
    if data.draw(st.booleans()):
        del inner[last]
    else:
        inner[last] = data.draw(st.sampled_from(JUNK))
    read_or_refused(path, json.dumps(content).encode(), folders[name])


def test_a_table_in_another_encoding_is_told_how_to_be_saved(tmp_path):
    write_image(tmp_path / "a.png")
    (tmp_path / "train.csv").write_bytes("image,label\na.png,Rötel\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"train\.csv: byte 19 is not UTF-8; save the file as UTF-8 \(in Excel: CSV UTF-8\)"):
        load_annotations(tmp_path / "train.csv", None)
    (tmp_path / "train.csv").write_text("image,label\na.png,Rötel\n", encoding="utf-8-sig")
    assert load_annotations(tmp_path / "train.csv", None).labels.names == ("Rötel",)


def test_a_class_that_is_no_text_is_named(folders):
    path = annotation_in(folders["bbbc041"])
    whole = path.read_bytes()
    content = json.loads(whole)
    content[0]["objects"][0]["category"] = 3
    path.write_text(json.dumps(content))
    try:
        with pytest.raises(InputError, match="has the name or category 3; expected a text"):
            load_annotations(path, None)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("found", ["folder", "loop", "nowhere"])
def test_a_list_of_a_part_that_is_no_file_is_named(found, tmp_path):
    from tests.test_formats import bccd

    path = bccd(tmp_path / "set") / "ImageSets" / "Main" / "trainval.txt"
    path.unlink()
    if found == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.name if found == "loop" else "nowhere")
    with pytest.raises(InputError, match=r"trainval\.txt: cannot be read \(.*\); check that it is a file, still there"):
        load_annotations(tmp_path / "set", None)


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.xml"])
def test_an_annotation_that_is_gone_when_it_is_read_is_named(name, tmp_path):
    from malaria_cells.data.annotations.source import Source
    from malaria_cells.data.annotations.tables import read_table

    source = Source(tmp_path / name)
    with pytest.raises(InputError, match=rf"^[^:]*a\.{name[2:]}: cannot be read \(No such file or directory\)"):
        _ = {"a.json": lambda: source.json, "a.xml": lambda: source.xml, "a.csv": lambda: read_table(source.path)}[name]()

"""Files of other drawing tools: golden boxes by the tools' own documentation, what is left out is counted, faults are named."""

import copy
import json
import random

import numpy as np
import pytest

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations import foreign, load_annotations
from malaria_cells.data.annotations.readers import all_readers, createml, cvat_xml, label_studio, labelme, qupath, via, vott
from malaria_cells.data.annotations.source import RawImage, Source
from tests.conftest import write_image


def source_of(folder, content, name="a.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return Source(path)


def read(module, folder, content, name="a.json"):
    """Read with the first reader that recognises the file, which has to be the one given; returns images and notes."""
    source = source_of(folder, content, name)
    fitting = [m for m in all_readers() if source.path.suffix in m.format.suffixes and m.recognises(source)]
    assert [m.format for m in fitting] == [module.FORMAT]
    return module.read(source), [line.split(": ", 1)[1] for line in source.issues.lines("x")]


def boxes(image):
    return list(zip(image.categories, image.boxes_xyxy.round(3).tolist(), strict=True))


LABELME = {
    "version": "5.5.0",
    "flags": {"blurred": False},
    "shapes": [
        {"label": "ring", "points": [[50.5, 60], [20, 30]], "group_id": None, "shape_type": "rectangle", "flags": {}},
        {"label": "rbc", "points": [[10, 10], [20, 12], [15, 30]], "shape_type": "polygon", "group_id": None, "flags": {}},
        {"label": "wbc", "points": [[100, 100], [103, 104]], "shape_type": "circle", "group_id": None, "flags": {}},
        {"label": "ring", "points": [[1, 2]], "shape_type": "point", "group_id": None, "flags": {}},
        {"label": "ring", "points": [[1, 2], [3, 4]], "shape_type": "line", "group_id": None, "flags": {}},
    ],
    "imagePath": "..\\images\\a.png",
    "imageData": None,
    "imageHeight": 150,
    "imageWidth": 200,
}


def test_labelme(tmp_path):
    (image,), notes = read(labelme, tmp_path, LABELME)
    assert (image.name, image.size_wh) == ("..\\images\\a.png", (200, 150))
    assert boxes(image) == [("ring", [20, 30, 50.5, 60]), ("rbc", [10, 10, 20, 30]), ("wbc", [95, 95, 105, 105])]
    assert notes == [
        "1 shape of the type 'point', which has no box, left out; first: ..\\images\\a.png",
        "1 shape of the type 'line', which has no box, left out; first: ..\\images\\a.png",
    ]


def test_labelme_outlines_in_parts_short_ones_and_flags(tmp_path):
    shapes = [
        {"label": "rbc", "points": [[0, 0], [5, 0], [5, 5]], "group_id": 1},
        {"label": "rbc", "points": [[20, 0], [25, 0], [25, 9]], "shape_type": "polygon", "group_id": 1},
        {"label": "ring", "points": [[50, 0], [55, 0], [55, 9]], "shape_type": "polygon", "group_id": 1},
        {"label": "rbc", "points": [[20, 0], [25, 0]], "shape_type": "polygon"},
        {"label": "rbc", "points": [[20, 0], [30, 10]], "shape_type": "rectangle", "group_id": 1},  # drawn around all of a cell
        {"label": "rbc", "points": [[40, 50], [50, 40], [60, 50], [50, 60]], "shape_type": "rotation"},
    ]
    (image,), notes = read(labelme, tmp_path, {"shapes": shapes, "imagePath": None, "flags": {"good": True}}, "b.json")
    assert image.name == "b"
    assert boxes(image) == [
        ("rbc", [0, 0, 25, 9]),
        ("ring", [50, 0, 55, 9]),
        ("rbc", [20, 0, 30, 10]),
        ("rbc", [40, 40, 60, 60]),
    ]
    assert [note.split(";")[0] for note in notes] == [
        "1 outline with the label and group_id of another one, taken as one cell with it",
        "1 outline with fewer than 3 points (polygon), left out",
        "1 rotated box replaced by its axis-aligned bounding box",
        "1 flag of a whole image, not read",
    ]


def test_labelme_files_that_were_renamed_with_their_images(tmp_path):
    write_image(tmp_path / "b.png")
    (image,), notes = read(labelme, tmp_path, LABELME, "b.json")
    assert image.name == "b.png"
    assert notes[0] == "1 image with another name in its annotation file, found by the name of that file; first: b.png ('a.png')"
    write_image(tmp_path / "a.png")
    (image,), _ = read(labelme, tmp_path, LABELME, "b.json")
    assert image.name == "..\\images\\a.png"


def via_region(shape, attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


RECT = {"name": "rect", "x": 22, "y": 23, "width": 28, "height": 10}
VIA = {
    "a.png1000": {
        "filename": "a.png",
        "size": 1000,
        "regions": [
            via_region(RECT, {"cell": "ring"}),
            via_region({"name": "polygon", "all_points_x": [1, 9, 5], "all_points_y": [2, 2, 8]}, {"cell": "rbc"}),
            via_region({"name": "circle", "cx": 50, "cy": 60, "r": 10.5}, {"cell": "rbc"}),
            via_region({"name": "ellipse", "cx": 50, "cy": 60, "rx": 20, "ry": 10, "theta": np.pi / 2}, {"cell": "rbc"}),
            via_region({"name": "point", "cx": 50, "cy": 60}, {"cell": "rbc"}),
            via_region({"name": "polyline", "all_points_x": [1, 9], "all_points_y": [2, 2]}, {"cell": "rbc"}),
            via_region(RECT, {"cell": ""}),
        ],
        "file_attributes": {},
    },
    "b.png5": {"filename": "b.png", "size": 5, "regions": [], "file_attributes": {}},
}


@pytest.mark.parametrize("wrap", [lambda content: content, lambda content: {"_via_settings": {}, "_via_img_metadata": content}])
def test_via_json(tmp_path, wrap):
    (image, empty), notes = read(via, tmp_path, wrap(VIA))
    assert boxes(image) == [
        ("ring", [22, 23, 50, 33]),
        ("rbc", [1, 2, 9, 8]),
        ("rbc", [39.5, 49.5, 60.5, 70.5]),
        ("rbc", [40, 40, 60, 80]),
    ]
    assert (empty.name, len(empty.boxes_xyxy)) == ("b.png", 0)
    assert [note.split(";")[0] for note in notes] == [
        "1 point shape without a box, left out",
        "1 polyline shape without a box, left out",
        "1 region without a value of 'cell', left out",
    ]


def test_via_attributes_of_files_are_counted(tmp_path):
    content = {"a": {**VIA["b.png5"], "file_attributes": {"label": "ring", "caption": ""}}, "b": VIA["b.png5"]}
    images, notes = read(via, tmp_path, content)
    assert [len(p.categories) for p in images] == [0, 0]
    assert notes == ["1 image with file attributes, which are not read; first: b.png"]
    _, notes = read(via, tmp_path, VIA_CSV.replace('b.png,99,"{}"', 'b.png,99,"{""label"": ""ring""}"'), "via.csv")
    assert notes == ["1 image with file attributes, which are not read; first: b.png"]


def test_via_1_numbers_its_regions(tmp_path):
    content = {
        "a": {"filename": "a.png", "size": 1, "regions": {"0": via_region(RECT, {"x": "ring"}), "1": via_region(RECT, {"x": "rbc"})}}
    }
    (image,), _ = read(via, tmp_path, content)
    assert image.categories == ["ring", "rbc"]


def test_via_checkboxes_and_several_attributes(tmp_path):
    def content(*attributes):
        return {"a": {"filename": "a.png", "size": 1, "regions": [via_region(RECT, a) for a in attributes]}}

    (image,), _ = read(via, tmp_path, content({"cell": {"ring": True}}, {"cell": {"rbc": True, "ring": False}}))
    assert image.categories == ["ring", "rbc"]
    (image,), notes = read(via, tmp_path, content({"Type": "ring", "quality": "good", "by": "me"}))
    assert image.categories == ["ring"]
    assert notes == ["2 attributes of regions other than 'Type', not read; first: quality"]
    with pytest.raises(InputError, match=r"a\.json: its regions have the attributes 'stage' \(2\), 'quality' \(1\); expected one"):
        read(via, tmp_path, content({"stage": "ring", "quality": "good"}, {"stage": "rbc"}))
    with pytest.raises(InputError, match="have no attribute with a value; expected one"):
        read(via, tmp_path, content({}, {"cell": ""}))
    with pytest.raises(InputError, match=r"image 'a\.png': a region of 'a\.png' has several values of 'cell'"):
        read(via, tmp_path, content({"cell": {"ring": True, "rbc": True}}))


VIA_CSV = (
    "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
    'a.png,1000,"{}",2,0,"{""name"":""rect"",""x"":22,""y"":23,""width"":28,""height"":10}","{""cell"":""ring""}"\n'
    'a.png,1000,"{}",2,1,"{""name"":""circle"",""cx"":50,""cy"":60,""r"":10}","{""cell"":""rbc""}"\n'
    'b.png,99,"{}",0,0,"{}","{}"\n'
)


def test_via_csv(tmp_path):
    (image, empty), notes = read(via, tmp_path, VIA_CSV, "via.csv")
    assert boxes(image) == [("ring", [22, 23, 50, 33]), ("rbc", [40, 50, 60, 70])]
    assert (empty.name, empty.categories, notes) == ("b.png", [], [])
    _, notes = read(via, tmp_path, VIA_CSV.replace(",2,", ",3,"), "via.csv")
    assert notes == ["1 image with another number of rows than its region_count; first: a.png (2 rows, not 3)"]
    with pytest.raises(InputError, match=r"via\.csv: line 3 has .*; expected JSON as VIA writes it"):
        read(via, tmp_path, VIA_CSV.replace('{""name"":""circle""', '{""name""'), "via.csv")


def ls_result(value, **more):
    return {
        "original_width": 200,
        "original_height": 150,
        "image_rotation": 0,
        "value": value,
        "from_name": "label",
        "to_name": "image",
        **more,
    }


def ls_rect(label, x=10, y=20, width=30, height=40, **more):
    return ls_result(
        {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": [label], **more}, type="rectanglelabels"
    )


LABEL_STUDIO = [
    {
        "id": 1,
        "data": {"image": "/data/upload/1/ab12cd34-a%20b.png"},
        "annotations": [
            {
                "id": 1,
                "was_cancelled": False,
                "result": [
                    ls_rect("ring"),
                    ls_result({"points": [[10, 10], [20, 10], [20, 30]], "closed": True, "polygonlabels": ["rbc"]}, type="polygonlabels"),
                    ls_result(
                        {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 0, "ellipselabels": ["wbc"]}, type="ellipselabels"
                    ),
                    ls_result({"format": "rle", "rle": [0, 1], "brushlabels": ["wbc"]}, type="brushlabels"),
                    ls_result({"x": 50, "y": 50, "width": 0.5, "keypointlabels": ["wbc"]}, type="keypointlabels"),
                    ls_result({"choices": ["good"]}, type="choices"),
                    {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
                ],
            },
            {"id": 2, "was_cancelled": True, "result": []},
        ],
        "predictions": [{"result": [ls_rect("ring")]}],
    },
    {"id": 2, "data": {"image": "s3://bucket/run 1/b.png"}, "annotations": [{"id": 3, "result": []}], "predictions": []},
    {"id": 3, "data": {"image": "c.png"}, "annotations": [], "predictions": []},
]


def test_label_studio(tmp_path):
    (image, empty), notes = read(label_studio, tmp_path, LABEL_STUDIO)
    assert (image.name, image.size_wh) == ("a b.png", (200, 150))
    assert boxes(image) == [("ring", [20, 30, 80, 90]), ("rbc", [20, 15, 40, 45]), ("wbc", [80, 45, 120, 105])]
    assert (empty.name, empty.categories) == ("/run 1/b.png", [])
    assert sorted(note.split(";")[0] for note in notes) == [
        "1 annotation that was cancelled, left out",
        "1 choice of an image or a region, not read",
        "1 image without a finished annotation, left out",
        "1 relation between cells, not read",
        "1 result of the type 'brushlabels', which has no box, left out",
        "1 result of the type 'keypointlabels', which has no box, left out",
        "1 task with predictions, which are not read",
    ]


def ls_task(*annotations, image="a.png"):
    return {"id": 1, "data": {"image": image}, "annotations": list(annotations)}


def test_label_studio_with_several_annotators(tmp_path):
    first = {"result": [ls_rect("ring")], "updated_at": "2024-01-02T00:00:00Z", "completed_by": 1}
    last = {"result": [ls_rect("rbc"), ls_rect("rbc", x=50)], "updated_at": "2024-01-03T00:00:00Z", "completed_by": 2}
    (image,), notes = read(label_studio, tmp_path, [ls_task(last, first)])
    assert image.categories == ["rbc", "rbc"]
    assert notes == ["1 image with several annotations; only the ground truth, or else the latest one, is read; first: a.png"]
    (image,), _ = read(label_studio, tmp_path, [ls_task(last, {**first, "ground_truth": True})])
    assert image.categories == ["ring"]


@pytest.mark.parametrize("degrees", [0, 30, 90, 200, -45])
def test_label_studio_turns_boxes_about_their_left_upper_corner(tmp_path, degrees):
    (image,), notes = read(label_studio, tmp_path, [ls_task({"result": [ls_rect("ring", 50, 40, 10, 20, rotation=degrees)]})])
    turn = np.radians(degrees)
    corners = np.array([[0, 0], [20, 0], [20, 30], [0, 30]]) @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    corners += [100, 60]
    assert image.boxes_xyxy[0] == pytest.approx([*corners.min(axis=0), *corners.max(axis=0)])
    assert len(notes) == bool(degrees)


def test_label_studio_shapes_whose_label_is_apart(tmp_path):
    value = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}
    results = [ls_result(value, id="r1", type="rectangle"), ls_result({**value, "labels": ["ring"]}, id="r1", type="labels")]
    (image,), notes = read(label_studio, tmp_path, [ls_task({"result": results})])
    assert (boxes(image), notes) == ([("ring", [20, 30, 80, 90])], [])
    text = ls_result({**value, "text": ["blurred"]}, id="r1", type="textarea")
    (image,), notes = read(label_studio, tmp_path, [ls_task({"result": [*results, text]})])
    assert len(image.boxes_xyxy) == 1
    assert notes == ["1 result of a labelled region (a text or a rating), not read; first: a.png"]
    (image,), notes = read(label_studio, tmp_path, [ls_task({"result": results[:1]})])
    assert notes == ["1 region without exactly one label, left out; first: a.png"]


def test_label_studio_choices_are_labels_of_whole_images_where_there_is_no_box(tmp_path):
    def task(name, choice):
        return ls_task({"result": [{"type": "choices", "value": {"choices": [choice]}}]}, image=name)

    images, _ = read(label_studio, tmp_path, [task("a.png", "ring"), task("b.png", "rbc")])
    assert [(p.name, p.categories, p.whole) for p in images] == [("a.png", ["ring"], True), ("b.png", ["rbc"], True)]


def test_label_studio_json_min(tmp_path):
    label = {
        "x": 10,
        "y": 20,
        "width": 30,
        "height": 40,
        "rotation": 0,
        "rectanglelabels": ["ring"],
        "original_width": 200,
        "original_height": 150,
    }
    entry = {"image": "/data/upload/1/ab12cd34-a.png", "id": 1, "label": [label], "annotator": 1, "annotation_id": 1, "lead_time": 3.5}
    empty = {"image": "/data/upload/1/ab12cd35-b.png", "id": 2, "annotator": 1, "annotation_id": 2}
    images, notes = read(label_studio, tmp_path, [entry, empty])
    assert [(p.name, boxes(p)) for p in images] == [("a.png", [("ring", [20, 30, 80, 90])]), ("b.png", [])]
    assert notes == []


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("/data/upload/3/ab12cd34-name.jpg", "name.jpg"),
        ("/data/local-files/?d=slides/1/a%20b.jpg", "/slides/1/a b.jpg"),
        ("gs://bucket/x/a.jpg", "/x/a.jpg"),
        ("https://host.org/x/a.jpg?X-Amz-Date=3", "/x/a.jpg"),
        ("/tasks/3/presign/?fileuri=czM6Ly9idWNrZXQveC9hLmpwZw==", "/x/a.jpg"),
        ("sub/a.jpg", "sub/a.jpg"),
        ("C:\\images\\a.jpg", "C:\\images\\a.jpg"),
        ("abcdef01-own.jpg", "abcdef01-own.jpg"),
    ],
)
def test_label_studio_refers_to_images_in_many_ways(tmp_path, reference, name):
    (image,), _ = read(label_studio, tmp_path, [ls_task({"result": []}, image=reference)])
    assert image.name == name


def test_label_studio_uploads_beside_their_export_keep_their_prefix(tmp_path):
    write_image(tmp_path / "images" / "ab12cd34-name.jpg")
    found = load_annotations(
        source_of(
            tmp_path,
            [
                ls_task(
                    {"result": [{**ls_rect("ring"), "original_width": 100, "original_height": 80}]},
                    image="/data/upload/3/ab12cd34-name.jpg",
                )
            ],
        ).path,
        None,
    )
    assert [p.key for p in found.images] == ["images/ab12cd34-name.jpg"]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (ls_task({"result": [ls_rect("ring"), ls_rect("ring") | {"to_name": "image2"}]}), "shapes of several images"),
        (ls_task({"result": [ls_rect("ring") | {"image_rotation": 90}]}), r"image 'a\.png': was rotated in Label Studio"),
        (ls_task({"result": [ls_rect("ring") | {"original_width": None}]}), "`original_width` or `original_height` is missing"),
        (ls_task({"result": [ls_rect(3)]}), "a shape has the label 3, not a text"),
        (ls_task({"result": []}, image="data:image/png;base64,AAAA"), "expected its path or address"),
        ({"data": {"text": "x"}, "annotations": [{"result": []}]}, "expected the image's path under the key `image`"),
    ],
)
def test_label_studio_tasks_that_cannot_be_trusted(tmp_path, task, message):
    with pytest.raises(InputError, match=message):
        read(label_studio, tmp_path, [task])


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><size>2</size></task></meta>
<image id="0" name="sub/a.png" subset="Train" width="200" height="150">
  <!-- drawn twice -->
  <box label="ring" occluded="0" xtl="22.5" ytl="23" xbr="50" ybr="33" z_order="0"><attribute name="sure">yes</attribute></box>
  <box label="ring" xtl="80" ytl="40" xbr="120" ybr="60" rotation="90.0"></box>
  <polygon label="rbc" points="1.0,2.0;9.0,2.0;5.5,8.0"></polygon>
  <ellipse label="wbc" cx="100" cy="90" rx="20" ry="10"></ellipse>
  <mask label="rbc" rle="2, 2, 3, 1, 4" left="10" top="20" width="4" height="3"></mask>
  <points label="rbc" points="1.0,2.0"></points>
  <polyline label="rbc" points="1.0,2.0;3,4"></polyline>
  <tag label="good"></tag>
</image>
<image id="1" name="b.png" width="200" height="150"/>
</annotations>"""


def test_cvat_xml(tmp_path):
    (image, empty), notes = read(cvat_xml, tmp_path, CVAT, "annotations.xml")
    assert (image.name, image.size_wh, image.part) == ("sub/a.png", (200, 150), "train")
    assert boxes(image) == [
        ("ring", [22.5, 23, 50, 33]),
        ("ring", [90, 30, 110, 70]),
        ("rbc", [1, 2, 9, 8]),
        ("wbc", [80, 80, 120, 100]),
        ("rbc", [12, 20, 14, 22]),  # of 4 x 3 pixels: the last two of the first row, and the last of the second
    ]
    assert (empty.name, empty.categories, empty.part) == ("b.png", [], None)
    assert [note.split(";")[0] for note in notes] == [
        "1 shape with attributes, which are not read",
        "1 rotated shape replaced by its axis-aligned bounding box",
        "1 point shape without a box, left out",
        "1 line without a box, left out",
        "1 tag without a box, left out",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('xtl="22.5"', "", r"image 'sub/a\.png': <box> lacks xtl"),
        ('xtl="22.5"', 'xtl="?"', r"image 'sub/a\.png' has a box with the coordinates"),
        ('label="rbc" points="1.0,2.0;9.0', 'label="" points="1.0,2.0;9.0', "has the label '', not a text"),
        ('points="1.0,2.0;9.0,2.0;5.5,8.0"', 'points="1.0,2.0"', "expected three or more"),
        ('points="1.0,2.0;9.0,2.0;5.5,8.0"', 'points="1;2;3"', "instead of a point"),
        ('rle="2, 2, 3, 1, 4"', 'rle="2, 2"', "do not fill its"),
        ('rle="2, 2, 3, 1, 4"', 'rle="nan"', "cannot convert float NaN"),
        ('name="b.png"', "", "the `name` of an <image> is None"),
        ('<image id="1"', '<track id="1"/><image id="1"', "holds tracks of a video .*export the task as `CVAT for images 1.1`"),
    ],
)
def test_cvat_xml_with_a_fault(tmp_path, old, new, message):
    assert old in CVAT
    with pytest.raises(InputError, match=message):
        read(cvat_xml, tmp_path, CVAT.replace(old, new, 1), "annotations.xml")


def test_cvat_xml_says_where_images_are_missing(tmp_path):
    _, notes = read(cvat_xml, tmp_path, CVAT.replace("<size>2<", "<size>5<"), "annotations.xml")
    assert notes[0].startswith("1 task that declares 5 images and lists 2")


def feature(geometry, coordinates, properties):
    return {"type": "Feature", "geometry": {"type": geometry, "coordinates": coordinates}, "properties": properties}


RING = [[22, 22], [50, 22], [50, 50.5], [22, 50.5], [22, 22]]
QUPATH = [
    feature(
        "Polygon",
        [RING, [[30, 30], [31, 30], [31, 31]]],
        {"objectType": "annotation", "classification": {"name": "ring", "color": [1, 2, 3]}},
    ),
    feature(
        "MultiPolygon",
        [[[[0, 0], [5, 0], [5, 5]]], [[[9, 9], [12, 9], [12, 12]]]],
        {"objectType": "annotation", "classification": {"names": ["rbc", "old"]}},
    ),
    feature("Polygon", [[[0, 0], [200, 0], [200, 150]]], {"objectType": "annotation"}),
    feature("Polygon", [[[0, 0], [200, 0], [200, 150]]], {"objectType": "annotation", "classification": {"name": "Region*"}}),
    feature("Point", [3, 4], {"objectType": "annotation", "classification": {"name": "ring"}}),
]


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: {"type": "FeatureCollection", "features": f}])
@pytest.mark.parametrize("name", ["slide 1.geojson", "slide 1.json"])
def test_qupath(tmp_path, wrap, name):
    (image,), notes = read(qupath, tmp_path, wrap(QUPATH), name)
    assert image.name == "slide 1"
    assert boxes(image) == [("ring", [22, 22, 50, 50.5]), ("rbc: old", [0, 0, 12, 12])]
    assert [note.split(";")[0] for note in notes] == [
        "2 objects without a class, or with a class that ends in * (a region of interest), left out",
        "1 object of the type 'Point', which has no box, left out",
    ]


def test_qupath_annotations_beside_detections_are_told(tmp_path):
    detection = feature("Polygon", [RING], {"objectType": "detection", "classification": {"name": "ring"}})
    (image,), notes = read(qupath, tmp_path, [{**detection, "nucleusGeometry": {"type": "Polygon"}}, QUPATH[0]])
    assert len(image.boxes_xyxy) == 2
    assert notes[0].startswith("1 outline of a nucleus inside a cell, not read")
    assert notes[1].startswith("1 annotation with a class in a file of detections, taken as a cell")


CREATEML = [
    {"image": "a.png", "annotations": [{"label": "ring", "coordinates": {"x": 36.5, "y": 36, "width": 28, "height": 10}}]},
    {"image": "b.png", "annotations": []},
]


def test_createml(tmp_path):
    (image, empty), _ = read(createml, tmp_path, CREATEML)
    assert boxes(image) == [("ring", [22.5, 31, 50.5, 41])]
    assert (empty.name, empty.categories) == ("b.png", [])
    (image,), _ = read(createml, tmp_path, [{"imagefilename": "a.png", "annotation": CREATEML[0]["annotations"]}])
    assert image.name == "a.png"


VOTT = {
    "asset": {"format": "png", "id": "3f", "name": "a.png", "path": "file:C:/a.png", "size": {"width": 200, "height": 150}},
    "regions": [
        {
            "id": "x",
            "type": "RECTANGLE",
            "tags": ["ring"],
            "boundingBox": {"left": 22.5, "top": 23, "width": 28, "height": 10},
            "points": [],
        },
        {"id": "y", "type": "RECTANGLE", "tags": [], "boundingBox": {"left": 1, "top": 1, "width": 28, "height": 10}, "points": []},
    ],
    "version": "2.2.0",
}


@pytest.mark.parametrize("content", [VOTT, {"name": "project", "tags": [], "assets": {"3f": VOTT}}])
def test_vott(tmp_path, content):
    (image,), notes = read(vott, tmp_path, content)
    assert (image.name, image.size_wh, boxes(image)) == ("a.png", (200, 150), [("ring", [22.5, 23, 50.5, 33])])
    assert notes == ["1 region without exactly one tag, left out; first: a.png"]


JUNK = [
    "ü" * 300 + ".png",
    None,
    True,
    -1,
    0,
    1e308,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "ring",
    [],
    {},
    [1],
    {"id": 1},
    "12",
    "../x",
    "\ud800",
    [[[]]],
    {"a": {"b": []}},
]
LOST = object()
EXAMPLES = {
    "labelme": (labelme, LABELME),
    "via": (via, VIA),
    "label_studio": (label_studio, LABEL_STUDIO),
    "qupath": (qupath, {"type": "FeatureCollection", "features": QUPATH}),
    "createml": (createml, CREATEML),
    "vott": (vott, {"assets": {"3f": VOTT}}),
}


def places(content, place=()):
    if place:
        yield place
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inner:
        yield from places(value, (*place, key))


def read_or_refused(module, path):
    source, refused = Source(path), ""
    try:
        with np.errstate(all="ignore"):
            recognised, images = module.recognises(source), module.read(source)
    except InputError as error:
        refused = str(error)
    if refused:
        assert str(path) in refused
        assert len(refused) < 2000
        return
    assert isinstance(recognised, bool)
    assert all(isinstance(p, RawImage) and isinstance(p.name, str) and len(p.categories) == len(p.boxes_xyxy) for p in images)
    assert all(isinstance(c, str) for p in images for c in p.categories)


@pytest.mark.parametrize("name", EXAMPLES)
def test_json_with_any_value_lost_or_of_another_kind(name, tmp_path):
    """Every value of a small example is removed once, and replaced by some other kinds of values."""
    module, example = EXAMPLES[name]
    draw = random.Random(3)
    for *way, last in places(example):
        for junk in [LOST, *draw.sample(JUNK, 6)]:
            content = copy.deepcopy(example)
            inner = content
            for key in way:
                inner = inner[key]
            if junk is LOST:
                del inner[last]
            else:
                inner[last] = junk
            read_or_refused(module, source_of(tmp_path, content).path)


@pytest.mark.parametrize(("module", "content", "name"), [(via, VIA_CSV, "v.csv"), (cvat_xml, CVAT, "a.xml")])
def test_text_with_letters_lost_or_added(module, content, name, tmp_path):
    draw = random.Random(5)
    added = ["", "", '"', "<", "nan", "\n", ",", "1e999", "{", "\0", "-", "é", "</image>"]
    for _ in range(500):
        at, lost = draw.randrange(len(content)), draw.choice([0, 1, 3, 40])
        path = source_of(tmp_path, content[:at] + draw.choice(added) + content[at + lost :], name).path
        read_or_refused(module, path)


@pytest.mark.parametrize("module", [m for m in all_readers() if ".json" in m.format.suffixes])
@pytest.mark.parametrize(
    "content", [None, 1, ["x"], [], {}, [[]], [1], [None], [{}], {"a": 1}, {"a": []}, [{"a": 1}], {"type": []}, {"type": {}}]
)
def test_recognising_raises_on_nothing(module, content, tmp_path):
    assert module.recognises(source_of(tmp_path, content)) is False


@pytest.mark.parametrize(
    ("name", "content", "tool", "instead"),
    [
        ("a.json", {"description": "", "tags": [], "size": {"height": 1, "width": 1}, "objects": []}, "Supervisely", "COCO"),
        ("a.json", {"project": {}, "config": {}, "attribute": {}, "file": {}, "metadata": {}, "view": {}}, "VIA 3", "VIA 2"),
        ("a.json", {"version": "2.0", "item": {"name": "a"}, "annotations": []}, "V7 Darwin", "COCO"),
        ("a.json", [{"ID": "1", "Labeled Data": "u", "Label": {}}], "Labelbox", "COCO"),
        ("a.json", {"metadata": {}, "instances": []}, "SuperAnnotate", "COCO"),
        ("a.json", [{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}], "COCO results", "annotation"),
        ("a.json", {"info": {}, "categories": {}, "items": []}, "Datumaro", "COCO"),
        ("a.json", {"images": [], "annotations": []}, "COCO without all of its three lists", "categories"),
        ("a.xml", "<Annotations><Annotation><Regions/></Annotation></Annotations>", "Aperio ImageScope", "QuPath"),
        ("a.xml", "<ASAP_Annotations/>", "ASAP", "GeoJSON"),
        ("RoiSet.zip", "PK", "an archive", "unpack"),
        ("a.roi", "Iout", "ImageJ", "table"),
        ("t.xlsx", "PK", "workbook of Excel", "CSV UTF-8"),
        ("t.tfrecord", "x", "TFRecord", "COCO"),
        ("t.mat", "x", "MATLAB", "table"),
    ],
)
def test_files_of_other_tools_are_named_with_what_to_export(tmp_path, name, content, tool, instead):
    source = source_of(tmp_path, content, name)
    said = foreign.name_of_tool(source)
    assert said is not None
    assert tool in said[0]
    assert instead in said[1]
    with pytest.raises(InputError, match=f"{name}.*{tool}"):
        load_annotations(source.path, None)


@pytest.mark.parametrize(
    ("name", "content"), [("a.json", "{"), ("a.xml", "<a"), ("a.csv", "\0"), ("a.json", [1]), ("a.json", 3), ("a.bin", "x")]
)
def test_nothing_is_said_of_files_that_are_not_known(tmp_path, name, content):
    assert foreign.name_of_tool(source_of(tmp_path, content, name)) is None

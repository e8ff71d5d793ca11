"""Tables as spreadsheets and tools save them: read, or told in which line or column something is wrong."""

import csv
import random

import numpy as np
import pytest

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations import load_annotations
from malaria_cells.data.annotations.readers import csv_table
from malaria_cells.data.annotations.source import RawImage, Source
from tests.conftest import write_image


def source_of(folder, text, name="t.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return Source(path)


def read(folder, text, **more):
    """Images and notes of a table that is recognised."""
    source = source_of(folder, text, **more)
    assert csv_table.recognises(source)
    return csv_table.read(source), [line.split(": ", 1)[1] for line in source.issues.lines("x")]


def refused(folder, text, message, **more):
    with pytest.raises(InputError, match=message):
        csv_table.read(source_of(folder, text, **more))


def boxes(image):
    return list(zip(image.categories, image.boxes_xyxy.tolist(), strict=True))


BOX = ("a.png", [("ring", [18, 14, 46, 42])])


@pytest.mark.parametrize(
    "text",
    [
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,200,150,ring,18,14,46,42\n",
        "Filename,Width,Height,Class,X_Min,Y_Min,X_Max,Y_Max\na.png,200,150,ring,18,14,46,42\n",
        '"image","xmin","ymin","xmax","ymax","label"\n"a.png",18.0,14.0,46.0,42.0,"ring"\n',
        "a.png,18,14,46,42,ring\n",
        "path,x1,y1,x2,y2,class_name\na.png,18,14,46,42,ring\n",
        "ring,18,14,28,28,a.png,200,150\n",
        "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height\nring,18,14,28,28,a.png,200,150\n",
        "image,label,x,y,w,h\na.png,ring,18,14,28,28\n",
        "image,label,left,top,width,height\na.png,ring,18,14,28,28\n",
        "image,label,x_center,y_center,width,height\na.png,ring,32,28,28,28\n",
        "image;label;xmin;ymin;xmax;ymax\na.png;ring;18,0;14,0;46,0;42,0\n",
        "image\tlabel\txmin\tymin\txmax\tymax\na.png\tring\t18\t14\t46\t42\n",
        "image,image_width,image_height,label,xmin,ymin,xmax,ymax\na.png,200,100,ring,0.09,0.14,0.23,0.42\n",
    ],
)
def test_tables_of_boxes_in_many_dialects(tmp_path, text):
    (image,), _ = read(tmp_path, text)
    assert (image.name, [(c, np.round(b, 6).tolist()) for c, b in boxes(image)]) == BOX
    assert not image.whole


def test_one_box_an_image_is_still_a_box(tmp_path):
    write_image(tmp_path / "a.png")
    source_of(tmp_path, "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,100,80,ring,18,14,46,42\n")
    found = load_annotations(tmp_path / "t.csv", None)
    assert not found.whole
    assert found.images[0].boxes_xyxy.tolist() == [[18, 14, 46, 42]]


def test_declared_sizes_and_parts(tmp_path):
    text = "filename,width,height,class,xmin,ymin,xmax,ymax,split\na.png,200,150,ring,1,2,30,40,train\nb.png,10,20,rbc,1,2,3,4,Valid\n"
    images, notes = read(tmp_path, text)
    assert [(p.size_wh, p.part) for p in images] == [((200, 150), "train"), ((10, 20), "validation")]
    assert notes == []
    images, notes = read(tmp_path, text.replace("Valid", "slide 3"))
    assert [p.part for p in images] == [None, None]
    assert notes == ["1 column not read; first: split"]
    refused(tmp_path, text + "a.png,200,150,ring,1,2,31,41,test\n", "image 'a.png' has rows with different sizes or parts")


def test_images_without_cells(tmp_path):
    for text in ("image,label,xmin,ymin,xmax,ymax\na.png,ring,1,2,30,40\nb.png,,,,,\n", "a.png,1,2,30,40,ring\nb.png,,,,,\n"):
        images, _ = read(tmp_path, text)
        assert [(p.name, len(p.boxes_xyxy), p.whole) for p in images] == [("a.png", 1, False), ("b.png", 0, False)]
    refused(
        tmp_path, "image,label,xmin,ymin,xmax,ymax\na.png,ring,N/A,N/A,N/A,N/A\n", r"t\.csv: line 2 has the label 'ring' and no box; write"
    )
    refused(tmp_path, "image,label,xmin,ymin,xmax,ymax\na.png,,1,2,3,4\n", "line 2 lacks label")
    refused(tmp_path, "image,label,xmin,ymin,xmax,ymax\na.png,nan,1,2,3,4\n", "has a box with the label 'nan'")


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("image,label,xmin,ymin", "xmin, ymin"),
        ("image,width,height,label,xmin,ymin,xmax", "xmin, ymin, xmax"),
        ("image,label,x,y", "x, y"),
        ("image,label,bbox", "bbox"),
        ("Image,Class,Centroid X µm,Centroid Y µm", "Centroid X µm, Centroid Y µm"),
        ("image,label,PredictionString", "PredictionString"),
        ("image,label,x1,y1,x2,y2,x3,y3,x4,y4", "x1"),
    ],
)
def test_half_a_box_never_becomes_a_label_of_the_whole_image(tmp_path, header, named):
    row = ",".join(["a.png", *["5"] * header.count(",")])
    assert not csv_table.recognises(source_of(tmp_path, f"{header}\n{row}\n"))
    refused(tmp_path, f"{header}\n{row}\n", rf"found the columns {header.replace(',', ', ')}, of which .*{named}.* seem to belong to boxes")


def test_fractions_need_the_size(tmp_path):
    text = "ImageID,Source,LabelName,XMin,XMax,YMin,YMax\na,x,ring,0.1,0.3,0.2,0.5\n"
    refused(tmp_path, text, r"t\.csv: its boxes are fractions of 1 \(line 2 has \[0.1, 0.2, 0.3, 0.5\]\); write pixels, or add")
    (image,), _ = read(tmp_path, "image,label,xmin,ymin,xmax,ymax\na.png,ring,0,0,1,1\n")  # whole numbers are pixels
    assert image.boxes_xyxy.tolist() == [[0, 0, 1, 1]]


def test_x_and_y_are_a_corner_and_that_is_said(tmp_path):
    _, notes = read(tmp_path, "image,label,x,y,w,h\na.png,ring,18,14,28,28\n")
    assert notes == ["1 table whose columns x and y are read as the upper left corners of boxes; first: t.csv"]
    text = "image,image_width,image_height,label,x,y,w,h\na.png,100,100,ring,90,50,20,20\na.png,100,100,ring,20,50,20,20\n"
    refused(tmp_path, text, "x and y seem to be the centres of boxes")


def test_rows_that_repeat_and_rows_that_contradict(tmp_path):
    (a, b), notes = read(tmp_path, "image,label\na.png,ring\nb.png,ring\na.png,ring\n")
    assert (a.categories, b.categories) == (["ring"], ["ring"])
    assert notes == ["1 row that repeats another, left out; first: a.png (line 4)"]
    refused(
        tmp_path,
        "image,label\na.png,ring\nb.png,x\na.png,rbc\n",
        r"image 'a\.png' is listed twice with labels 'ring' and 'rbc' \(lines 2 and 4\)",
    )
    refused(
        tmp_path,
        "image,label,area\na.png,ring,600\na.png,ring,610\n",
        "lines 2 and 3 have the same image .* differ in 'area'",
    )
    box = "a.png,ring,1,2,30,40\n"
    (image,), notes = read(tmp_path, f"image,label,xmin,ymin,xmax,ymax\n{box}a.png,rbc,1,2,30,40\n{box}")
    assert image.categories == ["ring", "rbc"]
    assert notes == ["1 row that repeats another, left out; first: a.png (line 4)"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_separators_and_blank_lines(tmp_path, encoding, separator, end):
    lines = [["Filename", "Class"], ["z 0 ü.png", "red blood cell"], ["", ""], ["z 1.png", " ring "]]
    text = end.join(["", *(separator.join(line) for line in lines), "", ""])
    images, _ = read(tmp_path, text, encoding=encoding)
    assert [(p.name, p.categories) for p in images] == [("z 0 ü.png", ["red blood cell"]), ("z 1.png", ["ring"])]
    assert all(p.whole for p in images)


def test_other_habits_of_spreadsheets(tmp_path):
    images, _ = read(tmp_path, 'sep=;\nfilename;label\n"a; b.png";"5"" ring"\n')
    assert [(p.name, p.categories) for p in images] == [("a; b.png", ['5" ring'])]
    images, notes = read(tmp_path, ",filename,label,score,comment\n0,a.png,ring,0.5,x\n1,b.png,rbc,0.1,\n")
    assert [p.name for p in images] == ["a.png", "b.png"]
    assert notes == ["2 columns not read; first: score, comment"]
    images, _ = read(tmp_path, "image_id,path,label\n7,sub/a.png,ring\n")
    assert images[0].name == "sub/a.png"


def test_one_column_for_each_class(tmp_path):
    (a, b), _ = read(tmp_path, "filename, ring, red blood cell\na.png,0,1\nb.png,1.0,0.0\n")
    assert (a.categories, b.categories, a.whole) == (["red blood cell"], ["ring"], True)
    for row, said in (("1,1", "1 for ring, rbc"), ("0,0", "1 for none")):
        with pytest.raises(InputError, match=rf"line 3 has {said} of its classes; expected 1 for exactly one class"):
            read(tmp_path, f"filename,ring,rbc\na.png,0,1\nb.png,{row}\n")
    refused(
        tmp_path,
        "filename,ring,rbc\na.png,0.2,0.8\n",
        r"found the columns filename, ring, rbc; expected one for the image .* and one for the label",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\na.png,ring\nb.png\n", "line 3 lacks label"),
        ("image,label\n,ring\n", "line 2 lacks image"),
        ("image,label\na.png,NaN\n", "line 2 has the label 'NaN', which means no label"),
        ("image,label\na.png,ring,more\n", "line 2 has 3 fields, but the table has 2 columns.*put a field in quotes"),
        ('image,label\n"a.png,ring\nb.png,ring\n', "is not a row of a table .*look for a missing or extra quote"),
        ('image,label\n"a.png,ring\nb.png",ring\n', "line 3 has several lines in its image"),
        (
            "image,label,xmin,ymin,xmax,ymax\na.png,ring,1,,3,4\n",
            r"line 2 has \['1', '', '3', '4'\] as xmin, ymin, xmax, ymax; expected four numbers",
        ),
        ("image,label,xmin,ymin,xmax,ymax\na.png,ring,1,2,3,four\n", "expected four numbers"),
        (
            "a.png,ring\nb.png,rbc\n",
            "found the columns a.png, ring; its first line seems to be a row; write the names of the columns above it",
        ),
        ("", r"found the columns \(none\); expected one for the image"),
        ("image,label,Label\na.png,ring,rbc\n", "has the column 'Label' twice"),
        ("a,b\n1,2\n", "found the columns a, b; expected one for the image .* and one for the label"),
        ("image,label\na.png,ring\0\n", "contains zero bytes"),
        ("image,label\na.png," + "x" * 140_000 + "\n", "line 2 is not a row of a table .field larger than field limit"),
        ("x" * 140_000 + "\n", "line 1 is not a row of a table .field larger than field limit"),
        (
            " ,Label,Area,Mean,BX,BY,Width,Height\n1,a.png:ring,600,150,22,22,28,28\n",
            "measurements of ImageJ.*write them as a table with the columns",
        ),
    ],
)
def test_faults_are_named_with_their_line(tmp_path, text, message):
    limit = csv.field_size_limit()
    refused(tmp_path, text, message)
    assert csv.field_size_limit() == limit


def test_an_encoding_of_old_windows_is_told_how_to_be_saved(tmp_path):
    source = source_of(tmp_path, "image,label\nü.png,ring\n", encoding="cp1252")
    with pytest.raises(InputError, match=r"t\.csv: byte 12 is not UTF-8; save the file as UTF-8 \(in Excel: CSV UTF-8\)"):
        csv_table.recognises(source)
    refused(tmp_path, b"\xff\xfea\x00b", "byte 4 is not UTF-16")


def test_half_a_box_is_named_where_nothing_else_is_recognised(tmp_path):
    source_of(tmp_path, "image,label,xmin,ymin\na.png,ring,1,2\n")
    for path in (tmp_path / "t.csv", tmp_path):
        with pytest.raises(
            InputError, match=r"t\.csv: .*found the columns image, label, xmin, ymin, of which xmin, ymin seem to belong to boxes"
        ):
            load_annotations(path, None)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "image,count\na.png,3\n", "epoch,loss\n1,0.5\n", "", "x"])
def test_other_tables_are_not_taken_for_annotations(tmp_path, text):
    assert not csv_table.recognises(source_of(tmp_path, text))


EXAMPLES = (
    "filename,width,height,class,xmin,ymin,xmax,ymax,split\na.png,200,150,ring,18,14,46,42,train\nb.png,200,150,,,,,,test\n",
    "a.png,18,14,46,42,ring\nb.png,,,,,\n",
    "image;label;x;y;w;h\na.png;ring;1,5;2;30;40\nb.png;rbc;1;2;30;40\n",
    "filename,ring,rbc\na.png,0,1\nb.png,1,0\n",
)


@pytest.mark.parametrize("text", EXAMPLES)
def test_text_with_letters_lost_or_added(tmp_path, text):
    draw = random.Random(7)
    added = ["", "", '"', ",", ";", "\n", "\r", "nan", "1e999", "-", "\0", "é", "\t", "_", " "]
    for _ in range(400):
        at, lost = draw.randrange(len(text)), draw.choice([0, 1, 3, 20])
        source, said = source_of(tmp_path, text[:at] + draw.choice(added) + text[at + lost :]), ""
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                csv_table.recognises(source)
                images = csv_table.read(source)
        except InputError as error:
            said = str(error)
        if said:
            assert said.startswith(str(source.path))
        else:
            assert all(isinstance(p, RawImage) and len(p.categories) == len(p.boxes_xyxy) for p in images)

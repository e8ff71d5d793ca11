import json
import math
import re
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.annotations.matching import match_names
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.split_file import read_split
from malaria_cells.data.splits import fold_images, split_images


def make_set(classes_by_image, groups=None, n_labels=3):
    images = []
    for i, classes in enumerate(classes_by_image):
        n = len(classes)
        key = f"d/p{i:03d}.png"
        boxes = np.tile(np.array([[0, 0, 9, 9]], dtype=np.float32), (n, 1))
        images.append(
            AnnotatedImage(
                key, None, (50, 50), groups[i] if groups else key, boxes, np.array(classes, dtype=np.int64), np.zeros(n, dtype=bool)
            )
        )
    return AnnotationSet(LabelSet(tuple("abc"[:n_labels])), tuple(images))


sets = st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 2), max_size=6)), min_size=2, max_size=40)


@given(sets, st.floats(0.05, 0.9), st.integers(0, 5))
def test_parts_are_disjoint_whole_and_keep_groups_together(images, fraction, seed):
    whole = make_set([c for _, c in images], [f"g{g}" for g, _ in images])
    if len({p.group for p in whole.images}) < 2:
        with pytest.raises(InputError, match="cannot be split, which needs two"):
            split_images(whole, fraction, seed)
        return
    first, second = split_images(whole, fraction, seed)
    assert {p.key for p in first.images} | {p.key for p in second.images} == {p.key for p in whole.images}
    assert not {p.group for p in first.images} & {p.group for p in second.images}
    assert len(first)
    assert len(second)
    again = split_images(whole, fraction, seed)
    assert [p.key for p in again[1].images] == [p.key for p in second.images]


def test_every_class_is_in_both_parts_where_the_data_allow_it():
    """Class 2 lives in two of thirty images: a random fifth would miss it in two of three splits."""
    for seed in range(10):
        images = [[0, 0, 0, 1] for _ in range(30)]
        images[seed].append(2)
        images[29 - seed].append(2)
        first, second = split_images(make_set(images), 0.2, seed)
        assert len(second) == 6
        assert (first.class_counts > 0).all()
        assert (second.class_counts > 0).all()


@given(sets, st.integers(2, 5), st.integers(0, 3))
def test_folds_hold_every_image_once_and_keep_groups_together(images, folds, seed):
    whole = make_set([c for _, c in images], [f"g{g}" for g, _ in images])
    n = len({p.group for p in whole.images})
    if n < folds or n - math.ceil(n / folds) < 2:
        with pytest.raises(InputError, match=f"{folds} folds: {n} groups? of images are too few") as error:
            fold_images(whole, folds, seed)
        if advised := re.search(r"ask for .*(\d), ", str(error.value)):
            assert len(fold_images(whole, int(advised[1]), seed)) == n
        else:
            assert n < 3
        return
    parts = fold_images(whole, folds, seed)
    assert len(parts) == folds
    assert all(len(part) for part in parts)
    assert sorted(p.key for part in parts for p in part.images) == sorted(p.key for p in whole.images)
    groups = [{p.group for p in part.images} for part in parts]
    assert sum(map(len, groups)) == n
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    assert [[p.key for p in part.images] for part in fold_images(whole, folds, seed)] == [[p.key for p in q.images] for q in parts]


def test_folds_share_out_a_rare_class(caplog):
    images = [[0] * 8 + [1] for _ in range(40)]
    for i in range(10):
        images[i].append(2)
    assert [part.class_counts[2] for part in fold_images(make_set(images), 5, 0)] == [2] * 5
    assert not caplog.records
    fold_images(make_set([[0, 2]] + [[0]] * 9), 5, 0)
    assert "'c' is in 1 of 5 folds only: 1 cells" in caplog.text


def test_seed_changes_the_split():
    whole = make_set([[0]] * 40)
    assert [p.key for p in split_images(whole, 0.3, 1)[1].images] != [p.key for p in split_images(whole, 0.3, 2)[1].images]


def test_split_file(tmp_path):
    whole = make_set([[0]] * 4)
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["p000.png", "d/p001.png"], "test": ["p003.png"]}))
    first, second = read_split(path, whole)
    assert [p.key for p in first.images] == ["d/p000.png", "d/p001.png"]
    assert [p.key for p in second.images] == ["d/p003.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": ["p000.png"], "test": ["p000.png"]}, "is in train and in test"),
        ({"train": ["p9.png"], "test": []}, r"'p9\.png' fits no image"),
        ({"train": []}, "holds no list 'test'; expected {"),
        ([], "expected {"),
        ("p000.png", "found 'p000.png'; expected {"),
        ({"train": [3], "test": []}, "'train' holds 3; expected names of images"),
        ({"train": "p000.png", "test": []}, "holds no list 'train'"),
        ({"train": [["p000.png"]], "test": []}, "expected names of images"),
    ],
)
def test_wrong_split_files(tmp_path, content, message):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_split(path, make_set([[0]] * 4))


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{", b"\xff\xfe\x00", b"", b'{"train": [], "test": [' + b"9" * 5000 + b"]}"])
def test_broken_split_files(tmp_path, content):
    path = tmp_path / "split.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"split\.json: .*expected"):
        read_split(path, make_set([[0]] * 4))


def test_images_that_no_list_names_are_counted(tmp_path, caplog):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["p000.png"], "test": ["p001.png"]}))
    read_split(path, make_set([[0]] * 4))
    assert "2 annotated images left out, since no list names them; first: d/p002.png" in caplog.text


@pytest.mark.parametrize(
    ("names", "keys", "expected"),
    [
        (["1.jpg"], ["1.jpg", "sub/1.jpg"], [["1.jpg"]]),
        (["1.jpg"], ["sub/1.jpg"], [["sub/1.jpg"]]),
        (["1.jpg"], ["a/1.jpg", "b/1.jpg"], [["a/1.jpg", "b/1.jpg"]]),
        (["1.jpg", "sub/1.jpg"], ["d/1.jpg", "d/sub/1.jpg"], [["d/1.jpg"], ["d/sub/1.jpg"]]),
        (["1.jpg", "sub/1.jpg"], ["sub/1.jpg"], [[], ["sub/1.jpg"]]),
        (["1.jpg"], ["11.jpg"], [[]]),
        (["sub\\1.jpg", "./2.jpg"], ["sub/1.jpg", "2.jpg"], [["sub/1.jpg"], ["2.jpg"]]),
        (["images/1.jpg"], ["1.jpg"], [["1.jpg"]]),
        (["data/1.jpg"], ["1.jpg"], [["1.jpg"]]),  # the folder's own name
        (["other/1.jpg"], ["1.jpg"], [[]]),
        (["C:\\smears\\sub\\1.jpg", "/home/me/2.jpg"], ["sub/1.jpg", "2.jpg", "x/1.jpg"], [["sub/1.jpg"], ["2.jpg"]]),
        (["/home/me/1.jpg"], ["a/1.jpg", "b/1.jpg"], [["a/1.jpg", "b/1.jpg"]]),
        (["gro\u0308\u00dfe.jpg"], ["gr\u00f6\u00dfe.jpg"], [["gr\u00f6\u00dfe.jpg"]]),
    ],
)
def test_names_stand_for_the_image_that_they_fit_longest(names, keys, expected):
    assert list(match_names(names, {key: f"/somewhere/data/{key}" for key in keys}).values()) == expected


def test_names_of_many_images_are_found_in_a_moment(tmp_path):
    whole = make_set([[0]] * 8000)
    names = [p.key.split("/")[1] for p in whole.images]
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": names[:6000], "test": names[6000:]}))
    started = time.process_time()
    first, second = read_split(path, whole)
    assert (len(first), len(second)) == (6000, 2000)
    assert time.process_time() - started < 2

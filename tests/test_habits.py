"""How a set was annotated is told from its boxes: cells at the edge, cells left out, and both by data set."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet, load_annotations
from malaria_cells.data.labels import LabelSet
from malaria_cells.proposals.learned.habits import AnnotationHabits, border_habit, completeness, measure, measured

LABELS = LabelSet(("red blood cell", "leukocyte"))


def fields(kept_at_edge: float, sizes: tuple[float, float] = (35, 45), size_wh=(640, 480), n: int = 12, seed: int = 0) -> AnnotationSet:
    """Cells anywhere, inside and outside of the images, of which annotators keep a fraction where the edge cuts them."""
    rng = np.random.default_rng(seed)
    images = []
    for i in range(n):
        sides = rng.uniform(*sizes, (200, 2))
        centres = rng.uniform(0, 1, (200, 2)) * np.add(size_wh, 200) - 100
        every = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)
        seen = boxes.clip(every, size_wh)
        cut = (seen != every).any(axis=1)
        there = (np.minimum(seen[:, 2] - seen[:, 0], seen[:, 3] - seen[:, 1]) >= 4) & (~cut | (rng.uniform(size=200) < kept_at_edge))
        images.append(image(f"{i:02}.png", seen[there], size_wh))
    return AnnotationSet(LABELS, tuple(images))


def image(key: str, cells_xyxy: np.ndarray, size_wh: tuple[int, int]) -> AnnotatedImage:
    n = len(cells_xyxy)
    return AnnotatedImage(key, Path(key), size_wh, key, cells_xyxy, np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool))


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("sizes", [(35, 45), (60, 140)])
def test_border_habit_is_the_share_that_was_annotated(kept, sizes):
    assert border_habit(fields(kept, sizes, (1280, 960), n=60)) == pytest.approx(kept, abs=0.12)


@given(fraction=st.floats(0.3, 1), seed=st.integers(0, 20))
@settings(max_examples=20)
def test_border_habit_is_not_that_of_cells_missed_everywhere(fraction, seed):
    whole = fields(1.0, n=30, seed=seed)
    rng = np.random.default_rng(seed)
    thinned = [image(p.key, p.boxes_xyxy[rng.uniform(size=len(p.boxes_xyxy)) < fraction], p.size_wh) for p in whole.images]
    assert border_habit(replace(whole, images=tuple(thinned))) == pytest.approx(border_habit(whole), abs=0.25)


def test_leukocytes_in_the_middle_do_not_ask_for_others_at_the_edge():
    plain = fields(1.0, n=20)
    added = []
    for p in plain.images:
        cells = np.concatenate([p.boxes_xyxy, np.array([[100, 80, 500, 400]], dtype=np.float32)])
        added.append(replace(p, boxes_xyxy=cells, class_ids=np.append(p.class_ids, 1), ignore=np.append(p.ignore, False)))
    assert border_habit(replace(plain, images=tuple(added))) == pytest.approx(border_habit(plain), abs=0.01)


def test_few_cells_and_whole_images_tell_no_habit():
    few = fields(1.0, n=12).subset(["00.png"])
    few = replace(few, images=tuple(image(p.key, p.boxes_xyxy[:12], p.size_wh) for p in few.images))
    assert border_habit(few) is None
    whole = replace(few, images=tuple(replace(p, whole=True) for p in few.images))
    assert (border_habit(whole), completeness(whole)) == (None, None)
    nothing = replace(few, images=(image("a.png", np.zeros((0, 4), dtype=np.float32), (100, 80)),))
    assert (border_habit(nothing), completeness(nothing)) == (None, None)


def test_habits_of_the_rendered_sample(sample):
    annotations = load_annotations(sample / "training.json", None, root=sample)
    found = measure(annotations)
    assert 60 < found.cell_size < 80
    assert found.completeness > 0.9
    half = replace(
        annotations,
        images=tuple(
            replace(p, boxes_xyxy=p.boxes_xyxy[::2], class_ids=p.class_ids[::2], ignore=p.ignore[::2]) for p in annotations.images
        ),
    )
    assert 0.35 < completeness(half) < 0.75


def test_habits_in_words(sample):
    words = "cells of 85 pixels, 100% of the cells that the edge of the image cuts off are annotated"
    assert str(AnnotationHabits(85.4, 1.26, None)) == words
    annotations = load_annotations(sample / "training.json", None, root=sample)
    named = tuple(replace(p, data_set="ab"[i % 2]) for i, p in enumerate(annotations.images))
    lines = measured(replace(annotations, images=named))
    assert [line.partition(": cells of 7")[0] for line in lines] == ["a", "b"]
    assert measured(annotations)[0].startswith("annotation: cells of 7")
    assert measured(replace(annotations, images=tuple(replace(p, whole=True) for p in named))) == []


def test_images_by_data_set():
    plain = fields(1.0, n=3)
    named = tuple(replace(p, data_set=name) for p, name in zip(plain.images, ("b", "a", "b"), strict=True))
    found = replace(plain, images=named).by_data_set()
    assert {name: [p.key for p in part.images] for name, part in found.items()} == {"a": ["01.png"], "b": ["00.png", "02.png"]}
    assert list(plain.by_data_set()) == [""]

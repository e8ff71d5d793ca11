from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from malaria_cells import CellDetector, read_picture
from malaria_cells.annotations import AnnotationSet, Picture
from malaria_cells.boxes import cell_sizes
from malaria_cells.cli import main
from malaria_cells.errors import InputError
from malaria_cells.labels import LabelSet
from malaria_cells.model_folder import shipped as shipped_folder
from malaria_cells.proposals.learned import WORKING_CELL_SIZE, to_working_scale
from malaria_cells.proposals.magnification import MOST_GLANCED, annotated_size, in_own_size, other_sizes, own_cell_size

FIELD = np.full((960, 1280, 3), 220, dtype=np.uint8)


class Eye:
    """Sees cells that are not far from the size it expects, and takes them for a little nearer to it than they are."""

    def __init__(self, *sizes: float):
        self.sizes = np.array(sizes)
        self.asked: list[float] = []

    def __call__(self, expected: float) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append(expected)
        near = self.sizes[(self.sizes > 0.4 * expected) & (self.sizes < 2.5 * expected)]
        seen = near * (expected / near) ** 0.3
        corners = np.zeros((len(seen), 2))
        return np.concatenate([corners, corners + seen[:, None]], axis=1).astype(np.float32), np.full(len(seen), 0.9, np.float32)


def test_cells_of_the_usual_size_are_looked_at_once():
    eye = Eye(*[92] * 30)
    found, _ = in_own_size(eye, eye, FIELD, 85)
    assert len(found) == 30
    assert eye.asked == [85]


@pytest.mark.parametrize("true", [25, 40, 60, 130, 170, 300])
def test_other_cells_are_looked_at_in_their_own_size(true, monkeypatch):
    monkeypatch.setattr("malaria_cells.proposals.magnification.estimate_cell_size", lambda _: 0.6 * true)
    find, glance = Eye(*[true] * 30), Eye(*[true] * 30)
    found, _ = in_own_size(find, glance, FIELD, 85)
    assert len(found) == 30
    assert find.asked == [85, pytest.approx(true, rel=0.1)]


def test_a_few_cells_of_the_usual_size_seen_into_others_do_not_hide_them(monkeypatch):
    monkeypatch.setattr("malaria_cells.proposals.magnification.estimate_cell_size", lambda _: 25)
    small = Eye(*[34] * 100)

    def eye(expected):
        if expected < 85:
            return small(expected)
        seen, _ = Eye(*[85] * 60)(expected)
        return seen, np.repeat(np.float32([0.6, 0.2]), [15, 45])

    found, _ = in_own_size(eye, eye, FIELD, 85)
    assert len(found) == 100
    assert small.asked[-1] == pytest.approx(34, rel=0.1)


def test_leukocytes_among_few_red_cells_do_not_hide_them():
    eye = Eye(*[200] * 14, *[70] * 8)
    found, _ = in_own_size(eye, eye, FIELD, 85)
    assert len(found) == 22


def test_an_empty_field_stays_empty():
    eye = Eye()
    assert len(in_own_size(eye, eye, FIELD, 85)[0]) == 0


def test_what_shows_no_cell_is_never_enlarged_beyond_bounds(monkeypatch):
    monkeypatch.setattr("malaria_cells.proposals.magnification.estimate_cell_size", lambda _: 0.01)
    assert own_cell_size(Eye(), FIELD, 85)[0] == pytest.approx(WORKING_CELL_SIZE * np.sqrt(960 * 1280 / MOST_GLANCED))
    assert own_cell_size(Eye(), np.zeros((20_000, 20_000, 3), np.uint8), 85) == (42.5, 0)


def test_a_picture_too_large_for_its_cells_is_refused_before_it_fills_the_memory():
    with pytest.raises(InputError, match=r"1280 x 960 pixels with cells of 1 would be enlarged 40.0 times.*put the cell size right"):
        to_working_scale(FIELD, 1)


def test_other_sizes_are_those_of_pictures_with_enough_cells():
    def squares(count, size):
        return np.tile([0, 0, size, size / 2], (count, 1))

    assert other_sizes([squares(20, 85), squares(20, 190), squares(3, 190), squares(20, 40), squares(0, 1)], 85).tolist() == [190, 40]


def annotated(*sides: float) -> Picture:
    corner = np.zeros((len(sides), 2))
    drawn = np.concatenate([corner, corner + np.array(sides)[:, None]], axis=1).astype(np.float32)
    ids, ignored = np.zeros(len(sides), dtype=np.int64), np.zeros(len(sides), dtype=bool)
    return Picture("a.png", Path("a.png"), (1280, 960), "a", drawn, ids, ignored)


def test_an_annotated_picture_of_another_microscope_has_its_own_size():
    assert annotated_size(annotated(*[41] * 20, *[90] * 3), 85) == 41
    assert annotated_size(annotated(*[170] * 20), 85) == 170
    for usual in (annotated(*[75] * 20), annotated(*[170] * 5), annotated()):
        assert annotated_size(usual, 85) == 85
    specks = annotated_size(annotated(*[2] * 20), 85)
    assert 1280 * 960 * (WORKING_CELL_SIZE / specks) ** 2 == pytest.approx(MOST_GLANCED)


def together(*pictures: Picture) -> AnnotationSet:
    return AnnotationSet(LabelSet(("cell",)), pictures)


@pytest.mark.parametrize("small", [9, 11])
def test_two_magnifications_put_together_have_the_size_of_the_commoner_one(small):
    """Not one between both, which the median of all cells may be."""
    few_cells, many_cells = annotated(*range(75, 95)), annotated(*np.linspace(30, 38, 36))
    assert together(*[few_cells] * 10, *[many_cells] * small).usual_cell_size == pytest.approx(84.5 if small < 10 else 34, abs=1)


@given(st.lists(st.lists(st.floats(70, 89), min_size=1, max_size=30), min_size=1, max_size=8))
def test_at_one_magnification_it_is_the_median_of_all_cells(sides):
    own = [annotated(*each) for each in sides]
    assert together(*own).usual_cell_size == np.median(np.concatenate([cell_sizes(p.cells_xyxy) for p in own]))


def test_without_cells_there_is_no_size():
    assert together().usual_cell_size == together(annotated()).usual_cell_size == 0


@pytest.mark.parametrize("factors", [(1, 1, 1), (1, 1, 0.5), (1, 0.5, 0.5), (0.5, 1, 2)])
def test_a_one_stage_input_holds_the_same_field_whatever_was_put_together(factors):
    from malaria_cells.config import make_config
    from malaria_cells.training.one_stage import input_size

    fields = [replace(annotated(*[80 * f] * 20), size_wh=(round(1280 * f), round(960 * f))) for f in factors]
    assert input_size(make_config({}, "test"), together(*fields)) == (512, 640)


def test_a_training_picture_is_shown_in_its_own_size(sample, six_classes, tmp_path):
    from malaria_cells.annotations import load_annotations
    from malaria_cells.training.working_pictures import prepared

    picture = load_annotations(sample / "training.json", six_classes).pictures[0]
    pixels = cv2.imread(str(picture.path))
    cv2.imwrite(str(tmp_path / "small.png"), cv2.resize(pixels, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA))
    small = replace(picture, path=tmp_path / "small.png", boxes_xyxy=picture.boxes_xyxy * np.float32(0.4))
    usual = float(np.median(cell_sizes(picture.cells_xyxy)))
    as_it_is, shrunk = prepared(picture, usual, 1.0, "none"), prepared(small, usual, 1.0, "none")
    assert shrunk.boxes_xyxy == pytest.approx(as_it_is.boxes_xyxy, abs=0.5)
    assert shrunk.pixels.shape == as_it_is.pixels.shape


@pytest.fixture(scope="module")
def shipped():
    return CellDetector.load(shipped_folder())


@pytest.mark.parametrize("factor", [0.4, 0.6, 1.9, 3.0])
def test_the_shipped_model_finds_as_many_cells_at_any_magnification(factor, shipped, repository):
    picture = read_picture(repository / "docs/images/smear.jpg")
    other = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    counted, again = (shipped.count(shipped.detect(p)).red_cells for p in (picture, other))
    assert again == pytest.approx(counted, rel=0.1)


def test_the_size_can_be_set(repository, tmp_path, caplog):
    picture = cv2.resize(cv2.imread(str(repository / "docs/images/smear.jpg")), None, fx=2.5, fy=2.5)
    cv2.imwrite(str(tmp_path / "large.png"), picture)
    assert main(["run", "--image", str(tmp_path / "large.png"), "--output", str(tmp_path / "own")]) == 0
    assert "pixels wide in 1 of 1 picture, " in caplog.text
    wrong = CellDetector.load(shipped_folder(), cell_size=600).detect(tmp_path / "large.png")
    assert len(wrong) < 0.5 * (tmp_path / "own" / "detections.csv").read_text().count("\n")
    with pytest.raises(InputError, match="cell_size: found -3, expected"):
        CellDetector.load(shipped_folder(), cell_size=-3)

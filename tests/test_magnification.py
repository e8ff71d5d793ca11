import cv2
import numpy as np
import pytest

from malaria_cells import CellDetector, read_picture
from malaria_cells.cli import main
from malaria_cells.errors import InputError
from malaria_cells.model_folder import shipped as shipped_folder
from malaria_cells.proposals.learned import WORKING_CELL_SIZE, to_working_scale
from malaria_cells.proposals.magnification import MOST_GLANCED, in_own_size, other_sizes, own_cell_size

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

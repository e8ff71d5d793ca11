import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from malaria_cells import CellDetector, read_image
from malaria_cells.app.cli import main
from malaria_cells.base.errors import InputError
from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.boxes import WORKING_CELL_SIZE, cell_sizes
from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.inference.model_folder import shipped as shipped_folder
from malaria_cells.proposals import ScoredBoxes
from malaria_cells.proposals.learned.annotated_sizes import annotated_cell_size, annotated_cell_sizes, unusual_cell_sizes
from malaria_cells.proposals.learned.prediction import to_working_scale
from malaria_cells.proposals.learned.scale import MAX_ENLARGED_PIXELS, detect_at_own_scale, estimate_scale
from malaria_cells.proposals.learned.settings import ProposalSettings

STANDARD = ProposalSettings()
FIELD, RED, PURPLE = (232, 230, 228), (200, 150, 160), (110, 60, 130)


def drawn(
    red: float, leukocyte: float = 0, shape: tuple[int, int] = (960, 1280), every: float = 1.4, leukocytes: int = 0, seed: int = 0
) -> np.ndarray:
    """Red cells in a loose grid, `every` sizes apart, and a row of leukocytes, each with a nucleus of three lobes."""
    image = np.full((*shape, 3), FIELD, np.uint8)
    rng = np.random.default_rng(seed)
    pitch = every * red
    free = np.ones(shape, bool)
    for i in range(leukocytes):
        x, y = round(shape[1] * (i + 0.5) / leukocytes), round(shape[0] / 2)
        cv2.circle(image, (x, y), round(leukocyte / 2), RED, -1)
        for angle in (0, 2.1, 4.2):
            lobe = round(x + 0.26 * leukocyte * np.cos(angle)), round(y + 0.26 * leukocyte * np.sin(angle))
            cv2.circle(image, lobe, round(0.12 * leukocyte), PURPLE, -1)
        cv2.circle(free.view(np.uint8), (x, y), round(0.55 * leukocyte + 0.6 * red), 0, -1)
    for y in np.arange(0.7 * pitch, shape[0] - 0.6 * pitch, pitch):
        for x in np.arange(0.7 * pitch, shape[1] - 0.6 * pitch, pitch):
            centre = np.rint([x, y] + rng.uniform(-0.1, 0.1, 2) * red).astype(int)
            if free[centre[1], centre[0]]:
                cv2.circle(image, centre.tolist(), max(round(red / 2), 1), RED, -1)
    return image


class Eye:
    """Takes every stained disc and every nucleus for a cell, the surer the nearer its size is to the one expected.

    As a network does, it pulls sizes towards the one expected, and is unsure of many things that are none in stain of another size.
    """

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.shown: list[int] = []

    def __call__(self, image: np.ndarray, expected: float) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append(expected)
        self.shown.append(image.shape[0] * image.shape[1])
        xyxy, proposal_scores = [], []
        for mask in (image[..., 1] < 200, image[..., 1] < 100):
            _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
            for left, top, width, height, _ in stats[1:].tolist():
                ratio = expected / max(width, height)
                centre = np.array([left + width / 2, top + height / 2])
                seen = max(width, height) * ratio**0.4 / 2
                xyxy.append([*centre - seen, *centre + seen])
                proposal_scores.append(0.9 * np.exp(-0.5 * (np.log(ratio) / 0.45) ** 2))
                for _ in range(3 * round(max(width, height) ** 2 / expected**2 - 1)):
                    xyxy.append([*centre - expected / 2, *centre + expected / 2])
                    proposal_scores.append(0.15)
        kept = np.array(proposal_scores, np.float32) > 0.1
        return ScoredBoxes(np.array(xyxy, np.float32).reshape(-1, 4)[kept], np.array(proposal_scores, np.float32)[kept])


def size_seen(image: np.ndarray, usual: float, sizes: tuple[float, ...] = ()) -> tuple[float, list[float]]:
    """Size that an image is looked at in the end, and those of the quick looks before."""
    find, detect_fast = Eye(), Eye()
    detect_at_own_scale(lambda size: find(image, size), detect_fast, image, STANDARD, usual, sizes)
    return find.asked[-1], detect_fast.asked


@pytest.mark.parametrize("red", [75, 85, 95])
def test_cells_of_the_reference_size_are_detected_once(red):
    assert size_seen(drawn(red), 85) == (85, [])


def test_what_is_conclusive_is_the_model_s():
    strict, find, detect_fast = replace(STANDARD, conclusive=(1.0, 1.0)), Eye(), Eye()
    detect_at_own_scale(lambda size: find(drawn(80), size), detect_fast, drawn(80), strict, 85)
    assert len(detect_fast.asked) > 3


@pytest.mark.parametrize("red", [20, 40, 58, 150, 170])
@pytest.mark.parametrize("sizes", [(), (85, 110), (59, 85, 110)])
def test_other_cells_are_looked_at_in_their_own_size(red, sizes):
    seen, _ = size_seen(drawn(red), 85, sizes)
    assert seen == pytest.approx(red, rel=0.15)


@pytest.mark.parametrize("own", [41, 59, 85, 110])
def test_a_size_of_the_training_is_told_by_quick_looks(own):
    seen, trial_counts = size_seen(drawn(own), 85, (85, 41, 110, 59))
    assert seen == own
    assert trial_counts == [pytest.approx(110 * STANDARD.scale_step)] + [size for size in (110, 85, 59, 41) if size >= own]


@pytest.mark.parametrize(
    ("red", "usual", "sizes"), [(100, 100, ()), (100, 41, ()), (100, 80, (41, 59, 81, 112)), (50, 100, ()), (50, 41, ())]
)
@pytest.mark.parametrize("leukocytes", [1, 2])
def test_leukocytes_twice_as_large_among_few_red_cells_do_not_hide_them(red, usual, sizes, leukocytes):
    image = drawn(red, 2 * red, (6 * red, 8 * red), leukocytes=leukocytes)
    seen, _ = size_seen(image, usual, sizes)
    assert 0.8 * red < seen < 1.15 * red


def test_a_field_with_leukocytes_alone_is_looked_at_in_the_usual_size():
    assert size_seen(drawn(2000, 170, leukocytes=3), 85)[0] == 85


@pytest.mark.parametrize("sizes", [(), (41, 110)])
def test_an_empty_field_stays_empty(sizes):
    empty = np.full((960, 1280, 3), FIELD, np.uint8)
    assert size_seen(empty, 85, sizes)[0] == 85


@given(st.floats(15, 110), st.floats(20, 150))
@settings(max_examples=20, deadline=None)
def test_what_is_found_in_the_size_told_is_never_less_than_in_the_usual_one(red, usual):
    image = drawn(red, shape=(480, 640))
    seen, _ = size_seen(image, usual)
    told, as_usual = ((Eye()(image, size)[1] >= STANDARD.confident).sum() for size in (seen, usual))
    assert told >= 0.9 * as_usual


def test_a_quick_look_at_an_enlarged_image_is_at_its_middle(monkeypatch):
    monkeypatch.setattr("malaria_cells.proposals.learned.scale.FAST_PIXELS", 100_000)
    detect_fast = Eye()
    assert estimate_scale(detect_fast, drawn(40, shape=(700, 900)), STANDARD, 85) == pytest.approx(40, rel=0.15)
    covered = [shown * (WORKING_CELL_SIZE / size) ** 2 for size, shown in zip(detect_fast.asked, detect_fast.shown, strict=True)]
    assert 90_000 < max(covered) < 101_000


def test_an_image_is_never_enlarged_beyond_bounds(monkeypatch):
    monkeypatch.setattr("malaria_cells.proposals.learned.scale.MAX_ENLARGED_PIXELS", 480 * 640 * 1.5)
    assert estimate_scale(Eye(), drawn(25, shape=(480, 640)), STANDARD, 85) == pytest.approx(WORKING_CELL_SIZE / np.sqrt(1.5), rel=0.01)


def test_without_a_size_of_the_training_the_dark_regions_say_where_to_begin():
    assert estimate_scale(Eye(), drawn(60), STANDARD) == pytest.approx(60, rel=0.15)


def test_an_image_too_large_for_its_cells_is_refused_before_it_fills_the_memory():
    with pytest.raises(InputError, match=r"1280 x 960 pixels with cells of 1 pixels would be enlarged 40.0 times.*correct the cell size"):
        to_working_scale(drawn(85), 1)


def test_other_sizes_are_those_of_images_with_enough_cells():
    def squares(count, size):
        return np.tile([0, 0, size, size / 2], (count, 1))

    assert unusual_cell_sizes([squares(20, 85), squares(20, 190), squares(3, 190), squares(20, 40), squares(0, 1)], [85]).tolist() == [
        190,
        40,
    ]
    assert unusual_cell_sizes([squares(20, 85), squares(20, 190), squares(20, 40)], [85, 45]).tolist() == [190]


def annotated(*sides: float) -> AnnotatedImage:
    corner = np.zeros((len(sides), 2))
    drawn = np.concatenate([corner, corner + np.array(sides)[:, None]], axis=1).astype(np.float32)
    ids, ignored = np.zeros(len(sides), dtype=np.int64), np.zeros(len(sides), dtype=bool)
    return AnnotatedImage("a.png", Path("a.png"), (1280, 960), "a", drawn, ids, ignored)


def test_an_annotated_image_of_another_microscope_has_its_own_size():
    assert annotated_cell_size(annotated(*[41] * 20, *[90] * 3), 85) == 41
    assert annotated_cell_size(annotated(*[170] * 20), 85) == 170
    for usual in (annotated(*[75] * 20), annotated(*[170] * 5), annotated()):
        assert annotated_cell_size(usual, 85) == 85
    specks = annotated_cell_size(annotated(*[2] * 20), 85)
    assert 1280 * 960 * (WORKING_CELL_SIZE / specks) ** 2 == pytest.approx(MAX_ENLARGED_PIXELS)


def together(*images: AnnotatedImage) -> AnnotationSet:
    return AnnotationSet(LabelSet(("cell",)), images)


@pytest.mark.parametrize("small", [9, 11])
def test_two_magnifications_put_together_have_the_size_of_the_commoner_one(small):
    """Not one between both, which the median of all cells may be."""
    few_cells, many_cells = annotated(*range(75, 95)), annotated(*np.linspace(30, 38, 36))
    assert together(*[few_cells] * 10, *[many_cells] * small).median_cell_size == pytest.approx(84.5 if small < 10 else 34, abs=1)


@given(st.lists(st.lists(st.floats(70, 89), min_size=1, max_size=30), min_size=1, max_size=8))
def test_at_one_magnification_it_is_the_median_of_all_cells(sides):
    own = [annotated(*each) for each in sides]
    assert together(*own).median_cell_size == np.median(np.concatenate([cell_sizes(p.cells_xyxy) for p in own]))


def with_leukocytes(reds: list[float], leukocytes: list[float], data_set: str = "") -> AnnotatedImage:
    image = annotated(*reds, *leukocytes)
    return replace(image, class_ids=np.repeat([0, 1], [len(reds), len(leukocytes)]), data_set=data_set)


def test_red_cells_say_the_size_where_the_labels_name_them():
    labels = LabelSet(("red", "leukocyte"), red_cells=("red",))
    few = with_leukocytes([100] * 12, [200] * 14)
    assert AnnotationSet(labels, (few, few)).median_cell_size == 100
    assert annotated_cell_sizes(AnnotationSet(labels, (few,)), 100) == [100]
    assert AnnotationSet(LabelSet(("red", "leukocyte")), (few, few)).median_cell_size == 200
    only_leukocytes = with_leukocytes([], [200] * 14)
    assert AnnotationSet(labels, (only_leukocytes,)).median_cell_size == 200
    assert AnnotationSet(labels, (few, only_leukocytes)).median_cell_size == 100


def test_each_data_set_has_its_own_size_and_an_image_of_another_magnification_keeps_its_own():
    labels = LabelSet(("red", "leukocyte"), red_cells=("red",))
    bangkok = [
        with_leukocytes([41] * 20, [], "bangkok"),
        with_leukocytes([47] * 20, [], "bangkok"),
        with_leukocytes([41] * 3, [], "bangkok"),
    ]
    lima = [
        with_leukocytes([110] * 20, [220] * 30, "lima"),
        with_leukocytes([45] * 20, [], "lima"),
        with_leukocytes([110] * 15, [], "lima"),
    ]
    together = AnnotationSet(labels, (*bangkok, *lima))
    assert together.median_cell_sizes == {"bangkok": 41, "lima": 110}
    assert annotated_cell_sizes(together, 80) == [41, 41, 41, 110, 45, 110]
    assert annotated_cell_sizes(AnnotationSet(labels, tuple(lima)), 100) == [100, 45, 100]


def test_without_cells_there_is_no_size():
    assert together().median_cell_size == together(annotated()).median_cell_size == 0


@pytest.mark.parametrize("factors", [(1, 1, 1), (1, 1, 0.5), (1, 0.5, 0.5), (0.5, 1, 2)])
def test_a_one_stage_input_holds_the_same_field_whatever_was_put_together(factors):
    from malaria_cells.config import make_config
    from malaria_cells.training.fit_one_stage import input_size

    fields = [replace(annotated(*[80 * f] * 20), size_wh=(round(1280 * f), round(960 * f))) for f in factors]
    assert input_size(make_config({}, "test"), together(*fields)) == (512, 640)


def test_a_training_image_is_shown_in_its_own_size(sample, six_classes, tmp_path):
    from malaria_cells.data.annotations import load_annotations
    from malaria_cells.proposals.learned.training_images import prepared

    image = load_annotations(sample / "training.json", six_classes).images[0]
    pixels = cv2.imread(str(image.path))
    cv2.imwrite(str(tmp_path / "small.png"), cv2.resize(pixels, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA))
    small = replace(image, path=tmp_path / "small.png", boxes_xyxy=image.boxes_xyxy * np.float32(0.4))
    usual = float(np.median(cell_sizes(image.cells_xyxy)))
    as_it_is, shrunk = (prepared(p, annotated_cell_size(p, usual), 1.0, "none") for p in (image, small))
    assert shrunk.boxes_xyxy == pytest.approx(as_it_is.boxes_xyxy, abs=0.5)
    assert shrunk.pixels.shape == as_it_is.pixels.shape


@pytest.fixture(scope="module")
def shipped():
    return CellDetector.load(shipped_folder())


@pytest.mark.parametrize("factor", [0.4, 0.6, 1.9, 3.0])
def test_the_shipped_model_finds_as_many_cells_at_any_magnification(factor, shipped, repository):
    image = read_image(repository / "docs/images/smear.jpg")
    other = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    counted, again = (shipped.count(shipped.detect(p)).red_cells for p in (image, other))
    assert again == pytest.approx(counted, rel=0.1)


def test_the_size_can_be_set(repository, tmp_path, caplog):
    image = cv2.resize(cv2.imread(str(repository / "docs/images/smear.jpg")), None, fx=2.5, fy=2.5)
    cv2.imwrite(str(tmp_path / "large.png"), image)
    assert main(["run", "--image", str(tmp_path / "large.png"), "--output", str(tmp_path / "own")]) == 0
    assert "pixels wide in 1 of 1 image, " in caplog.text
    wrong = CellDetector.load(shipped_folder(), cell_size=600)
    with (tmp_path / "own" / "counts.csv").open() as file:
        right = int(next(csv.DictReader(file))["red_cells"])
    assert wrong.count(wrong.detect(tmp_path / "large.png")).red_cells < 0.5 * right
    with pytest.raises(InputError, match="cell_size: found -3, expected"):
        CellDetector.load(shipped_folder(), cell_size=-3)


def recall(detector, images, follows):
    """Fraction of the annotated cells that have a candidate on them, by the learned proposer alone."""
    proposer = replace(detector.proposer, follows=follows, views=1)
    seen = [(p, proposer(detector.prepared(read_image(p.path)))) for p in images]
    best = np.concatenate([boxes.iou_matrix(p.cells_xyxy, found).max(axis=1, initial=0) for p, found in seen])
    return float((best >= 0.5).mean())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gains"), [("bccd", 0.0), ("pbc", 0.0), ("deepbionet", 0.0), ("chula", 0.3), ("bbbc041", 0.0)])
def test_following_makes_no_laboratory_worse(name, gains, laboratories, repository):
    """As many cells of another laboratory are found as in the size of the training; where they are half as large, far more.

    By a model that was trained on none of them.
    """
    from malaria_cells.data.annotations import load_annotations

    folder = laboratories / name
    others = ("leukocyte", "platelet", "gametocyte", "ring", "trophozoite", "schizont")
    written = (("RBC", "red blood cell"), ("WBC", "leukocyte"), ("Platelets", "platelet")) if name == "bccd" else ()
    labels = LabelSet(("red blood cell",), (*others, "difficult"), (), ("red blood cell",), written)
    known = load_annotations(folder if name == "bccd" else folder / "annotations.json", labels, root=folder)
    images = [p for p in known.images if len(p.cells_xyxy)][::25][:5]
    detector, _ = load_detector(repository / "pretrained" / "vivax")
    followed, not_followed = (recall(detector, images, follows) for follows in (True, False))
    assert followed >= not_followed - 0.02 + gains

from dataclasses import replace

import numpy as np
import pytest

from malaria_cells.base.errors import InputError
from malaria_cells.data import boxes
from malaria_cells.data.sample.smear import Slide, render_smear
from malaria_cells.proposals import Proposer, estimate_cell_size, proposals_by_source


@pytest.fixture(scope="module")
def smears():
    drawn = []
    for seed in range(4):
        slide = Slide.draw(np.random.default_rng(seed))
        drawn.append(render_smear(slide, np.random.default_rng([seed, 1])))
    return drawn


def recall(proposer, smears):
    found = total = 0
    for smear in smears:
        best = boxes.iou_matrix(smear.boxes_xyxy, proposer(smear.image)).max(axis=1, initial=0)
        found += int((best >= 0.5).sum())
        total += len(best)
    return found / total


def test_watershed_finds_the_cells_of_crowded_fields(smears):
    assert recall(Proposer(cell_size=72), smears) >= 0.97
    assert recall(Proposer(), smears) >= 0.97  # the cell size estimated from each image


def test_watershed_is_not_moved_by_uneven_light(smears):
    ramp = np.linspace(0.6, 1.1, smears[0].image.shape[1])[None, :, None]
    dimmed = [replace(smear, image=np.clip(smear.image * ramp, 0, 255).astype(np.uint8)) for smear in smears]
    assert recall(Proposer(cell_size=72), dimmed) >= recall(Proposer(cell_size=72), smears) - 0.05


def test_regions_alone_miss_what_outlines_find(smears):
    regions = recall(lambda image: proposals_by_source("watershed", image, 72)["regions"], smears)
    assert 0.8 < regions < 0.95


def test_leukocytes_are_found_by_their_nuclei():
    slide = Slide.draw(np.random.default_rng(0))
    smears = [render_smear(slide, np.random.default_rng([5, i])) for i in range(8)]
    whites = [replace(s, boxes_xyxy=s.boxes_xyxy[np.array(s.labels) == "leukocyte"]) for s in smears if "leukocyte" in s.labels]
    assert len(whites) >= 3
    assert recall(Proposer(cell_size=72), whites) == 1


def test_margins_move_the_edges_in_cell_sizes():
    image = np.zeros((300, 400, 3), dtype=np.uint8)
    plain = Proposer("sliding", 40.0)(image)
    moved = Proposer("sliding", 40.0, {"window": (-0.1, -0.05, 0.1, 0.2), "regions": (9, 9, 9, 9)})(image)
    inside = ((plain[:, :2] > 5) & (plain[:, 2:] < [390, 290])).all(axis=1)
    assert moved[inside] - plain[inside] == pytest.approx(np.tile([-4, -2, 4, 8], (inside.sum(), 1)), abs=1e-4)


def test_watershed_parts_two_touching_discs():
    y, x = np.mgrid[0:120, 0:200]
    discs = (np.hypot(x - 70, y - 60) < 32) | (np.hypot(x - 128, y - 60) < 32)
    image = np.where(discs[..., None], [190, 120, 160], [225, 235, 225]).astype(np.uint8)
    found = proposals_by_source("watershed", image, 64)["regions"]
    assert len(found) == 2
    best = boxes.iou_matrix(found[np.argsort(found[:, 0])], np.array([[38, 28, 103, 93], [96, 28, 161, 93]]))
    assert best.diagonal().min() > 0.8


@pytest.mark.parametrize("radius", [18.0, 36.0, 60.0])
def test_cell_size_is_estimated(radius):
    smear = render_smear(Slide.draw(np.random.default_rng(1)), np.random.default_rng(2), radius=radius)
    assert estimate_cell_size(smear.image) == pytest.approx(2 * radius, rel=0.3)


@pytest.mark.parametrize("method", ["watershed", "sliding"])
@pytest.mark.parametrize("cell_size", [None, 40.0])
def test_boxes_lie_inside_any_image(method, cell_size, smears):
    blank = np.full((90, 130, 3), 200, dtype=np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (101, 77, 3), dtype=np.uint8)
    tiny = np.full((5, 4, 3), 90, dtype=np.uint8)
    for image in (blank, noise, tiny, smears[0].image):
        found = Proposer(method, cell_size)(image)
        height, width = image.shape[:2]
        assert found.dtype == np.float32
        assert found.shape[1:] == (4,)
        assert (found[:, :2] >= 0).all()
        assert (found[:, 2:] <= [width + 1e-3, height + 1e-3]).all()
        assert (found[:, 2:] > found[:, :2]).all()


def test_empty_field_has_no_cells():
    noise = np.random.default_rng(0).normal(215, 2, (300, 400, 3)).astype(np.uint8)
    assert len(Proposer(cell_size=60)(noise)) == 0


def test_sliding_reaches_every_cell_of_its_sizes():
    image = np.zeros((300, 400, 3), dtype=np.uint8)
    squares = Proposer("sliding", 60.0)(image)
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, [340, 240], (200, 2))
    cells = np.concatenate([corner, corner + 60], axis=1)
    assert boxes.iou_matrix(cells, squares).max(axis=1).min() >= 0.5
    assert squares[:, 2].max() == 400
    assert squares[:, 3].max() == 300


def test_an_unknown_method_is_no_watershed():
    with pytest.raises(InputError, match=r"proposals: 'watershet' is unknown .did you mean 'watershed'.*; expected one of learned, "):
        Proposer("watershet")
    with pytest.raises(InputError, match="'learned' finds no boxes without a network"):
        proposals_by_source("learned", np.zeros((64, 64, 3), dtype=np.uint8), 20)

import cv2
import numpy as np
import pytest

from malaria_cells.config import Config
from malaria_cells.data.patch_store import Cropping
from malaria_cells.data.stain import RED_CELL, WHITE, Stain, _median, _percentile, normalized, with_stain

LAMP = (240.0, 220.0, 200.0)
DENSITY = np.array([0.3, 0.7, 0.2])


def smear(lamp=LAMP, density=DENSITY, nucleus=0, noise=1.0, cells=40):
    """Forty red cells or fewer and, of `nucleus` pixels, a nucleus four times as dense: uint8 RGB (480, 640, 3)."""
    rng = np.random.default_rng(3)
    stain = np.zeros((480, 640), dtype=np.float32)
    for i in range(cells):
        cv2.circle(stain, (40 + 80 * (i % 8), 50 + 95 * (i // 8)), 30, 1.0, -1, cv2.LINE_AA)
    if nucleus:
        cv2.circle(stain, (330, 240), nucleus, 4.0, -1, cv2.LINE_AA)
    light = np.array(lamp) * np.exp(-stain[..., None] * np.array(density)) + rng.normal(0, noise, (480, 640, 3))
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def test_light_and_density_are_measured():
    stain = Stain.of(smear())
    assert stain.white == pytest.approx(LAMP, abs=4)
    assert stain.density == pytest.approx(DENSITY, abs=0.03)


@pytest.mark.parametrize("nucleus", [60, 110])
def test_nuclei_are_not_taken_for_red_cells(nucleus):
    assert Stain.of(smear(nucleus=nucleus)).density == pytest.approx(DENSITY, abs=0.04)


@pytest.mark.parametrize("noise", [3.5, 4.0, 5.0])
def test_a_noisy_field_is_not_taken_for_red_cells_where_there_are_few(noise):
    """Else the field's density would be brought to that of red cells, and red cells to black."""
    found = Stain.of(smear(noise=noise, cells=5))
    assert np.log(found.density / Stain.of(smear()).density) == pytest.approx([0, 0, 0], abs=0.25)


def test_cells_are_as_dark_whatever_the_size_of_the_image():
    large = cv2.resize(smear(), None, fx=3, fy=3, interpolation=cv2.INTER_LINEAR)
    assert Stain.of(large).density == pytest.approx(Stain.of(smear()).density, abs=0.04)


@pytest.mark.parametrize(
    ("lamp", "density"), [((255, 230, 205), (0.3, 0.4, 0.2)), ((150, 160, 140), (0.9, 1.0, 0.6)), ((170, 220, 250), (0.5, 0.35, 0.15))]
)
def test_other_lamps_and_stains_come_out_alike(lamp, density):
    here, there = (normalized(smear(*look), "density").astype(int) for look in ((), (lamp, density)))
    assert np.median(np.abs(here - there)) <= 3
    cell = here[50, 40]
    assert cell == pytest.approx(WHITE * np.exp(-np.array(RED_CELL)), abs=8)


def test_a_white_balance_leaves_densities():
    balanced = normalized(smear(), "clear_field").astype(float)
    assert balanced[2, 2] == pytest.approx([WHITE] * 3, abs=6)
    assert -np.log(balanced[40:60, 30:50] / WHITE).mean(axis=(0, 1)) == pytest.approx(DENSITY, abs=0.03)


def test_normalizing_again_changes_nothing_more():
    once = normalized(smear(), "density")
    assert np.abs(normalized(once, "density").astype(int) - once).mean() < 3


def test_a_patch_is_changed_as_its_image():
    image = smear()
    whole = normalized(image, "density")
    part = with_stain(image[100:200, 50:150], Stain.of(image), "density")
    assert (part == whole[100:200, 50:150]).all()


@pytest.mark.parametrize("fill", [0, 128, 255])
def test_an_empty_image_stays_without_stain(fill):
    empty = np.full((60, 80, 3), fill, dtype=np.uint8)
    assert Stain.of(empty).density is None
    assert normalized(empty, "density").shape == empty.shape


def test_none_is_the_image_itself():
    image = smear()
    assert normalized(image, "none") is image


def test_recipes_and_stores_of_before_keep_their_names():
    assert "stain_normalization" not in Config().to_yaml()
    assert "stain_normalization: density" in Config(stain_normalization="density").to_yaml()
    assert Cropping((64, 64), 1.25, 10, 1).name == "Cropping(image_size_hw=(64, 64), context=1.25, background_per_image=10, seed=1)"
    assert Cropping((64, 64), 1.25, 10, 1, "density").name.endswith("density")


def test_counted_percentiles_and_medians_are_those_of_the_sorted_pixels():
    """Up to the last bit: a grey value of the table may hang on it."""
    rng = np.random.default_rng(5)
    for n in (1, 2, 7, 200, 333):
        values = rng.integers(0, 256, n, dtype=np.uint8)
        counts = np.bincount(values, minlength=256)
        table = -np.log(np.clip(np.arange(256, dtype=np.uint8) / np.float32(220), 1 / 255, 1))
        assert np.float32(_percentile(counts, 97)) == np.float32(np.percentile(values, 97))
        assert _median(counts, table) == np.median(table[values])


def test_black_is_no_stain_of_cells():
    image = np.full((100, 100, 3), 255, dtype=np.uint8)
    image[20:60, 20:60] = 0
    assert Stain.of(image).density is None

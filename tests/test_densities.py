import cv2
import numpy as np
import pytest

from malaria_cells.data.augment import make_augmenter
from malaria_cells.data.augment.densities import CAST, STRENGTH, STRENGTH_BY_CHANNEL, WHITE, varied


@pytest.fixture(scope="module")
def patch():
    pixels = np.full((80, 80, 3), 225, dtype=np.uint8)
    cv2.circle(pixels, (40, 40), 25, (160, 120, 170), -1, cv2.LINE_AA)
    cv2.circle(pixels, (45, 35), 4, (70, 30, 90), -1, cv2.LINE_AA)
    return pixels


def test_a_seed_fixes_every_draw(patch):
    batch, augment = np.stack([patch] * 4), make_augmenter("laboratories")
    first = augment(batch, 7)
    assert first.shape == batch.shape
    assert first.dtype == np.uint8
    assert (first == augment(batch, 7)).all()
    assert (first != augment(batch, 8)).any()
    assert (first[0] != first[1]).any()


def test_the_clear_field_stays_within_the_lamps_and_the_stain_within_its_strengths(patch):
    fields, densities = [], []
    for seed in range(300):
        pixels = cv2.GaussianBlur(varied(patch, np.random.default_rng(seed)), (0, 0), 2).astype(float)
        fields.append((pixels[2:8, 2:8].mean(axis=(0, 1)), pixels[-8:-2, -8:-2].mean(axis=(0, 1))))
        densities.append(-np.log(pixels[38:42, 22:26].mean() / pixels[:4].mean()))
    middle = np.mean(fields, axis=1) / 225
    assert middle.min() > WHITE[0] * np.exp(-CAST) * 0.97
    assert middle.max() < WHITE[1] * np.exp(CAST) * 1.03
    real = -np.log(np.array([160, 120, 170]) / 225).mean()
    ratio = np.array(densities) / real
    assert ratio.min() < 0.75 < 1.3 < ratio.max()
    assert ratio.max() < np.exp(STRENGTH + STRENGTH_BY_CHANNEL) * 1.1


def test_some_draws_fade_the_colours(patch):
    colour = [np.ptp(varied(patch, np.random.default_rng(seed))[36:44, 20:28].astype(float).mean(axis=(0, 1))) for seed in range(100)]
    assert min(colour) < 15 < 45 < max(colour)


def test_the_policy_joins_others(patch):
    batch = np.stack([patch] * 2)
    assert make_augmenter("flips+laboratories")(batch, 3).shape == batch.shape

"""Test-time augmentation of whole images against the plain four-by-four loop."""

import numpy as np
import pytest

from malaria_cells.inference import tta


def predict(patches):
    """Three classes, told by mean colours."""
    logits = patches.astype(np.float64).mean(axis=(1, 2)) / 20
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [(600, 800, 3), (512, 512, 3), (300, 900, 3), (90, 70, 3)])
def test_equals_the_plain_loop(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    rng = np.random.default_rng(7)
    summed = np.zeros(3)
    for crop in tta.crops(image, (512, 512), 4):
        for _ in range(4):
            summed += predict(tta.varied(crop, rng)[None])[0]
    found = tta.scanned(predict, image, (512, 512), runs=4, scan=4, seed=7)
    assert found == pytest.approx(summed / 16)
    assert found.argmax() == summed.argmax()
    assert np.array_equal(found, tta.scanned(predict, image, (512, 512), 4, 4, 7))
    assert not np.array_equal(found, tta.scanned(predict, image, (512, 512), 4, 4, 8))


def test_one_call_for_all_views():
    calls = []

    def counted(patches):
        calls.append(patches.shape)
        return predict(patches)

    tta.scanned(counted, np.zeros((100, 120, 3), dtype=np.uint8), (64, 64), runs=4, scan=4, seed=0)
    assert calls == [(16, 64, 64, 3)]


def test_four_crops_reach_the_corners_and_overlap():
    y, x = np.mgrid[0:100, 0:120].astype(np.uint8)
    image = np.stack([y, x, y], axis=-1)
    found = tta.crops(image, (64, 80), 4)
    assert [(int(c[0, 0, 0]), int(c[0, 0, 1])) for c in found] == [(0, 0), (0, 40), (36, 0), (36, 40)]
    assert {c.shape for c in found} == {(64, 80, 3)}
    assert len(tta.crops(image, (64, 80), 5)) == 5
    assert tta.crops(image, (64, 80), 1)[0][0, 0].tolist() == [18, 20, 18]  # a single one is the middle


def test_varied_keeps_form_and_range():
    crop = np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)
    for seed in range(20):
        seen = tta.varied(crop, np.random.default_rng(seed))
        assert seen.shape == crop.shape
        assert seen.dtype == np.uint8
        assert abs(float(seen.mean()) - float(crop.mean())) < 12

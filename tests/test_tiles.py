"""Tiled equals untiled, everywhere."""

import numpy as np
import pytest

from malaria_cells.data.boxes import WORKING_CELL_SIZE
from malaria_cells.proposals.learned.prediction import MULTIPLE, PADDING, RECEPTIVE_RADIUS, STRIDE, decode, padded
from malaria_cells.proposals.tiles import in_tiles


@pytest.fixture(scope="module")
def network():
    """The network of the learned proposals with weights that make every place depend on all it can see."""
    import keras

    from malaria_cells.inference.assembly import proposal_inference_function
    from malaria_cells.proposals.learned import centre_network

    keras.utils.set_random_seed(0)
    return proposal_inference_function(centre_network.build())


@pytest.mark.parametrize("shape", [(304, 448), (448, 192), (160, 656)])
def test_tiled_equals_untiled(network, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    tiled = in_tiles(network, pixels, STRIDE, MULTIPLE, RECEPTIVE_RADIUS, side=96)
    assert np.abs(tiled - network(pixels[None])[0]).max() < 1e-5


def test_the_rim_is_as_wide_as_the_network_sees(network):
    """A change of one pixel changes no place further away than the halo, and some beyond half of it."""
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    changed = pixels.copy()
    changed[256, 256] = 255 - changed[256, 256]
    rows, columns = np.nonzero(np.abs(network(changed[None])[0] - network(pixels[None])[0]).max(axis=-1) > 0)
    reach = np.abs(np.concatenate([rows, columns]) * STRIDE - 256).max()
    assert RECEPTIVE_RADIUS / 2 < reach <= RECEPTIVE_RADIUS


def test_every_cell_on_a_seam_is_found_once():
    """A network that marks each bright square's corner in what it is shown: cells on and about seams, none lost, none doubled."""

    def corners(pixels):
        bright = pixels[0, ::STRIDE, ::STRIDE, 0] > 0
        grid = np.zeros((1, *bright.shape, 5), dtype=np.float32)
        grid[0, ..., 0] = bright
        return grid

    small = np.zeros((400, 500, 3), dtype=np.uint8)
    rng = np.random.default_rng(1)
    y, x = (rng.permutation(np.arange(2, n // STRIDE - 2, 3)) * STRIDE for n in small.shape[:2])
    centres = np.array([(a, b) for a in y for b in x])
    small[centres[:, 0], centres[:, 1]] = 255
    found, *_ = decode(in_tiles(corners, padded(small), STRIDE, MULTIPLE, RECEPTIVE_RADIUS, side=96), small.shape[:2])
    middles = (found[:, :2] + found[:, 2:])[:, ::-1] / 2
    assert sorted(map(tuple, middles.tolist())) == sorted(map(tuple, centres.astype(float).tolist()))
    assert np.allclose(found[:, 2] - found[:, 0], WORKING_CELL_SIZE)
    assert PADDING % STRIDE == 0


def test_sizes_must_fit():
    with pytest.raises(ValueError, match="multiples of 16"):
        in_tiles(lambda p: p, np.zeros((100, 96, 3), dtype=np.uint8), 4, 16, 64, 96)

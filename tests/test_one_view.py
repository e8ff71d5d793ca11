"""A network that is taught by its own four views answers at one nearly as at four."""

import keras
import numpy as np
import pytest

from malaria_cells.inference.assembly import proposal_inference_function
from malaria_cells.proposals.learned import centre_network
from malaria_cells.proposals.learned.one_view import imitation_loss, mean_of_views, teach_one_view
from malaria_cells.proposals.learned.prediction import seen_mirrored
from malaria_cells.proposals.learned.training import Schedule
from malaria_cells.proposals.learned.training_images import Preprocessing


def test_the_teacher_says_what_the_mirrored_views_say_on_average():
    """Parity with the NumPy code that detects."""
    keras.utils.set_random_seed(0)
    network = centre_network.build()
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    expected = seen_mirrored(proposal_inference_function(network), 4)(pixels)
    assert np.allclose(keras.ops.convert_to_numpy(mean_of_views(network, pixels.astype(np.float32))), expected, atol=1e-4)


def test_the_loss_is_zero_for_the_teacher_and_grows_with_the_difference():
    rng = np.random.default_rng(0)
    teacher = np.concatenate([rng.uniform(0.05, 0.9, (1, 4, 4, 1)), rng.normal(size=(1, 4, 4, 4))], axis=-1).astype(np.float32)
    assert float(imitation_loss(teacher, teacher)) == pytest.approx(0, abs=1e-6)
    other = teacher.copy()
    other[0, 1, 1, 0] = 0.95
    moved = teacher.copy()
    moved[0, 2, 2, 3] += 0.5
    assert float(imitation_loss(teacher, other)) > 0.001
    expected = 0.5 * teacher[0, 2, 2, 0] / teacher[..., 0].sum()
    assert float(imitation_loss(teacher, moved)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_it_learns_to_need_one_view(sample, six_classes):
    from malaria_cells.data.annotations import load_annotations
    from malaria_cells.data.images import read_image
    from malaria_cells.proposals.learned.prediction import padded, to_working_scale

    train = load_annotations(sample / "training.json", six_classes)
    keras.utils.set_random_seed(1)
    network = centre_network.build()
    before = [w.copy() for w in network.get_weights()]
    taught = teach_one_view(network, train, Schedule(1, 60, 4), Preprocessing(), 0)
    assert all(np.array_equal(a, b) for a, b in zip(before, network.get_weights(), strict=True))
    assert all(layer.trainable for layer in taught.layers)
    pixels = padded(to_working_scale(read_image(train.images[0].path), train.median_cell_size))[None]
    wanted = seen_mirrored(proposal_inference_function(network), 4)(pixels)[..., 0]
    distance = [np.abs(proposal_inference_function(n)(pixels)[..., 0] - wanted).mean() for n in (network, taught)]
    assert distance[1] < 0.8 * distance[0]

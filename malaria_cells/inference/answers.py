"""Checks of what the networks of a model folder answer, whichever engine runs them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from malaria_cells.base.errors import InputError, reason
from malaria_cells.inference.classifier import Network
from malaria_cells.inference.model_description import ABOUT, ModelDescription, golden_output
from malaria_cells.proposals import CentreNetwork
from malaria_cells.proposals.learned.prediction import MULTIPLE, PLACE_CHANNELS, SCREENING_CHANNELS, STRIDE

# Tolerance of the output on fixed pixels. Other processors and library versions round differently; a wrong file differs by far more.
GOLDEN_TOLERANCE = 2e-3


def check_answers(folder: Path, main: Sequence[Network], description: ModelDescription, golden: np.ndarray) -> None:
    """Check that the main networks' output on fixed pixels is as when they were saved, with a column for each class."""
    files = " and ".join(description.files)
    try:
        output = golden_output(main, description)
    except Exception as error:  # each engine raises its own exceptions
        size = " x ".join(map(str, description.image_size_hw))
        raise InputError(
            f"{folder / ABOUT}: image_size_hw: {files} cannot be given {size} pixels ({reason(error)}); "
            "put the value right, copy or train the model again"
        ) from error
    tolerance = GOLDEN_TOLERANCE * max(np.abs(golden).max(), 1) / len(main)
    # The comparison is negated so that NaN is refused too.
    if output.shape != golden.shape or not np.abs(output - golden).max() <= tolerance:
        raise InputError(f"{folder}: the output of {files} differs from when it was saved; copy the folder or train the model again")
    n = len(description.labels)
    n_classes = n + description.has_background
    expected = {4 + n} if description.detector != "two_stage" else {n_classes} | ({1} if n_classes == 2 else set())
    if output.shape[1] not in expected:
        raise InputError(
            f"{folder / ABOUT}: labels: found {n} names{' and background' if description.has_background else ''}, but the output of "
            f"{files} has {output.shape[1]} columns; put the labels right, copy or train the model again"
        )


def check_centres(folder: Path, centres: CentreNetwork, screens: bool) -> None:
    """Check the output of the learned proposals' network for a small image: its shape, and that it is finite.

    Args:
        folder: the model folder, for error messages.
        centres: the network.
        screens: whether it should have a screening head.
    """
    channels = PLACE_CHANNELS + SCREENING_CHANNELS if screens else PLACE_CHANNELS
    name = "proposer"
    try:
        grid = centres(np.full((1, 4 * STRIDE * MULTIPLE, 4 * STRIDE * MULTIPLE, 3), 200, dtype=np.uint8))
    except Exception as error:  # each engine raises its own exceptions
        raise InputError(f"{folder}: its {name} cannot be given an image ({reason(error)}); copy or train the model again") from error
    if grid.shape != (1, 4 * MULTIPLE, 4 * MULTIPLE, channels) or not np.isfinite(grid).all():
        raise InputError(
            f"{folder}: the output of its {name} has the shape {grid.shape} or is not finite; expected {channels} finite values for each "
            f"cell of the grid, as of learned proposals with{'' if screens else 'out'} a screening head; copy or train the model again"
        )

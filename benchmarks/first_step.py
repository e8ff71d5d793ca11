"""Seconds of CPU until a network's first training step is done, as Keras builds and with `build_ahead`; each in a process of its own.

python benchmarks/first_step.py
"""

import argparse
import multiprocessing
import time

NETWORKS = ("proposer", "compact", "lite")


def seconds(network: str, ahead: bool) -> float:
    """From the compiled model to the end of its first step."""
    from malaria_cells.engine import start_tensorflow

    start_tensorflow()
    import keras
    import tensorflow as tf

    from malaria_cells.models import build_classifier, centres
    from malaria_cells.training.centre_targets import CHANNELS, centre_loss
    from malaria_cells.training.first_step import build_ahead
    from malaria_cells.training.metrics import MacroF1

    rate = keras.optimizers.schedules.CosineDecay(2e-4, 900, warmup_target=2e-3, warmup_steps=100)
    if network == "proposer":
        model = centres.build()
        model.compile(keras.optimizers.AdamW(rate, use_ema=True, clipnorm=5.0), centre_loss)
        batch = tf.zeros((1, 256, 256, 3)), tf.ones((1, 64, 64, CHANNELS))
    else:
        model = build_classifier(network, (80, 80), 6, 0.2, "none", False)
        model.compile(keras.optimizers.AdamW(rate), "sparse_categorical_crossentropy", metrics=["accuracy", MacroF1(6)])
        batch = tf.zeros((1, 80, 80, 3)), tf.zeros((1,), tf.int32)
    batches = tf.data.Dataset.from_tensors(batch)
    start = time.process_time()
    if ahead:
        build_ahead(model, batches)
    model.fit(batches, shuffle=False, verbose=0)
    return time.process_time() - start


def main() -> None:
    """Print a row a network."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| network | as Keras builds | built ahead |\n|---|---|---|")
    for network in NETWORKS:
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as one:
            before, after = (one.apply(seconds, (network, ahead)) for ahead in (False, True))
        print(f"| {network} | {before:.1f} s | {after:.1f} s |", flush=True)


if __name__ == "__main__":
    main()

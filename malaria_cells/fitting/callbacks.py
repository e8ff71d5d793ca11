"""Keras callbacks: checkpoints with resume, reproducible dropout, the learning rate as a metric, and progress."""

import math
import sys
import time
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from malaria_cells.fitting.run_state import RunState

MONITOR = "val_macro_f1"


class StateCheckpoint(keras.callbacks.Callback):
    """Saves the state of the run after each epoch, and restores the state of other callbacks on resume.

    Args:
        run: the run to which the state is saved.
        stateful: callbacks with internal state (early stopping, plateau). On resume the metrics of the earlier epochs are replayed to
            them, so that they act as if the run had not been interrupted.
        keep: number of most recent epochs whose weights are kept as separate files.
        monitor: metric by which the best epoch is chosen.
        higher_is_better: whether a higher value of the metric is better.
        keep_last: whether the last epoch is always the best, regardless of the metric.
    """

    def __init__(
        self,
        run: RunState,
        stateful: list[keras.callbacks.Callback],
        keep: int = 0,
        monitor: str = MONITOR,
        higher_is_better: bool = True,
        keep_last: bool = False,
    ):
        super().__init__()
        self.run = run
        self.stateful = stateful
        self.keep = keep
        self.monitor = monitor
        self.sign = 1 if higher_is_better else -1
        self.keep_last = keep_last

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Replay the earlier epochs to the stateful callbacks, whose own `on_train_begin` has already reset them."""
        optimizer = self.model.optimizer
        rate = _learning_rate(optimizer)
        for epoch, row in enumerate(self.run.history):
            for callback in self.stateful:
                callback.on_epoch_end(epoch, dict(row))
        if (
            _learning_rate(optimizer) != rate
        ):  # the optimizer's rate was restored with the weights and already includes the callbacks' changes
            optimizer.learning_rate = rate

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save the state of the run."""
        row = {key: float(value) for key, value in (logs or {}).items()}
        best = self.run.best_epoch
        better = self.keep_last or best is None or self.sign * (row[self.monitor] - self.run.history[best][self.monitor]) > 0
        self.run.save(self.model, row, better, bool(self.model.stop_training), self.keep)


def _learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


class ReseedDropout(keras.callbacks.Callback):
    """Reseeds the dropout layers at the start of each epoch, since Keras does not save the state of seed generators with weights.

    On several devices each draws masks of its own.

    Args:
        seed: seed, which is combined with the number of the epoch.
    """

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the state of every seed generator."""
        states = [v for v in self.model.non_trainable_variables if v.path.endswith("seed_generator_state")]
        for i, state in enumerate(states):
            for device, copy in enumerate(self.model.distribute_strategy.experimental_local_results(state.value)):
                rng = np.random.default_rng([self.seed, epoch, i, *([device] if device else [])])
                copy.assign(rng.integers(0, 2**31, size=2).astype(state.dtype))


class LearningRate(keras.callbacks.Callback):
    """Adds the learning rate at the end of an epoch to its metrics. Must come before `StateCheckpoint`."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the key ``learning_rate``."""
        if logs is not None:
            logs["learning_rate"] = _learning_rate(self.model.optimizer)


class ProgressLines(keras.callbacks.Callback):
    """Prints one line per epoch with the metrics and the remaining time; on a terminal also shows a bar during the epoch.

    Args:
        epochs: maximum number of epochs.
        steps: batches per epoch.
    """

    def __init__(self, epochs: int, steps: int):
        super().__init__()
        self.epochs = epochs
        self.steps = steps
        self.bar: tqdm[Any] | None = None
        self.start = 0.0
        self.epochs_done = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self.start = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start a bar."""
        self.bar = tqdm(
            total=self.steps, desc=f"epoch {epoch + 1}/{self.epochs}", unit="batch", leave=False, disable=not sys.stderr.isatty()
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Advance the bar."""
        if self.bar is not None:
            self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print the line."""
        if self.bar is not None:
            self.bar.close()
        self.epochs_done += 1
        logs = logs or {}
        seconds_per_epoch = (time.monotonic() - self.start) / self.epochs_done
        figures = "  ".join(f"{key} {logs[key]:.3f}" for key in ("loss", "val_loss", "val_accuracy", MONITOR) if key in logs)
        left = seconds_per_epoch * (self.epochs - epoch - 1)
        print(
            f"epoch {epoch + 1}/{self.epochs}  {figures}  {seconds_per_epoch:.0f} s per epoch, at most {_minutes(left)} left",
            file=sys.stderr,
            flush=True,
        )


def _minutes(seconds: float) -> str:
    return f"{math.ceil(seconds)} s" if seconds < 90 else f"{seconds / 60:.0f} min"

"""What happens at the end of each pass: figures for people, the record on disk, decisions replayed on resume."""

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
    """Keeps the run on disk, and tells on resume what the epochs before had shown.

    Args:
        run: where to.
        stateful: callbacks with a memory (early stopping, plateau); on resume they are shown the old epochs again, so
            that they decide as if the run had never been cut off.
        keep: weights of so many last epochs are kept as files of their own.
        monitor: the figure that makes an epoch the best.
        higher_is_better: of that figure.
        keep_last: the last epoch is taken for the best, whatever the figure says.
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

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Replay the earlier epochs to the stateful callbacks; their own `on_train_begin` has already reset them."""
        optimizer = self.model.optimizer
        rate = _learning_rate(optimizer)
        for epoch, row in enumerate(self.run.history):
            for callback in self.stateful:
                callback.on_epoch_end(epoch, dict(row))
        if _learning_rate(optimizer) != rate:  # it was read with the weights, as the stateful callbacks had left it
            optimizer.learning_rate = rate

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save."""
        row = {key: float(value) for key, value in (logs or {}).items()}
        best = self.run.best_epoch
        better = self.keep_last or best is None or self.sign * (row[self.monitor] - self.run.history[best][self.monitor]) > 0
        self.run.save(self.model, row, better, bool(self.model.stop_training), self.keep)


def _learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


class ReseedDropout(keras.callbacks.Callback):
    """Seeds the model's own randomness (dropout) anew at each epoch, since Keras saves its state with no weights file.

    Args:
        seed: with the epoch's number it fixes what is dropped.
    """

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Set the state of every seed generator."""
        states = [v for v in self.model.non_trainable_variables if v.path.endswith("seed_generator_state")]
        for i, state in enumerate(states):
            state.assign(np.random.default_rng([self.seed, epoch, i]).integers(0, 2**31, size=2).astype(state.dtype))


class LearningRate(keras.callbacks.Callback):
    """Writes the learning rate that an epoch ended with into its figures; must come before `StateCheckpoint`."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the key ``learning_rate``."""
        if logs is not None:
            logs["learning_rate"] = _learning_rate(self.model.optimizer)


class ProgressLines(keras.callbacks.Callback):
    """One line an epoch, with the time left; on a terminal also a bar through the epoch.

    Args:
        epochs: maximum number of epochs.
        steps: batches per epoch.
    """

    def __init__(self, epochs: int, steps: int):
        super().__init__()
        self.epochs = epochs
        self.steps = steps
        self.bar: tqdm | None = None
        self.start = 0.0
        self.epochs_done = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Start the clock."""
        self.start = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start a bar."""
        self.bar = tqdm(
            total=self.steps, desc=f"epoch {epoch + 1}/{self.epochs}", unit="batch", leave=False, disable=not sys.stderr.isatty()
        )

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print the line."""
        if self.bar is not None:
            self.bar.close()
        self.epochs_done += 1
        logs = logs or {}
        each = (time.monotonic() - self.start) / self.epochs_done
        figures = "  ".join(f"{key} {logs[key]:.3f}" for key in ("loss", "val_loss", "val_accuracy", MONITOR) if key in logs)
        left = each * (self.epochs - epoch - 1)
        print(
            f"epoch {epoch + 1}/{self.epochs}  {figures}  {each:.0f} s an epoch, {_minutes(left)} left at most", file=sys.stderr, flush=True
        )


def _minutes(seconds: float) -> str:
    return f"{math.ceil(seconds)} s" if seconds < 90 else f"{seconds / 60:.0f} min"

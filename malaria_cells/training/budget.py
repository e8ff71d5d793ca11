"""Plans the training steps of an adaptation by the number of images; fewer on a machine that is too slow for the time limit."""

import time
from collections.abc import Callable
from dataclasses import dataclass

# Seconds per step on two cores, with 8 crops of 256 x 256, 64 patches of 80 x 80, and 64 patches of 112 x 112 pixels.
PROPOSER_STEP, CLASSIFIER_STEP, REFINER_STEP = 0.25, 0.12, 0.35
TRACING = 10.0  # seconds before the first step of a training, in which TensorFlow traces the graph
MIN_FRACTION = 0.2  # fraction of the planned steps that is taken in any case


@dataclass(frozen=True)
class Stage:
    """One stage of an adaptation.

    Attributes:
        name: name of the stage.
        steps: planned training steps; 0 if the stage trains nothing.
        of_steps: seconds that these steps take on two cores.
        fixed: seconds of the stage apart from the steps.
    """

    name: str
    steps: int
    of_steps: float
    fixed: float


class Budget:
    """Measures how long stages take, and reduces the steps of later stages if they would exceed the time limit.

    On a machine that is fast enough the steps depend only on the number of images.

    Args:
        seconds: time limit of all stages together.
        stages: the stages in order.
        clock: function that returns seconds, as `time.monotonic`.
    """

    def __init__(self, seconds: float, stages: list[Stage], clock: Callable[[], float] = time.monotonic):
        self.seconds, self.stages, self.clock = seconds, stages, clock
        self.begun = clock()
        self.least_fraction = 1.0
        self.taken: dict[str, int] = {}
        self._at = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.begun

    def steps(self, name: str) -> int:
        """Begin a stage and return its number of steps; all stages before it count as done."""
        self._at = next(i for i, stage in enumerate(self.stages) if i > self._at and stage.name == name)
        stage = self.stages[self._at]
        fraction = self._fraction()
        self.least_fraction = min(self.least_fraction, fraction)
        self.taken[name] = max(round(fraction * stage.steps), 1)
        return self.taken[name]

    def _fraction(self) -> float:
        """Return the fraction of the planned steps with which the remaining stages end in time."""
        done, remaining = self.stages[: self._at], self.stages[self._at :]
        expected = sum(s.fixed + self.least_fraction * s.of_steps for s in done)
        # Slowdown of this machine; adding TRACING to both sides damps the estimate during the first stages.
        slowdown = max((self.elapsed + TRACING) / (expected + TRACING), 1.0)
        step_seconds = self.seconds - self.elapsed - slowdown * sum(s.fixed for s in remaining)
        fraction = step_seconds / (slowdown * max(sum(s.of_steps for s in remaining), 1e-9))
        return min(self.least_fraction, max(fraction, MIN_FRACTION))


@dataclass(frozen=True)
class Plan:
    """Numbers of folds and steps of an adaptation.

    Attributes:
        folds: folds of the classifiers' cross-validation; that of the proposer has two.
        proposer: steps of the proposer's final training; a fold has `FOLD_FRACTION` of them.
        first: steps per epoch of the first classifier, which is trained for `CLASSIFIER_EPOCHS`.
        images: number of images, including old ones.
    """

    folds: int
    proposer: int
    first: int
    images: int


CLASSIFIER_EPOCHS, REFINER_EPOCHS = 5, 2
FOLD_FRACTION = 0.5  # fraction of the final training's steps that the training of a fold takes
MAX_FOLDS, MIN_FOLDS = 5, 3
MAX_IMAGES_FOR_ALL_FOLDS = 12  # images; with more of them there are `MIN_FOLDS` instead of `MAX_FOLDS`
SECONDS_PER_IMAGE = 1.0  # seconds to find candidates in an image and to classify them with all classifiers


def plan_of(images: int, groups: int, old: int = 0) -> Plan:
    """Return the plan for a number of images.

    Args:
        images: number of annotated images.
        groups: number of groups of these images; a group is never divided between folds.
        old: number of the start model's training images that are trained on as well.
    """
    folds = MAX_FOLDS if images <= MAX_IMAGES_FOR_ALL_FOLDS else MIN_FOLDS
    return Plan(min(folds, groups), min(120 + 8 * images, 280), min(30 + 2 * images, 60), images + old)


def stages_of(plan: Plan, refiner: bool) -> list[Stage]:
    """Return the stages of an adaptation in order."""
    seconds_per_step = CLASSIFIER_EPOCHS * CLASSIFIER_STEP + (REFINER_EPOCHS * REFINER_STEP if refiner else 0)
    tracing = TRACING * (2 if refiner else 1)

    def proposer(name: str, fraction: float) -> Stage:
        steps = round(fraction * plan.proposer)
        return Stage(name, steps, steps * PROPOSER_STEP, TRACING)

    def classifiers(name: str, fraction: float) -> Stage:
        steps = max(round(fraction * plan.first), 1)
        return Stage(name, steps, steps * seconds_per_step, tracing)

    return [
        Stage("start", 0, 0, 10 + SECONDS_PER_IMAGE * plan.images),
        *[proposer("proposer fold", FOLD_FRACTION)] * 2,
        Stage("candidates", 0, 0, SECONDS_PER_IMAGE * plan.images),
        *[classifiers("fold", FOLD_FRACTION)] * plan.folds,
        Stage("thresholds", 0, 0, SECONDS_PER_IMAGE * plan.images),
        proposer("proposer", 1.0),
        classifiers("classifiers", 1.0),
        Stage("report", 0, 0, 20),
    ]

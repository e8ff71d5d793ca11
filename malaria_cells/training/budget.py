"""Steps of the trainings of an adaptation, by the number of images; fewer where the machine is too slow for the time allowed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

PROPOSER_STEP, CLASSIFIER_STEP, REFINER_STEP = (
    0.25,
    0.12,
    0.35,
)  # seconds on two cores: 8 crops of 256 x 256, 64 patches of 80 x 80, of 112 x 112
TRACING = 10.0  # seconds until a training of a network takes its first step
LEAST = 0.2  # fraction of the usual steps that is taken in any case


@dataclass(frozen=True)
class Stage:
    """A part of the work.

    Attributes:
        name: of it.
        steps: of the training, that count by their time; 0 where nothing is trained.
        of_steps: seconds that they usually take.
        fixed: seconds of what does not depend on steps.
    """

    name: str
    steps: int
    of_steps: float
    fixed: float


class Budget:
    """Follows how long stages take, and gives later ones fewer steps where they would not end in time.

    On a machine that is fast enough the steps depend on the number of images alone.

    Args:
        seconds: that all of it may take.
        stages: in their order.
        clock: seconds by any zero.
    """

    def __init__(self, seconds: float, stages: list[Stage], clock: Callable[[], float] = time.monotonic):
        self.seconds, self.stages, self.clock = seconds, stages, clock
        self.begun = clock()
        self.least_fraction = 1.0
        self.taken: dict[str, int] = {}
        self._at = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self.clock() - self.begun

    def steps(self, name: str) -> int:
        """The steps that a stage may take; stages before it count as done."""
        self._at = next(i for i, stage in enumerate(self.stages) if i > self._at and stage.name == name)
        stage = self.stages[self._at]
        fraction = self._fraction()
        self.least_fraction = min(self.least_fraction, fraction)
        self.taken[name] = max(round(fraction * stage.steps), 1)
        return self.taken[name]

    def _fraction(self) -> float:
        """The fraction of the usual steps that leaves time for the rest."""
        done, left = self.stages[: self._at], self.stages[self._at :]
        expected = sum(s.fixed + self.least_fraction * s.of_steps for s in done)
        # How much slower than usual this machine is, as far as it is known; the first stages say little.
        slower = max((self.elapsed + TRACING) / (expected + TRACING), 1.0)
        for_steps = self.seconds - self.elapsed - slower * sum(s.fixed for s in left)
        fraction = for_steps / (slower * max(sum(s.of_steps for s in left), 1e-9))
        return min(self.least_fraction, max(fraction, LEAST))


@dataclass(frozen=True)
class Plan:
    """How many steps of what.

    Attributes:
        folds: of the cross-validation of the classifiers; the proposer has two.
        proposer: steps of its last training; a fold's has `OF_A_FOLD` of them.
        first: steps an epoch of the first classifier, whose epochs are `CLASSIFIER_EPOCHS`.
        images: images, old ones counted.
    """

    folds: int
    proposer: int
    first: int
    images: int


CLASSIFIER_EPOCHS, REFINER_EPOCHS = 5, 2
OF_A_FOLD = 0.5
MOST_FOLDS, FOLDS_OF_MANY = 5, 3
FEW = 12  # images, from a larger number of which fewer folds are made
CANDIDATES = 1.0  # seconds to look for candidates in an image and to classify them, by all classifiers


def plan_of(images: int, groups: int, old: int = 0) -> Plan:
    """The usual plan.

    Args:
        images: annotated images.
        groups: of them, which are kept together.
        old: images of what the start model was trained on, to train on too.
    """
    folds = MOST_FOLDS if images <= FEW else FOLDS_OF_MANY
    return Plan(min(folds, groups), min(120 + 8 * images, 280), min(30 + 2 * images, 60), images + old)


def stages_of(plan: Plan, refiner: bool) -> list[Stage]:
    """The stages of an adaptation in their order."""
    seconds_per_step = CLASSIFIER_EPOCHS * CLASSIFIER_STEP + (REFINER_EPOCHS * REFINER_STEP if refiner else 0)
    tracing = TRACING * (2 if refiner else 1)

    def proposer(name: str, fraction: float) -> Stage:
        steps = round(fraction * plan.proposer)
        return Stage(name, steps, steps * PROPOSER_STEP, TRACING)

    def classifiers(name: str, fraction: float) -> Stage:
        steps = max(round(fraction * plan.first), 1)
        return Stage(name, steps, steps * seconds_per_step, tracing)

    return [
        Stage("start", 0, 0, 10 + CANDIDATES * plan.images),
        *[proposer("proposer fold", OF_A_FOLD)] * 2,
        Stage("candidates", 0, 0, CANDIDATES * plan.images),
        *[classifiers("fold", OF_A_FOLD)] * plan.folds,
        Stage("thresholds", 0, 0, CANDIDATES * plan.images),
        proposer("proposer", 1.0),
        classifiers("classifiers", 1.0),
        Stage("report", 0, 0, 20),
    ]

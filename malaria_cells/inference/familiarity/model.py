"""Verdict on an image from its signals: familiar, unusual, or unlike anything learned, with the reason in words."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field

from malaria_cells.inference.familiarity.signals import LOG_OFFSET, NAMES, SIGNALS
from malaria_cells.inference.familiarity.words import difference

Level = Literal["familiar", "unusual", "unlike anything learned"]
FAMILIAR: Level = "familiar"
UNUSUAL: Level = "unusual"
UNLIKE: Level = "unlike anything learned"
LEVELS: tuple[Level, ...] = (FAMILIAR, UNUSUAL, UNLIKE)

USUAL_FRACTION = 0.95  # fraction of a data set's images that lie between its low and high value of each signal
# Fraction of the validation images that are familiar; of other images of the same laboratories slightly fewer are.
FAMILIAR_FRACTION = 0.975
FOLDS = 5  # parts of the validation images in the cross-validation of their distances
MIN_IMAGES = 10  # validation images of a data set; with fewer, the networks' signals are taken from all data sets together
MAX_REASONS = 2  # differences in a reason
NO_INFECTED_CELLS = "the training images that look like this have no infected cell"
MIN_WIDTH = 1e-3  # distance in a signal's unit between low, centre and high value of a valid model; fitted ones are far larger
Row = Annotated[tuple[float, ...], Field(min_length=len(NAMES), max_length=len(NAMES))]


@dataclass(frozen=True)
class Familiarity:
    """Similarity of an image to the training images.

    Attributes:
        level: the verdict.
        distance: distance from the nearest data set of the training: the largest difference in any signal, relative to the width of the
            data set's usual range. About 1 is the edge of that range.
        reason: the differences in words; empty if the image is familiar and `infection_known`.
        nearest: name of the nearest data set; empty if the training had only one.
        infection_known: whether a data set with infected cells is similar to a familiar image, or is the nearest one of any other image,
            so that the training contained infected cells of this appearance.
    """

    level: Level
    distance: float
    reason: str = ""
    nearest: str = ""
    infection_known: bool = True

    @property
    def is_as_learned(self) -> bool:
        """Whether error rates of the validation images apply: the image is familiar, and the appearance of infected cells is known."""
        return self.level == FAMILIAR and self.infection_known


@dataclass(frozen=True)
class KnownSet:
    """Usual values of the signals in one data set; each row has a value per signal, in the order of `signals.NAMES`.

    Attributes:
        name: name of the data set.
        images: number of images that were measured.
        low: lowest usual values.
        centre: medians.
        high: highest usual values.
        has_infected_cells: whether the data set has infected cells; also True if no data set has any.
    """

    name: str
    images: Annotated[int, Field(ge=1)]
    low: Row
    centre: Row
    high: Row
    has_infected_cells: bool = True

    def differences(self, values: np.ndarray) -> np.ndarray:
        """Distances from the centre, relative to the usual range on that side: float64 (.., n_signals).

        Low values of a signal that is `only_high` have distance 0.

        Args:
            values: signals, float (.., n_signals).
        """
        low, centre, high = (np.array(row) for row in (self.low, self.centre, self.high))
        above, below = (values - centre) / (high - centre), (centre - values) / (centre - low)
        only_high = np.array([s.only_high for s in SIGNALS])
        return np.maximum(above, np.where(only_high, 0, below)).clip(min=0)


@dataclass(frozen=True)
class FamiliarityLimits:
    """Limits from which an image is unlike anything learned, or unusual, whatever the training images are like.

    Both fractions were measured by a model of one laboratory on the training images of five others: cells were detected with an F1 of 0.5
    where half of the stained area was in red cells, and of 0.4 where nine in ten detections were uncertain.

    Attributes:
        max_unexplained: fraction of the stained area outside red cells above which an image is unlike anything learned.
        max_unsure: fraction of uncertain detections above which an image is unlike anything learned.
        out_of_focus: distance of the focus below the lowest usual value, in logarithms, from which an image is unlike anything learned.
            In images blurred by 1.0, which is 0.03 of a cell, all red cells are still detected, but only one infected cell in five.
        max_familiar_distance: maximum of `FamiliarityModel.unusual` when it is fitted, whatever the validation images are like.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    max_unexplained: Annotated[float, Field(ge=0, le=1)] = 0.5
    max_unsure: Annotated[float, Field(ge=0, le=1)] = 0.9
    out_of_focus: Annotated[float, Field(ge=0)] = 1.0
    max_familiar_distance: Annotated[float, Field(ge=1)] = 3.0


@dataclass(frozen=True)
class FamiliarityModel:
    """Appearance of the training images, by which new images are judged.

    Attributes:
        signals: names of the signals, which must be those of this version.
        sets: usual values of each data set of the training.
        unusual: distance above which an image is unusual.
        limits: limits that do not depend on the training images.
    """

    signals: tuple[str, ...]
    sets: Annotated[tuple[KnownSet, ...], Field(min_length=1)]
    unusual: Annotated[float, Field(gt=0)]
    limits: FamiliarityLimits = field(default=FamiliarityLimits())

    def __post_init__(self) -> None:
        if self.signals != NAMES:
            raise ValueError(f"familiarity.signals: found {list(self.signals)}, this version measures {list(NAMES)}")
        for known in self.sets:
            if np.diff([known.low, known.centre, known.high], axis=0).min() < MIN_WIDTH:
                raise ValueError(f"familiarity.sets: {known.name!r}: expected low under centre under high for each signal")

    def judge(self, values: np.ndarray) -> Familiarity:
        """The verdict on one image.

        Args:
            values: signals as `signals.measure` returns them, float (n_signals,).
        """
        by_set = [known.differences(values) for known in self.sets]
        nearest = int(np.argmin([differences.max() for differences in by_set]))
        known, differences = self.sets[nearest], by_set[nearest]
        distance = round(float(differences.max()), 3)
        name = known.name if len(self.sets) > 1 else ""
        grave = np.flatnonzero(_is_grave(values, known, self.limits)).tolist()
        if distance <= self.unusual and not grave:
            near = [k for k, d in zip(self.sets, by_set, strict=True) if d.max() <= self.unusual]
            infection_known = any(k.has_infected_cells and not _is_grave(values, k, self.limits).any() for k in near)
            return Familiarity(FAMILIAR, distance, "" if infection_known else NO_INFECTED_CELLS, name, infection_known)
        unusual = {*grave, *np.flatnonzero(differences > self.unusual).tolist()}
        order = sorted(unusual, key=lambda i: (i not in grave, -differences[i]))
        centre = np.array(known.centre)
        reasons = [difference(NAMES[i], float(values[i]), float(values[i] - centre[i])) for i in order[:MAX_REASONS]]
        return Familiarity(UNLIKE if grave else UNUSUAL, distance, "; ".join(reasons), name, known.has_infected_cells)


def _is_grave(values: np.ndarray, known: KnownSet, limits: FamiliarityLimits) -> np.ndarray:
    """Whether each signal makes an image unlike anything learned; values that are usual in the data set do not: bool (n_signals,)."""
    highest = np.full(len(NAMES), np.inf)
    highest[NAMES.index("unexplained")] = np.log(limits.max_unexplained + LOG_OFFSET)
    highest[NAMES.index("unsure")] = limits.max_unsure
    is_grave = values > np.maximum(highest, known.high)
    focus = NAMES.index("focus")
    is_grave[focus] = values[focus] < known.low[focus] - limits.out_of_focus
    return is_grave


def fit(
    appearances: np.ndarray,
    sets: Sequence[str],
    validated: np.ndarray,
    validated_sets: Sequence[str],
    sets_without_infected_cells: Collection[str] = (),
    limits: FamiliarityLimits | None = None,
) -> FamiliarityModel:
    """Fit the usual values of each data set, and the distance that at most one validation image in forty exceeds.

    The distances of the validation images are cross-validated: the usual values are fitted without the fold whose distances are measured.

    Args:
        appearances: signals of training images, float (n, n_signals); the networks' signals are not used.
        sets: data set of each training image, n names.
        validated: all signals of validation images, float (m, n_signals), m at least 1.
        validated_sets: data set of each validation image, m names.
        sets_without_infected_cells: names of the data sets without infected cells, if others have some.
        limits: those of the model; None: those of a new model.
    """
    training_names, names = np.array(sets, dtype=object), np.array(validated_sets, dtype=object)
    limits = limits or FamiliarityLimits()
    known = _known_sets(appearances, training_names, validated, names)
    folds = [np.arange(len(validated)) % FOLDS == fold for fold in range(FOLDS)] if len(validated) >= MIN_IMAGES else []
    by_fold = [_distances(_known_sets(appearances, training_names, validated[~f], names[~f]), validated[f], limits) for f in folds]
    distances = np.concatenate(by_fold) if by_fold else _distances(known, validated, limits)
    # The rank of split conformal prediction (Lei et al. 2018, JASA 113(523), section 2.2).
    rank = min(int(np.ceil((len(distances) + 1) * FAMILIAR_FRACTION)), len(distances), max(int(np.isfinite(distances).sum()), 1)) - 1
    unusual = float(np.sort(distances)[rank].clip(1, limits.max_familiar_distance))
    marked = tuple(replace(k, has_infected_cells=k.name not in sets_without_infected_cells) for k in known)
    return FamiliarityModel(NAMES, marked, round(unusual, 4), limits)


def _known_sets(appearances: np.ndarray, training_names: np.ndarray, validated: np.ndarray, names: np.ndarray) -> tuple[KnownSet, ...]:
    """The usual values of each data set, from its training and validation images."""
    known = []
    quantiles = [(1 - USUAL_FRACTION) / 2, 0.5, (1 + USUAL_FRACTION) / 2]
    for name in sorted(set(training_names) | set(names)):
        both = np.concatenate([appearances[training_names == name], validated[names == name]])
        for_networks = validated[names == name] if (names == name).sum() >= MIN_IMAGES else validated
        by_signal = [for_networks if signal.of_networks else both for signal in SIGNALS]
        low, centre, high = np.array([np.quantile(values[:, i], quantiles) for i, values in enumerate(by_signal)]).T
        min_width = np.array([signal.min_width for signal in SIGNALS])
        low, high = np.minimum(low, centre - min_width), np.maximum(high, centre + min_width)
        low_row, centre_row, high_row = (tuple(row.round(4).tolist()) for row in (low, centre, high))
        known.append(KnownSet(str(name), len(both), low_row, centre_row, high_row))
    return tuple(known)


def _distances(known: Sequence[KnownSet], values: np.ndarray, limits: FamiliarityLimits) -> np.ndarray:
    """Distance of each image from the nearest data set, infinite for images unlike anything learned: float (n,)."""
    is_grave = np.array([[_is_grave(row, k, limits).any() for k in known] for row in values]).all(axis=1)
    return np.where(is_grave, np.inf, np.min([k.differences(values).max(axis=1) for k in known], axis=0))

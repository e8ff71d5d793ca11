"""From an image's signals to a verdict: familiar, unusual, or unlike anything learned, with the reason in words."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from malaria_cells.inference.familiarity.signals import AT_LEAST, NAMES, SIGNALS
from malaria_cells.inference.familiarity.words import difference

Level = Literal["familiar", "unusual", "unlike anything learned"]
FAMILIAR: Level = "familiar"
UNUSUAL: Level = "unusual"
UNLIKE: Level = "unlike anything learned"
LEVELS: tuple[Level, ...] = (FAMILIAR, UNUSUAL, UNLIKE)

INNER = 0.95  # fraction of a data set's images that lie within its low and high value of each signal
# Fraction of the validation images that the limit calls familiar; of other images of the same laboratories slightly fewer are.
FAMILIAR_FRACTION = 0.975
FOLDS = 5  # parts of the validation images, each measured by what the others say is usual
FEWEST = 10  # validation images of a data set; the networks' signals of one with fewer are those of all sets together
# Limits from which an image is like nothing learned, measured by a model of one laboratory on the training images of five others:
# cells were found with an F1 of 0.5 where half of the stained area was in red cells, of 0.4 where nine in ten detections were unsure.
MOST_UNEXPLAINED = 0.5
MOST_UNSURE = 0.9
# Distance of the focus below the lowest usual value, as a logarithm: images blurred by so much, 0.03 of a cell, show all their red
# cells still and one infected cell in five.
OUT_OF_FOCUS = 1.0
MOST_UNUSUAL = 3.0  # distance at which an image is unusual whatever the validation images are like
MOST_REASONS = 2
NO_INFECTED_CELLS = "the training images that look like this have no infected cell"
LEAST_WIDTH = 1e-3  # of what is usual on either side of the centre, in a signal's unit: far under that of any signal
Row = Annotated[tuple[float, ...], Field(min_length=len(NAMES), max_length=len(NAMES))]


@dataclass(frozen=True)
class Familiarity:
    """How like the training images an image is.

    Attributes:
        level: the verdict.
        distance: from the nearest data set of the training: its largest difference in any one signal, by how much that varies within the
            data set. About 1 is the edge of what is usual there.
        reason: what is different, in words; empty where the image is familiar and so are infected cells in such ones.
        nearest: name of the nearest data set; empty where the training had only one.
        infection_known: whether a data set that it is like, or the nearest one of an unfamiliar image, has infected cells, so that the
            training knows how they look there.
    """

    level: Level
    distance: float
    reason: str = ""
    nearest: str = ""
    infection_known: bool = True

    @property
    def is_as_learned(self) -> bool:
        """Whether what was measured on the validation images holds here: it is familiar, and so are infected cells there."""
        return self.level == FAMILIAR and self.infection_known


@dataclass(frozen=True)
class KnownSet:
    """Usual values of the signals in one data set, each a row in the order of `signals.NAMES`.

    Attributes:
        name: of the data set.
        images: number of those that were measured.
        low: lowest usual value.
        centre: median.
        high: highest usual value.
        has_infected_cells: whether there are infected cells in it, or where nothing can be infected.
    """

    name: str
    images: Annotated[int, Field(ge=1)]
    low: Row
    centre: Row
    high: Row
    has_infected_cells: bool = True

    def differences(self, values: np.ndarray) -> np.ndarray:
        """Distance from the centre by that of the usual value on the same side; 0 on a side that does no harm: float64 (.., n_signals)."""
        low, centre, high = (np.array(row) for row in (self.low, self.centre, self.high))
        above, below = (values - centre) / (high - centre), (centre - values) / (centre - low)
        only_high = np.array([s.only_high for s in SIGNALS])
        return np.maximum(above, np.where(only_high, 0, below)).clip(min=0)


@dataclass(frozen=True)
class FamiliarityModel:
    """What a training stores to judge images by.

    Attributes:
        signals: names, which must be those of this version.
        sets: a data set of the training each.
        unusual: distance from which an image is unusual.
    """

    signals: tuple[str, ...]
    sets: Annotated[tuple[KnownSet, ...], Field(min_length=1)]
    unusual: Annotated[float, Field(gt=0)]

    def __post_init__(self) -> None:
        if self.signals != NAMES:
            raise ValueError(f"familiarity.signals: found {list(self.signals)}, this version measures {list(NAMES)}")
        for known in self.sets:
            if np.diff([known.low, known.centre, known.high], axis=0).min() < LEAST_WIDTH:
                raise ValueError(f"familiarity.sets: {known.name!r}: expected low under centre under high for each signal")

    def judge(self, values: np.ndarray) -> Familiarity:
        """The verdict on one image.

        Args:
            values: as `signals.measure` gives them, float (len(signals.NAMES),).
        """
        every = [known.differences(values) for known in self.sets]
        best = int(np.argmin([different.max() for different in every]))
        known, different = self.sets[best], every[best]
        distance = round(float(different.max()), 3)
        name = known.name if len(self.sets) > 1 else ""
        grave = np.flatnonzero(_is_grave(values, known)).tolist()
        if distance <= self.unusual and not grave:
            alike = [k for k, d in zip(self.sets, every, strict=True) if d.max() <= self.unusual and not _is_grave(values, k).any()]
            infection_known = any(k.has_infected_cells for k in alike)
            return Familiarity(FAMILIAR, distance, "" if infection_known else NO_INFECTED_CELLS, name, infection_known)
        told = {*grave, *np.flatnonzero(different > self.unusual).tolist()}
        order = sorted(told, key=lambda i: (i not in grave, -different[i]))
        centre = np.array(known.centre)
        words = [difference(NAMES[i], float(values[i]), float(values[i] - centre[i])) for i in order[:MOST_REASONS]]
        return Familiarity(UNLIKE if grave else UNUSUAL, distance, "; ".join(words), name, known.has_infected_cells)


def _is_grave(values: np.ndarray, known: KnownSet) -> np.ndarray:
    """Signals by which an image is like nothing learned, unless they are usual in the data set: bool (n_signals,)."""
    limits = np.full(len(NAMES), np.inf)
    limits[NAMES.index("unexplained")] = np.log(MOST_UNEXPLAINED + AT_LEAST)
    limits[NAMES.index("unsure")] = MOST_UNSURE
    is_grave = values > np.maximum(limits, known.high)
    focus = NAMES.index("focus")
    is_grave[focus] = values[focus] < known.low[focus] - OUT_OF_FOCUS
    return is_grave


def fit(
    appearances: np.ndarray,
    sets: Sequence[str],
    validated: np.ndarray,
    validated_sets: Sequence[str],
    sets_without_infected_cells: Collection[str] = (),
) -> FamiliarityModel:
    """Fit the usual values of each data set, and the distance that at most one validation image in forty exceeds.

    That distance is measured on validation images that the usual values were not taken from: a fifth of them at a time.

    Args:
        appearances: of training images, float (n, n_signals); the networks' signals are not looked at.
        sets: data set of each, n names.
        validated: all signals of validation images, float (m, n_signals), m at least 1.
        validated_sets: data set of each, m names.
        sets_without_infected_cells: names of the data sets that have no infected cell, though others have.
    """
    names, own = np.array(sets, dtype=object), np.array(validated_sets, dtype=object)
    known = _known(appearances, names, validated, own)
    parts = [np.arange(len(validated)) % FOLDS == fold for fold in range(FOLDS)] if len(validated) >= FEWEST else []
    away = [_away(_known(appearances, names, validated[~part], own[~part]), validated[part]) for part in parts]
    distances = np.concatenate(away) if away else _away(known, validated)
    # The rank of split conformal prediction (Lei et al. 2018, JASA 113(523), section 2.2).
    rank = min(int(np.ceil((len(distances) + 1) * FAMILIAR_FRACTION)), len(distances), max(int(np.isfinite(distances).sum()), 1)) - 1
    unusual = float(np.sort(distances)[rank].clip(1, MOST_UNUSUAL))
    marked = tuple(replace(k, has_infected_cells=k.name not in sets_without_infected_cells) for k in known)
    return FamiliarityModel(NAMES, marked, round(unusual, 4))


def _known(appearances: np.ndarray, names: np.ndarray, validated: np.ndarray, own: np.ndarray) -> tuple[KnownSet, ...]:
    found = []
    for name in sorted(set(names) | set(own)):
        seen = np.concatenate([appearances[names == name], validated[own == name]])
        judged = validated[own == name] if (own == name).sum() >= FEWEST else validated
        rows = [seen if not signal.of_networks else judged for signal in SIGNALS]
        low, centre, high = np.array([np.quantile(row[:, i], [(1 - INNER) / 2, 0.5, (1 + INNER) / 2]) for i, row in enumerate(rows)]).T
        least = np.array([signal.least_width for signal in SIGNALS])
        low, high = np.minimum(low, centre - least), np.maximum(high, centre + least)
        low_row, centre_row, high_row = (tuple(row.round(4).tolist()) for row in (low, centre, high))
        found.append(KnownSet(str(name), len(seen), low_row, centre_row, high_row))
    return tuple(found)


def _away(known: Sequence[KnownSet], values: np.ndarray) -> np.ndarray:
    """Distance of each image from the nearest set, infinite where it is like nothing learned: float (n,)."""
    is_grave = np.array([[_is_grave(row, k).any() for k in known] for row in values]).all(axis=1)
    return np.where(is_grave, np.inf, np.min([k.differences(values).max(axis=1) for k in known], axis=0))

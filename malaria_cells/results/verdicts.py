"""What is said of images that are not like those of the training: how many, which first, and what is counted of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import supervision as sv

from malaria_cells.base.text import number_of
from malaria_cells.inference.counting import Count, ErrorRates, count_detected, total
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.familiarity import FAMILIAR, UNLIKE, UNUSUAL, Familiarity


@dataclass(frozen=True)
class Verdicts:
    """The familiarity of several images, together.

    Attributes:
        given: keys of the images that are given a parasitemia, or counted at all where nothing can be infected.
        together: cells of those images.
        errors: error rates to expect on all of them.
        sentence: how many are unusual, unlike anything learned, or from where no infected cell was seen; empty where none is.
    """

    given: frozenset[str]
    together: Count
    errors: ErrorRates | None
    sentence: str

    @staticmethod
    def of(
        detector: Detector, results: Mapping[str, sv.Detections], familiarity: Mapping[str, Familiarity | None], force: bool = False
    ) -> "Verdicts":
        """Judge images together.

        Args:
            detector: for its labels and error rates.
            results: detections by key.
            familiarity: by key; of an image that is not in it nothing is known, and it is counted.
            force: whether images that are unlike anything learned are counted.
        """
        by_level = {level: [key for key in sorted(results) if _level(familiarity.get(key)) == level] for level in (UNUSUAL, UNLIKE)}
        has_infected = bool(detector.labels.is_infected.any())
        left_out = set() if force or not has_infected else set(by_level[UNLIKE])
        given = frozenset(key for key in results if key not in left_out)
        together = total((count_detected(results[key], detector.labels) for key in sorted(given)), detector.labels)
        parts = []
        for level, keys in by_level.items():
            if keys:
                first = familiarity[keys[0]]
                reason = first.reason if first else ""
                consequence = _consequence(level, bool(left_out), has_infected)
                verb = "is" if len(keys) == 1 else "are"
                parts.append(f"{number_of(len(keys), 'image')} {verb} {level}: {consequence}; first: {keys[0]} ({reason})")
        strange = [key for key in sorted(results) if (own := familiarity.get(key)) and own.level == FAMILIAR and not own.infection_known]
        if strange:
            verb = "looks" if len(strange) == 1 else "look"
            is_measured = detector.errors_for(familiarity[strange[0]]) is not detector.errors
            rates = (
                "its error rates there are those in laboratories that its training left out"
                if is_measured
                else "how many it misses there is not known"
            )
            parts.append(
                f"{number_of(len(strange), 'image')} {verb} like those of laboratories whose infected cells the model has never seen: "
                f"{rates}; first: {strange[0]}"
            )
        return Verdicts(given, together, detector.errors_for(*(familiarity.get(key) for key in given)), ". ".join(parts))


def _level(familiarity: Familiarity | None) -> str | None:
    return None if familiarity is None else familiarity.level


def _consequence(level: str, is_left_out: bool, has_infected: bool) -> str:
    if level == UNLIKE and is_left_out:
        return "no parasitemia is given there, and the total leaves such images out (run.py --force counts them all the same)"
    return f"{'the parasitemia' if has_infected else 'the counts'} there may be far off"

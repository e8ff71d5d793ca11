"""Summarises which images are unlike those of the training, and which of them are counted."""

from collections.abc import Mapping
from dataclasses import dataclass

from malaria_cells.base.text import number_of
from malaria_cells.data.detections import Detections
from malaria_cells.inference.counting import Count, count_detected, total
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.error_rates import ErrorRates
from malaria_cells.inference.familiarity import FAMILIAR, UNLIKE, UNUSUAL, Familiarity


@dataclass(frozen=True)
class Verdicts:
    """The familiarity of several images, together.

    Attributes:
        included: keys of the images that the total includes.
        together: counted cells of these images.
        errors: error rates to expect on these images together.
        sentence: message on images that are unusual, unlike anything learned, or from laboratories whose infected cells the model has
            not learned; empty if there are none.
    """

    included: frozenset[str]
    together: Count
    errors: ErrorRates | None
    sentence: str

    @staticmethod
    def of(
        detector: Detector, results: Mapping[str, Detections], familiarity: Mapping[str, Familiarity | None], force: bool = False
    ) -> "Verdicts":
        """Judge images together.

        Args:
            detector: the detector, for its labels and error rates.
            results: detections by image key.
            familiarity: familiarity by image key; an image without one is counted.
            force: whether images unlike anything learned are counted.
        """
        by_level = {level: [key for key in sorted(results) if _level(familiarity.get(key)) == level] for level in (UNUSUAL, UNLIKE)}
        has_infected = bool(detector.labels.is_infected.any())
        left_out = set() if force or not has_infected else set(by_level[UNLIKE])
        included = frozenset(key for key in results if key not in left_out)
        total_count = total((count_detected(results[key], detector.labels) for key in sorted(included)), detector.labels)
        sentences = []
        for level, keys in by_level.items():
            if keys:
                first_familiarity = familiarity[keys[0]]
                reason = first_familiarity.reason if first_familiarity else ""
                consequence = _consequence(level, bool(left_out), has_infected)
                verb = "is" if len(keys) == 1 else "are"
                sentences.append(f"{number_of(len(keys), 'image')} {verb} {level}: {consequence}; first: {keys[0]} ({reason})")
        unknown_laboratory = [
            key for key in sorted(results) if (f := familiarity.get(key)) and f.level == FAMILIAR and not f.infection_known
        ]
        if unknown_laboratory:
            verb = "looks" if len(unknown_laboratory) == 1 else "look"
            is_measured = detector.errors_for(familiarity[unknown_laboratory[0]]) is not detector.errors
            rates = (
                "error rates of laboratories that were not trained on are assumed"
                if is_measured
                else "the fraction of infected cells that it misses there is unknown"
            )
            sentences.append(
                f"{number_of(len(unknown_laboratory), 'image')} {verb} like those of laboratories whose infected cells the model was "
                f"not trained on: {rates}; first: {unknown_laboratory[0]}"
            )
        return Verdicts(included, total_count, detector.errors_for(*(familiarity.get(key) for key in included)), ". ".join(sentences))


def _level(familiarity: Familiarity | None) -> str | None:
    return None if familiarity is None else familiarity.level


def _consequence(level: str, is_left_out: bool, has_infected: bool) -> str:
    if level == UNLIKE and is_left_out:
        return "no parasitemia is given there, and the total excludes such images (run.py --force includes them)"
    return f"{'the parasitemia' if has_infected else 'the counts'} there may be far off"

"""Finds the cells of images by an exported model.

    python example.py IMAGE .. > cells.csv

This model has steps that are no network (proposals by watershed, a one-stage detector's boxes, images seen in several crops), so
the malaria_cells package is needed beside the engine. A model of whole images names each image instead.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from malaria_cells.base.errors import InputError
from malaria_cells.data.images import read_image
from malaria_cells.data.patches import resize
from malaria_cells.inference.detector import Detector, TwoStageDetector
from malaria_cells.inference.model_description import ModelDescription
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.inference.tta import scanned


def rows_of(path: Path, detector: Detector, description: ModelDescription) -> Iterator[list[Any]]:
    """Rows of the table for an image: its cells, or its own label and the probability of each."""
    image, names = read_image(path), detector.labels.names
    if description.has_background:
        found = detector.detect(image)
        for i, (label, counted) in enumerate(zip(found.data["class_name"], found.data["counted_as"], strict=True)):
            score, box = found.confidence[i], found.xyxy[i]
            yield [path, label, f"{score:.4f}", *(f"{v:.1f}" for v in box), names[counted] if counted >= 0 else ""]
    elif isinstance(detector, TwoStageDetector):
        classifier, image = detector.classifier, detector.prepared(image)
        if description.scan:
            p = scanned(classifier, image, classifier.image_size_hw, **description.scan, seed=description.seed)
        else:
            closer_hw = classifier.refiner_size_hw or classifier.image_size_hw
            patch = resize(image, classifier.image_size_hw)[None]
            p = classifier(patch, detector.settings.tta, lambda _: resize(image, closer_hw)[None])[0]
        yield [path, names[p.argmax()], *(f"{v:.4f}" for v in p)]


def main() -> int:
    """Print a table of the images named: 0, or 2 where the model and 3 where an image cannot be read."""
    write, code = csv.writer(sys.stdout, lineterminator="\n"), 0
    try:
        detector, description = load_detector(Path(__file__).parent)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    columns = ["score", "x_min", "y_min", "x_max", "y_max", "counted_as"] if description.has_background else detector.labels.names
    write.writerow(["image", "label", *columns])
    for path in map(Path, sys.argv[1:]):
        try:
            write.writerows(list(rows_of(path, detector, description)))
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 3
    return code


if __name__ == "__main__":
    sys.exit(main())

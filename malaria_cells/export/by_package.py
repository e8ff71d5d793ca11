"""Detect the cells of images with an exported model.

    python example.py IMAGE .. > cells.csv

This model needs the malaria_cells package in addition to the inference engine, for steps without a network: proposals by watershed, a
one-stage detector's boxes, or whole images in several crops. A model of whole images classifies each image instead.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from malaria_cells.base.errors import InputError
from malaria_cells.data.images import read_image
from malaria_cells.data.patches import resize
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.model_description import ModelDescription
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.inference.tta import scanned
from malaria_cells.inference.two_stage_detector import TwoStageDetector


def rows_of(path: Path, detector: Detector, description: ModelDescription) -> Iterator[list[Any]]:
    """Rows of the table for an image: one for each cell or, of a model of whole images, one with the probability of each class."""
    image, names = read_image(path), detector.labels.names
    if description.has_background:
        detections = detector.detect(image)
        for i, (label, counted) in enumerate(zip(detections.class_name, detections.counted_as, strict=True)):
            score, box = detections.confidence[i], detections.xyxy[i]
            yield [path, label, f"{score:.4f}", *(f"{v:.1f}" for v in box), names[counted] if counted >= 0 else ""]
    elif isinstance(detector, TwoStageDetector):
        classifier, image = detector.classifier, detector.prepared(image)
        if description.scan:
            p = scanned(classifier, image, classifier.image_size_hw, **description.scan, seed=description.seed)
        else:
            refiner_hw = classifier.refiner_size_hw or classifier.image_size_hw
            patch = resize(image, classifier.image_size_hw)[None]
            p = classifier(patch, detector.settings.tta, lambda _: resize(image, refiner_hw)[None])[0]
        yield [path, names[p.argmax()], *(f"{v:.4f}" for v in p)]


def main() -> int:
    """Print a table of the images. Exit code 0; 2 if the model cannot be loaded; 3 if an image cannot be read."""
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

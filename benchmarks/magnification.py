"""What becomes of a detector when images are shrunk or enlarged, looked at in their own size and as if nothing had changed.

python benchmarks/magnification.py --model pretrained/vivax --data data/iml
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from malaria_cells.base.tensorflow_setup import start_tensorflow

FACTORS = (1.0, 0.35, 0.5, 0.75, 1.5, 2.0, 3.0, 4.0)


def main() -> None:
    """Scale, detect twice, score, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="model folder that training wrote")
    parser.add_argument("--data", type=Path, required=True, help="data set with annotations.json, split.json and images/")
    parser.add_argument("--factors", type=float, nargs="+", default=FACTORS, help="of width and height (default: %(default)s)")
    options = parser.parse_args()
    start_tensorflow()
    from malaria_cells.data.annotations import load_annotations
    from malaria_cells.data.images import read_image
    from malaria_cells.evaluation import detection_metrics
    from malaria_cells.inference.model_folder import load_detector

    detector, description = load_detector(options.model)
    detectors = {"own": detector, "as trained": detector.with_cell_size(description.cell_size)}
    test = {Path(name).name for name in json.loads((options.data / "split.json").read_text())["test"]}
    truth = load_annotations(options.data / "annotations.json", detector.labels, root=options.data)
    images = [p for p in truth.images if p.path.name in test]
    print(f"{len(images)} images\n")
    print("| times | cell size | mAP50 | cell recall | infected F1 | s an image |\n|---|---|---|---|---|---|")
    for factor in options.factors:
        found, seconds = {name: [] for name in detectors}, dict.fromkeys(detectors, 0.0)
        for image in images:
            pixels = read_image(image.path)
            if factor != 1:
                way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
                pixels = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=way)
            for name, each in detectors.items():
                started = time.perf_counter()
                found[name].append(each.detect(pixels))
                seconds[name] += time.perf_counter() - started
        scaled = [replace(p, boxes_xyxy=p.boxes_xyxy * np.float32(factor)) for p in images]
        for name, detections in found.items():
            figures = detection_metrics(scaled, detections, detector.labels, None).to_json()
            f1 = figures["infected"]["f1"]
            row = [f"{factor:g}", name, *(f"{v:.3f}" for v in (figures["mAP50"], figures["cell"]["recall50"], f1))]
            print("| " + " | ".join([*row, f"{seconds[name] / len(images):.2f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()

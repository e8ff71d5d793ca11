"""The same detector by every engine, float and eight-bit, in one run: seconds an image, size, and what it costs.

python benchmarks/engines.py --model pretrained/vivax --data data/iml
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from malaria_cells.base.tensorflow_setup import start_tensorflow

RUNS = (("keras", False), ("savedmodel", False), ("onnx", False), ("openvino", False), ("litert", False))
RUNS += (("onnx", True), ("openvino", True), ("litert", True))

WEIGHTS = {".keras", ".onnx", ".bin", ".tflite", ".pb"}


def main() -> None:
    """Export, time, score, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="model folder that training wrote")
    parser.add_argument("--data", type=Path, required=True, help="data set with annotations.json, split.json and images/")
    options = parser.parse_args()
    start_tensorflow()
    from malaria_cells.app.commands.export import export
    from malaria_cells.data.annotations import load_annotations
    from malaria_cells.data.images import read_image
    from malaria_cells.evaluation import detection_metrics
    from malaria_cells.inference.model_folder import load_detector
    from malaria_cells.inference.model_yaml import load_description

    labels = load_description(options.model)[0].labels
    test = {Path(name).name for name in json.loads((options.data / "split.json").read_text())["test"]}
    truth = load_annotations(options.data / "annotations.json", labels, root=options.data)
    images = [p for p in truth.images if p.path.name in test]
    read = [read_image(p.path) for p in images]
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for engine, int8 in RUNS:
            where = options.model
            if engine != "keras":
                where = Path(folder) / f"{engine}{int8}"
                export(options.model, engine, int8, None, where)
            detector, _ = load_detector(where, engine)
            detector.detect(read[0])
            seconds, found = [], []
            for image in read:
                started = time.perf_counter()
                found.append(detector.detect(image))
                seconds.append(time.perf_counter() - started)
            m = detection_metrics(images, found, labels, None).to_json()
            name = f"{engine}{', int8' if int8 else ''}"
            size = sum(f.stat().st_size for f in where.rglob("*") if f.suffix in WEIGHTS or f.name.startswith("variables"))
            figures = (m["cell"]["AP50"], m["mAP50"], m["infected"]["f1"])
            row = f"| {name} | {1000 * np.median(seconds):.0f} | {size / 2**20:.1f} | {' | '.join(f'{v:.3f}' for v in figures)} |"
            lines.append(row)
            print(row, flush=True)
    print(f"\n{os.cpu_count()} cores, {len(read)} images\n")
    print("| engine | ms an image | MiB | cell AP50 | mAP50 | infected F1 |\n|---|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

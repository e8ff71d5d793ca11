"""Seconds for one image, by step, beside a peer in the same run: the notebook's way, one `predict` a cell.

python benchmarks/detect.py --model models/iml --image 'data/iml/images/*.JPG'
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np

from malaria_cells.base.parallel import MAX_WORKERS, imap_ordered
from malaria_cells.base.tensorflow_setup import start_tensorflow
from malaria_cells.data.images import list_images, read_image
from malaria_cells.data.patches import crop_boxes


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--count", type=int, default=20, help="images to time (default: %(default)s)")
    options = parser.parse_args()
    start_tensorflow()
    from malaria_cells.inference.model_description import CLASSIFIER
    from malaria_cells.inference.model_folder import load_detector
    from malaria_cells.models.stored.keras_files import load_network

    detector, description = load_detector(options.model)
    network = load_network(options.model / CLASSIFIER)
    root, keys = list_images(options.image)
    paths = [root / key for key in keys[:: max(len(keys) // options.count, 1)][: options.count]]
    detector.detect(paths[0])  # traces the network
    steps: dict[str, list[float]] = {"read": [], "propose": [], "classify": [], "decide": []}
    proposals = 0
    for path in paths:
        t = [time.perf_counter()]
        image = detector.prepared(read_image(path))
        t.append(time.perf_counter())
        boxes, proposal_scores = detector.proposer.candidates(image)
        t.append(time.perf_counter())
        probabilities = detector.classify(image, boxes)
        t.append(time.perf_counter())
        detector.decide(boxes, probabilities, proposal_scores)
        t.append(time.perf_counter())
        proposals += len(boxes)
        for name, seconds in zip(steps, np.diff(t), strict=True):
            steps[name].append(float(seconds))
    total = sum(np.median(v) for v in steps.values())
    print(
        f"{image.shape[1]} x {image.shape[0]}, {len(paths)} images, {os.cpu_count()} cores, {detector.settings.tta} views, "
        f"{proposals / len(paths):.0f} candidates an image"
    )
    print("  ".join(f"{name} {1000 * np.median(v):.0f} ms" for name, v in steps.items()) + f"  together {1000 * total:.0f} ms (medians)")
    started = time.perf_counter()
    for _, working in imap_ordered(detector.detect, paths):
        working.result()
    each = (time.perf_counter() - started) / len(paths)
    print(f"{MAX_WORKERS} at once, as run.py works: {1000 * each:.0f} ms an image")
    patches = crop_boxes(image, boxes[:40], description.context, description.image_size_hw).astype(np.float32)
    network.predict(patches[:1], verbose=0)
    started = time.perf_counter()
    for patch in patches:
        for _ in range(detector.settings.tta):
            network.predict(patch[None], verbose=0)
    each = (time.perf_counter() - started) / len(patches) * proposals / len(paths)
    ratio = each / np.median(steps["classify"])
    print(f"one predict a cell instead: {each:.1f} s for the same candidates, {ratio:.0f} times as long as 'classify'")


if __name__ == "__main__":
    main()

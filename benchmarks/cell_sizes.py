"""How well the size of the cells is told from an image, and what that is worth: images as they are, shrunk and enlarged.

Cells of all classes count as one. AP50 is of the boxes of the learned proposals alone, at one look, after overlapping ones (IoU over 0.5)
are dropped: in the annotated size of the image's red cells, in the size that the rule tells, and in the nearest that the network was
trained on ("own"). Training parts alone are read.

python benchmarks/cell_sizes.py --model pretrained/thin_smear --data data/iml data/bccd data/pbc
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from malaria_cells.base.tensorflow_setup import start_tensorflow

FACTORS = (1.0, 0.35, 0.5, 0.7, 1.4, 2.0, 3.0)
NAMES = ("red blood cell", "leukocyte", "gametocyte", "ring", "trophozoite", "schizont", "platelet")
OTHER_NAMES = (("RBC", NAMES[0]), ("WBC", NAMES[1]), ("Platelets", NAMES[6]))
FEWEST_RED = 3  # red cells by which the size of an image is told
OVERLAP = 0.5


def main() -> None:
    """Measure each data set at each factor, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="model folder, or a network of learned proposals (.keras)")
    parser.add_argument("--sizes", type=float, nargs="+", help="cells of the training in pixels (default: as model.yaml says)")
    parser.add_argument("--images", type=int, default=20, help="of each data set (default: %(default)s)")
    parser.add_argument("--factors", type=float, nargs="+", default=FACTORS, help="of width and height (default: %(default)s)")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folder with annotations.json and split.json, or one with parts of its own"
    )
    options = parser.parse_args()
    start_tensorflow()
    import keras

    from malaria_cells.inference.assembly import proposal_inference_function
    from malaria_cells.inference.model_folder import PROPOSER
    from malaria_cells.inference.model_yaml import load_description

    folder = options.model.is_dir()
    network = proposal_inference_function(keras.models.load_model(options.model / PROPOSER if folder else options.model, compile=False))
    if not (sizes := options.sizes):
        description = load_description(options.model)[0]
        sizes = list(description.cell_sizes.values()) or [description.cell_size]
    print("| set | times | told / annotated (5, 50, 95 %) | AP50 annotated size | told | own | trials | ms to tell | ms a look |")
    print("|---|---|---|---|---|---|---|---|---|")
    for source in options.data:
        images = list(chosen(source, options.images))
        for factor in options.factors:
            print(row(source.name, network, sizes, images, factor), flush=True)


def chosen(source: Path, number: int) -> Iterator[tuple]:
    """Training images, evenly spread, with the annotated size of their red cells."""
    from malaria_cells.data.annotations import load_annotations
    from malaria_cells.data.boxes import cell_sizes
    from malaria_cells.data.labels import LabelSet

    labels = LabelSet(NAMES, ("difficult",), NAMES[2:6], NAMES[:1], OTHER_NAMES)
    named = source / "annotations.json"
    own = load_annotations(named if named.is_file() else source, labels, root=source, min_box_size=4)
    train = {Path(name).name for name in json.loads((source / "split.json").read_text())["train"]} if named.is_file() else None
    images = [p for p in own.images if (p.part != "test" if train is None else p.path.name in train)]
    enough = [p for p in images if len(own.sizing_cells(p)) >= FEWEST_RED]
    for image in enough[:: max(len(enough) // number, 1)][:number]:
        yield image, float(np.median(cell_sizes(own.sizing_cells(image))))


def row(name: str, network, sizes: list[float], images: list[tuple], factor: float) -> str:  # type: ignore[no-untyped-def]
    """One line of the table."""
    from malaria_cells.data.images import read_image
    from malaria_cells.proposals.learned.prediction import learned_boxes
    from malaria_cells.proposals.learned.scale import detect_at_own_scale
    from malaria_cells.proposals.learned.settings import ProposalSettings

    told, trial_counts, telling, looking = [], [], [], []
    found: dict[str, list] = {"annotated": [], "told": [], "own": []}
    truth = []
    for image, annotated in images:
        pixels = read_image(image.path)
        if factor != 1:
            way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
            pixels = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=way)
        asked, tried = [], []

        def find(size: float, pixels: np.ndarray = pixels, asked: list = asked) -> tuple:
            asked.append((size, time.perf_counter()))
            answer = learned_boxes(network, pixels, size)
            looking.append(time.perf_counter() - asked[-1][1])
            return answer

        def detect_fast(part: np.ndarray, size: float, tried: list = tried) -> tuple:
            tried.append(size)
            return learned_boxes(network, part, size)

        started = time.perf_counter()
        answer = detect_at_own_scale(find, detect_fast, pixels, ProposalSettings(), sorted(sizes)[len(sizes) // 2], sizes)
        telling.append(time.perf_counter() - started - looking[-1])
        told.append(asked[-1][0] / (annotated * factor))
        trial_counts.append(len(tried) + len(asked) - 1)
        found["told"].append(answer)
        look = partial(learned_boxes, network, pixels)
        found["annotated"].append(look(annotated * factor))
        nearest = min(sizes, key=lambda size: abs(np.log(size / annotated)))
        found["own"].append(look(nearest))
        truth.append(replace(image, boxes_xyxy=image.boxes_xyxy * np.float32(factor), size_wh=pixels.shape[1::-1]))
    low, middle, high = np.percentile(told, [5, 50, 95])
    figures = " | ".join(f"{average_precision(each, truth):.3f}" for each in found.values())
    times = f"{np.mean(trial_counts):.1f} | {1000 * np.median(telling):.0f} | {1000 * np.median(looking):.0f}"
    return f"| {name} | {factor:g} | {low:.2f} {middle:.2f} {high:.2f} | {figures} | {times} |"


def average_precision(found: list[tuple[np.ndarray, np.ndarray]], images: list) -> float:
    """Area under precision over recall at IoU 0.5, all cells as one class; boxes on ignore regions do not count."""
    from malaria_cells.data import boxes

    scores, hits = [], []
    for (xyxy, proposal_scores), image in zip(found, images, strict=True):
        kept = boxes.clip(xyxy, image.size_wh)
        corners = np.concatenate([kept[:, :2], kept[:, 2:] - kept[:, :2]], axis=1).astype(float)
        order = np.array(cv2.dnn.NMSBoxes(corners.tolist(), proposal_scores.tolist(), 0.0, OVERLAP), dtype=int).ravel()
        kept, proposal_scores = kept[order], proposal_scores[order]
        matched = boxes.match(kept, image.cells_xyxy) >= 0
        ignored = boxes.intersection_matrix(kept, image.ignored_xyxy).max(axis=1, initial=0) >= OVERLAP * boxes.areas(kept)
        scores.append(proposal_scores[matched | ~ignored])
        hits.append(matched[matched | ~ignored])
    order = np.argsort(-np.concatenate(scores), kind="stable")
    true = np.cumsum(np.concatenate(hits)[order])
    precision = np.maximum.accumulate((true / np.arange(1, len(true) + 1))[::-1])[::-1]
    recall = true / sum(len(p.cells_xyxy) for p in images)
    return float(np.sum(np.diff(recall, prepend=0) * precision))


if __name__ == "__main__":
    main()

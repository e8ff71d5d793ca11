"""How often do annotations contradict themselves? Cells that lie in two overlapping images were annotated twice.

    python benchmarks/annotators.py --config configs/iml.yaml

Neighbouring images of the training and validation parts are registered by their ORB features (Rublee et al. 2011,
ICCV, 2564-2571), and cells well inside both are compared: what one annotation calls infected, does the other? No detector
can agree with the annotations more often than a reader who makes no mistake would, and the table tells how often that is.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from malaria_cells.config import load_config
from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.dataset import load_data_set
from malaria_cells.data.images import read_image

SCALE = 0.25
NEIGHBOURS = 5  # images on, in order of their names
FEWEST_VOTES = 25  # features that agree on the shift, to within three pixels of the small image
MARGIN = 20  # pixels: boxes nearer to the edge of either image are left out
FEWEST_CELLS = 5
REGISTERED = 0.6  # fraction of the cells inside both that must lie on one another


def features(image: AnnotatedImage, orb: cv2.ORB) -> tuple[np.ndarray, np.ndarray]:
    """Places, float32 (n, 2) in pixels of the image, and descriptors of an image's features."""
    grey = cv2.cvtColor(read_image(image.path), cv2.COLOR_RGB2GRAY)
    found, descriptors = orb.detectAndCompute(cv2.resize(grey, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_AREA), None)
    return np.array([point.pt for point in found], dtype=np.float32) / SCALE, descriptors


def shift_between(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> np.ndarray | None:
    """By how many pixels (x, y) the second image shows the same place elsewhere; None where they do not overlap."""
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(a[1], b[1])
    shifts = np.array([b[0][m.trainIdx] - a[0][m.queryIdx] for m in matches])
    bins, votes = np.unique(np.round(shifts * SCALE / 3).astype(int), axis=0, return_counts=True)
    if votes.max() < FEWEST_VOTES:
        return None
    near = np.abs(shifts - bins[votes.argmax()] * 3 / SCALE).max(axis=1) < 4 / SCALE
    return np.median(shifts[near], axis=0)


def compared(a: AnnotatedImage, b: AnnotatedImage, shift: np.ndarray) -> np.ndarray:
    """Class ids of each cell in both annotations, -1 where one of them has none: int (n, 2)."""
    limit = np.array(b.size_wh)
    moved, back = a.cells_xyxy + np.tile(shift, 2), b.cells_xyxy - np.tile(shift, 2)
    matched = boxes.match(moved, b.cells_xyxy)
    inside = _inside(moved, limit) & _inside(a.cells_xyxy, limit)
    if inside.sum() < FEWEST_CELLS or (matched[inside] >= 0).mean() < REGISTERED:
        return np.zeros((0, 2), dtype=int)
    second = np.where(matched >= 0, b.cell_class_ids[matched], -1)
    alone = _inside(back, limit) & _inside(b.cells_xyxy, limit) & ~np.isin(np.arange(len(back)), matched)
    only_second = np.stack([np.full(alone.sum(), -1), b.cell_class_ids[alone]], axis=1)
    return np.concatenate([np.stack([a.cell_class_ids, second], axis=1)[inside], only_second])


def _inside(xyxy: np.ndarray, limit: np.ndarray) -> np.ndarray:
    return ((xyxy[:, :2] >= MARGIN) & (xyxy[:, 2:] <= limit - MARGIN)).all(axis=1)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/iml.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    data = load_data_set(load_config(options.config, options.set))
    images = sorted((*data.train.images, *data.validation.images), key=lambda p: p.key)
    orb = cv2.ORB_create(1500)
    seen = [features(p, orb) for p in images]
    pairs = [(i, j) for i in range(len(images)) for j in range(i + 1, min(i + 1 + NEIGHBOURS, len(images)))]
    shifts = {(i, j): shift for i, j in pairs if (shift := shift_between(seen[i], seen[j])) is not None}
    twice = np.concatenate([compared(images[i], images[j], shift) for (i, j), shift in shifts.items()])
    labels = data.train.labels
    names = [*labels.names, "not marked"]
    table = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(table, (twice[:, 0], twice[:, 1]), 1)
    print(f"{len(shifts)} pairs of images overlap; {len(twice):,} cells were annotated in both or could have been\n")
    print("| first / second | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|")
    for name, row in zip(names, table, strict=True):
        print(f"| {name} | " + " | ".join(map(str, row)) + " |")
    infected = np.append(labels.is_infected, False)[twice]
    marked = (twice >= 0).all(axis=1)
    for what, of in (("all cells", infected), ("cells that both mark", infected[marked])):
        both, one = int(of.all(axis=1).sum()), int((of.sum(axis=1) == 1).sum())
        agreement = f"F1 of one annotation by the other {2 * both / (2 * both + one):.3f}"
        print(f"\ninfected, {what}: {both} in both, {one} in one alone; {agreement}")
    same = twice[infected.all(axis=1)]
    print(f"\nstage of those infected in both: {int((same[:, 0] == same[:, 1]).sum())} of {len(same)} the same")


if __name__ == "__main__":
    main()

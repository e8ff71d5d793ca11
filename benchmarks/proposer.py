"""How good are the boxes of learned proposals, before any classifier? Trains the proposer of a config alone, or takes a model's.

    python benchmarks/proposer.py --config configs/iml.yaml --set proposer_epochs=20

Boxes are scored on the validation part, one look an image, suppressed as the config has it. A class's rows tell how well boxes fit
its cells: rare and large ones learn last. With --shrunk every other group's images are shrunk, as if those of two microscopes were
put together:

    python benchmarks/proposer.py --config configs/iml.yaml --set proposer_epochs=20 --shrunk 0.4
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from malaria_cells.base.tensorflow_setup import start_tensorflow
from malaria_cells.config import load_config
from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.dataset import DataSet, load_data_set, with_labels
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import read_image
from malaria_cells.evaluation import cell_figures
from malaria_cells.inference.suppression import suppress
from malaria_cells.proposals import Proposer


def shrunk(annotations: AnnotationSet, factor: float, folder: Path) -> AnnotationSet:
    """The set with every other group's images shrunk into a folder."""
    groups = set(sorted({p.group for p in annotations.images})[1::2])

    def smaller(image: AnnotatedImage) -> AnnotatedImage:
        pixels = cv2.resize(read_image(image.path), None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        path = folder / f"{image.key.replace('/', '_')}.png"
        cv2.imwrite(str(path), pixels[..., ::-1])
        return replace(image, path=path, size_wh=pixels.shape[1::-1], boxes_xyxy=image.boxes_xyxy * np.float32(factor))

    return replace(annotations, images=tuple(smaller(p) if p.group in groups else p for p in annotations.images))


def boxes_of(proposer: Proposer, image: AnnotatedImage, nms_iou: float) -> Detections:
    """What is proposed for an image."""
    xyxy, proposal_scores = proposer.candidates(read_image(image.path))
    kept = suppress(xyxy, proposal_scores, nms_iou, None)
    return Detections.from_boxes(xyxy[kept], np.zeros(len(kept)), proposal_scores[kept])


def print_figures(annotations: AnnotationSet, found: dict[str, Detections]) -> None:
    """How well the boxes fit, by class.

    Args:
        annotations: the images to score.
        found: boxes by the images' keys.
    """
    images, labels = list(annotations.images), annotations.labels
    proposed = [found[p.key] for p in images]
    figures = cell_figures(images, proposed, labels)
    sizes = f"cells of {annotations.median_cell_size:.0f} pixels, {np.mean([len(each) for each in proposed]):.0f} boxes an image"
    print(f"{len(images)} validation images, {sizes}")
    print(f"AP50 {figures.ap50[0]:.3f}  AP75 {figures.ap75[0]:.3f}  AP {figures.ap[0]:.3f}  recall {figures.recall50[0]:.3f}")
    overlap = [boxes.iou_matrix(each.xyxy, p.cells_xyxy).max(axis=0, initial=0) for each, p in zip(proposed, images, strict=True)]
    best, ids = np.concatenate(overlap), np.concatenate([p.cell_class_ids for p in images])
    print("\n| | cells | with a box at IoU 0.5 | mean IoU of the best box |\n|---|---|---|---|")
    for i, name in enumerate(labels.names):
        own = best[ids == i]
        print(f"| {name} | {len(own)} | {(own >= 0.5).mean():.3f} | {own.mean():.3f} |" if len(own) else f"| {name} | 0 | | |")
    print()


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/iml.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--model", type=Path, help="folder whose proposer is scored; none is trained then")
    parser.add_argument("--shrunk", type=float, metavar="FACTOR", help="shrink every other group's images so; the sizes are scored apart")
    options = parser.parse_args()
    start_tensorflow()
    from malaria_cells.inference.assembly import proposal_inference_function
    from malaria_cells.inference.model_folder import PROPOSER
    from malaria_cells.models.stored.keras_files import load_network
    from malaria_cells.proposals.learned.training import Schedule, train_proposer
    from malaria_cells.proposals.learned.training_images import Preprocessing

    config = with_labels(load_config(options.config, options.set))
    data = load_data_set(config)
    scored = [data.validation]
    with tempfile.TemporaryDirectory() as folder:
        if options.shrunk:
            data = DataSet(*(shrunk(part, options.shrunk, Path(folder)) for part in (data.train, data.validation)), None)
            small = [p.key for p in data.validation.images if p.path.parent == Path(folder)]
            others = [p.key for p in data.validation.images if p.path.parent != Path(folder)]
            scored = [data.validation.subset(keys) for keys in (small, others)]
        size = data.train.median_cell_size
        if options.model:
            network = load_network(options.model / PROPOSER)
        else:
            schedule = Schedule(config.proposer_epochs, config.proposer_steps)
            preprocessing = Preprocessing(config.stain_normalization, config.proposer_augmentation)
            network = train_proposer(data.train, schedule, preprocessing, config.random_state)
        proposer = Proposer("learned", size, network=proposal_inference_function(network))
        found = {p.key: boxes_of(proposer, p, config.nms_iou or 0.5) for p in data.validation.images}
        for part in scored:
            print_figures(part, found)


if __name__ == "__main__":
    main()

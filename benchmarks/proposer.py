"""How good are the boxes of learned proposals, before any classifier? Trains the proposer of a config alone, or takes a model's.

    python benchmarks/proposer.py --config configs/iml.yaml --set proposer_epochs=20

Boxes are scored on the validation part, one look a picture, suppressed as the config has it. A class's rows tell how well boxes fit
its cells: rare and large ones learn last.
"""

import argparse
from pathlib import Path

import numpy as np
import supervision as sv

from malaria_cells import boxes
from malaria_cells.commands.train import PROPOSER_BATCH
from malaria_cells.config import load_config
from malaria_cells.dataset import DataSet, load_data_set, with_labels
from malaria_cells.engine import start_tensorflow
from malaria_cells.evaluation import cell_figures
from malaria_cells.pictures import read_picture
from malaria_cells.proposals import Proposer
from malaria_cells.suppression import suppress


def boxes_of(proposer: Proposer, data: DataSet, nms_iou: float) -> list[sv.Detections]:
    """What is proposed for each validation picture."""
    proposed = []
    for picture in data.validation.pictures:
        xyxy, sureness = proposer.candidates(read_picture(picture.path))
        kept = suppress(xyxy, sureness, nms_iou, None)
        proposed.append(sv.Detections(xyxy[kept], confidence=sureness[kept], class_id=np.zeros(len(kept), dtype=int)))
    return proposed


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/iml.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--model", type=Path, help="folder whose proposer is scored; none is trained then")
    options = parser.parse_args()
    start_tensorflow()
    from malaria_cells.model_folder import PROPOSER, compiled_centres, load_network
    from malaria_cells.training.proposer import train_proposer

    config = with_labels(load_config(options.config, options.set))
    data = load_data_set(config)
    size = data.train.median_cell_size
    if options.model:
        network = load_network(options.model / PROPOSER)
    else:
        network = train_proposer(data.train, size, config.proposer_epochs, config.proposer_steps, PROPOSER_BATCH, config.random_state)
    proposed = boxes_of(Proposer("learned", size, network=compiled_centres(network)), data, config.nms_iou)
    pictures = data.validation.pictures
    figures = cell_figures(list(pictures), proposed, data.validation.labels)
    print(f"{len(pictures)} validation pictures, {np.mean([len(found) for found in proposed]):.0f} boxes a picture")
    print(f"AP50 {figures.ap50[0]:.3f}  AP75 {figures.ap75[0]:.3f}  AP {figures.ap[0]:.3f}  recall {figures.recall50[0]:.3f}")
    overlap = [boxes.iou_matrix(found.xyxy, p.cells_xyxy).max(axis=0, initial=0) for found, p in zip(proposed, pictures, strict=True)]
    best, ids = np.concatenate(overlap), np.concatenate([p.cell_class_ids for p in pictures])
    print("\n| | cells | with a box at IoU 0.5 | mean IoU of the best box |\n|---|---|---|---|")
    for i, name in enumerate(data.validation.labels.names):
        own = best[ids == i]
        print(f"| {name} | {len(own)} | {(own >= 0.5).mean():.3f} | {own.mean():.3f} |" if len(own) else f"| {name} | 0 | | |")


if __name__ == "__main__":
    main()

"""Whole detectors beside each other: trained and run on the same split, on the same machine, one after the other.

python benchmarks/detectors.py --config configs/iml.yaml

Ours is trained by the config; keras-cv's YOLOV8 (xs) and RetinaNet (on ResNet-18), and Ultralytics' nano model where it is
installed, from scratch for as many minutes. The sliding window is the tutorials': our classifier, one `predict` a window, timed
on a few images.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

if TYPE_CHECKING:
    from malaria_cells.data.dataset import DataSet

ONE_STAGE = {"yolo": "YOLOV8 xs (keras-cv)", "retinanet": "RetinaNet (keras-cv)"}
PEERS = (*ONE_STAGE, "sliding", "ultralytics")
LONGER_SIDE = 640  # of Ultralytics' input: its default, and what makes cells as large as the others see them
ROOT = Path(__file__).resolve().parent.parent
# An epoch, in two trials: the difference leaves out tracing, and the batches prepared meanwhile. RetinaNet's step takes five of YOLO's.
TIMED_STEPS = {"yolo": (15, 60), "retinanet": (5, 15)}


@dataclass(frozen=True)
class Row:
    """One system's figures; None: not measured."""

    name: str
    metrics: dict
    seconds: float
    peak_mib: float | None
    minutes: float | None


def main() -> None:
    """Train, run, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/iml.yaml"))
    parser.add_argument("--model", type=Path, help="take this trained model of ours instead of training one")
    parser.add_argument("--minutes", type=float, help="for the peers (default: what our training took; needed with --model)")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS, help="beside ours (default: all that are installed)")
    parser.add_argument("--output", type=Path, default=Path("results/benchmark"))
    parser.add_argument("--sliding-images", type=int, default=2, help="images to time windows on (default: %(default)s)")
    options = parser.parse_args()
    if options.model and options.minutes is None:
        parser.error("--model needs --minutes: how long its peers are trained")
    data = Path(yaml.safe_load(options.config.read_text())["train_images"])
    options.output.mkdir(parents=True, exist_ok=True)
    rows = []
    ours, spent = (options.model, None) if options.model else train(options.config, options.output, "ours")
    rows.append(run("ours", ours, data, options.output, spent))
    minutes = options.minutes or spent
    for kind, called in ONE_STAGE.items():
        if kind in options.peers:
            model, spent = train(options.config, options.output, kind, *settings_for(kind, options.config, options.output, minutes))
            rows.append(run(called, model, data, options.output, spent))
    if "sliding" in options.peers:
        rows.append(sliding(ours, data, options.output, options.sliding_images))
    if "ultralytics" in options.peers and find_spec("ultralytics"):
        rows.append(ultralytics(options.config, options.output, minutes))
    report(rows)


def train(config: Path, output: Path, name: str, *settings: str) -> tuple[Path, float]:
    """Train by ``train.py``: the model folder, and minutes."""
    sets = [part for s in (f"name={name}", f"output_models={output}", *settings) for part in ("--set", s)]
    started = time.monotonic()
    subprocess.run([sys.executable, str(ROOT / "train.py"), f"--config={config}", *sets], check=True)
    return output / name, (time.monotonic() - started) / 60


def settings_for(kind: str, config: Path, output: Path, minutes: float) -> list[str]:
    """Epochs and steps of a one-stage detector that take as many minutes, all else not counted: a step is timed first."""
    common = [f"detector={kind}", "start_from=null", "balance=none", "learning_rate=0.001", "early_stopping=null", "score_threshold=0.02"]
    fewer, more = TIMED_STEPS[kind]
    shorter, longer = (
        second_epoch_seconds(train(config, output, "timing", *common, "epochs=2", f"steps_per_epoch={n}")[0]) for n in TIMED_STEPS[kind]
    )
    each = max((longer - shorter) / (more - fewer), 1e-3)
    compared = max(shorter - fewer * each, 0.0)
    n_epochs = 10
    steps = max(int((minutes * 60 / n_epochs - compared) / each), 2)
    print(f"{kind}: {each:.2f} s a step, {compared:.0f} s to compare an epoch, {n_epochs} epochs of {steps} steps", flush=True)
    return [*common, f"epochs={n_epochs}", f"steps_per_epoch={steps}"]


def second_epoch_seconds(model: Path) -> float:
    """Seconds from a training's first checkpoint to its second."""
    first, second = (file.stat().st_mtime for file in sorted((model / "checkpoints").iterdir())[:2])
    return second - first


def run(name: str, model: Path, data: Path, output: Path, minutes: float | None, *options: str) -> Row:
    """Score by ``run.py`` on the test part, in a process of its own, whose peak memory is read."""
    target = output / f"results_{model.name}{'_'.join(options).replace('-', '')}"
    arguments = ["--model", model, "--image", data / "images", "--annotations", data / "annotations.json"]
    arguments += ["--split", data / "split.json", "--output", target, *options]
    process = subprocess.Popen([sys.executable, str(ROOT / "run.py"), *map(str, arguments)])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{name}: run.py failed")
    metrics = json.loads((target / "metrics.json").read_text())
    return Row(name, metrics, metrics["seconds_per_image"], usage.ru_maxrss / 1024, minutes)


def sliding(model: Path, data: Path, output: Path, images: int) -> Row:
    """The tutorials' detector: a window at every step, the classifier asked once a window."""
    row = run("sliding window", model, data, output, None, "--proposals", "sliding", "--tta", "1")
    from malaria_cells.data.images import read_image
    from malaria_cells.data.patches import crop_boxes
    from malaria_cells.data.stain import normalized
    from malaria_cells.inference.model_description import CLASSIFIER
    from malaria_cells.inference.model_yaml import load_description
    from malaria_cells.models.stored.keras_files import load_network
    from malaria_cells.proposals.sliding import sliding_boxes

    description, _ = load_description(model)
    network = load_network(model / CLASSIFIER)
    names = json.loads((data / "split.json").read_text())["test"][:images]
    each = []
    for name in names:
        image = normalized(read_image(data / "images" / Path(name).name), description.stain)
        windows = sliding_boxes(image.shape, description.cell_size or 80.0)
        patches = crop_boxes(image, windows, description.context, description.image_size_hw).astype(np.float32)
        network.predict(patches[:1], verbose=0)
        asked = patches[:: max(len(patches) // 200, 1)]
        started = time.perf_counter()
        for patch in asked:
            network.predict(patch[None], verbose=0)
        each.append((time.perf_counter() - started) / len(asked) * len(patches))
    return Row("sliding window, one predict a window", row.metrics, float(np.mean(each)), row.peak_mib, None)


def ultralytics(config: Path, output: Path, minutes: float) -> Row:
    """Ultralytics' nano model from scratch for as long; its boxes are decided on and scored by the same code as the others'."""
    from ultralytics import YOLO

    from malaria_cells.config import load_config
    from malaria_cells.data.annotations import AnnotationSet
    from malaria_cells.data.dataset import load_data_set
    from malaria_cells.data.writers import WRITERS

    parts = load_data_set(load_config(config))
    folder = (output / "ultralytics").resolve()
    for part, annotations in (("train", parts.train), ("validation", parts.validation)):
        WRITERS["yolo"](AnnotationSet(annotations.labels, annotations.images), folder / part)
    described = folder / "both.yaml"
    about = {"path": str(folder), "train": "train/images", "val": "validation/images"}
    described.write_text(yaml.safe_dump(about | {"names": dict(enumerate(parts.train.labels.names))}))
    model = YOLO("yolov8n.yaml")
    model.train(data=str(described), time=minutes / 60, imgsz=LONGER_SIDE, max_det=1000, project=str(folder), verbose=False)
    return score_ultralytics(Path(model.trainer.best), parts, minutes)


def score_ultralytics(weights: Path, parts: "DataSet", minutes: float) -> Row:
    """Thresholds by the validation images, figures and time by the test's."""
    import resource

    import torch
    from ultralytics import YOLO

    from malaria_cells.evaluation import detection_metrics
    from malaria_cells.inference.decision import DetectionSettings
    from malaria_cells.inference.one_stage_detector import MIN_SCORE, OneStageDetector
    from malaria_cells.training.thresholds import choose_thresholds

    network = YOLO(weights).model.fuse(verbose=False).eval()

    def places(canvas: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            answer = network(torch.from_numpy(canvas).permute(0, 3, 1, 2) / 255)[0].permute(0, 2, 1).numpy()
        centre, half = answer[..., :2], answer[..., 2:4] / 2
        return np.concatenate([centre - half, centre + half, answer[..., 4:]], axis=-1)

    test = list(parts.test.images)
    width, height = test[0].size_wh
    size_hw = tuple(-(-n * LONGER_SIDE // max(width, height) // 32) * 32 for n in (height, width))  # its coarsest stride
    settings = DetectionSettings(score_threshold=MIN_SCORE)
    detector, _ = choose_thresholds(OneStageDetector(places, size_hw, parts.train.labels, settings=settings), parts.validation)
    started = time.perf_counter()
    found = [detector.detect(p.path) for p in test]
    seconds = (time.perf_counter() - started) / len(test)
    metrics = detection_metrics(test, found, parts.train.labels, seconds).to_json()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Row("YOLOv8n (Ultralytics)", metrics, seconds, peak, minutes)


def report(rows: list[Row]) -> None:
    """Print the table as Markdown."""
    print(f"\n{os.cpu_count()} cores, {rows[0].metrics['images']} images\n")
    print("| | mAP50 | cell AP50 | cell recall | infected F1 | infected AP50 | s an image | peak MiB | training min |")
    print("|---|---|---|---|---|---|---|---|---|")
    for r in rows:
        infected = r.metrics["infected"]
        figures = [r.metrics["mAP50"], r.metrics["cell"]["AP50"], r.metrics["cell"]["recall50"], infected["f1"], infected["AP50"]]
        texts = ["" if v is None else f"{v:.3f}" for v in figures]
        texts += [f"{r.seconds:.3f}", f"{r.peak_mib:.0f}" if r.peak_mib else "", f"{r.minutes:.0f}" if r.minutes else ""]
        print(f"| {r.name} | {' | '.join(texts)} |")


if __name__ == "__main__":
    main()

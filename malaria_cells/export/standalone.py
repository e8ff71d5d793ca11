"""Finds the cells of images without Keras.

    python example.py IMAGE .. > cells.csv

It lies beside exported networks and ``model.yaml``, which holds labels, thresholds and calibration, and needs the engine, NumPy,
OpenCV, Pillow and PyYAML alone. It finds what `malaria-cells run --model THIS_FOLDER` finds, but for images of another
magnification (cells are taken to be as large as in the training, and a note says where they seem not to be) and for images
like none of the training's with infected cells: it does not know which these are and sees all alike. A model of whole images
names each image instead.
"""

import argparse
import csv
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml
from PIL import Image, ImageOps

# The proposer's input; pixels, but for the last two.
CELL, STRIDE, MULTIPLE, PADDING, RECEPTIVE_RADIUS, TILE = 40.0, 4, 16, 16, 64, 1280  # see the package
MIN_SCORE, MAX_LOG_SIZE = 0.1, 1.5
MOST_PIXELS, MAX_PIXELS = 1_000_000_000, 400_000_000  # of an enlarged image, and of a file
# When a cell's probabilities are asked for again, and the views that are averaged then: quarter turns, mirrored from 4 on.
HINT, CERTAIN, VIEWS, BATCH = 0.1, 0.95, (0, 6, 1, 7, 2, 4, 3, 5), 256
SMALLEST = 1e-7  # probability whose logarithm is taken
CONTAINMENT, NESTED_DECAY = 0.8, 0.3  # fraction of a box inside another, and its score multiplier
# As in the estimation of the cell size: accepted ratios of the median size, the score from which a detection counts, and their number.
CONCLUSIVE, CONFIDENT, ENOUGH = (0.85, 1.2), 0.4, 10
SIZE_TOLERANCE, MIN_CONSISTENT = 1.4, 0.3  # largest ratio of a size to the expected one, and the fraction of detections that must fit
# The common appearance that images are brought to: see the package's module `stain`.
WHITE, RED_CELL, CLEAR, DIMMEST, DARKEST = 225.0, (0.35, 0.6, 0.3), 97, 30.0, 1 / 255
SAMPLED, STAINED, FEWEST, BINS, ALIKE, GAINS = 60_000, (0.05, 0.45), 200, 40, 0.25, (0.25, 4.0)
SMOOTH = np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2)  # a Gaussian, over the bins of a histogram
MIRRORS: tuple[tuple[int, ...], ...] = ((), (1, 2), (1,), (2,))  # axes that each view of the proposer flips
# Keys of model.yaml; those of its `labels` come second.
NEEDED = ("has_background", "image_size_hw", "context", "cell_size", "proposals", "settings", "calibration", "proposer_tta", "refiner")
LABELS = ("names", "infected", "red_cells")
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")

Network = Callable[[np.ndarray], np.ndarray]


class UnreadableError(Exception):
    """An image that would be read wrongly, or a folder that holds no exported model."""


class Cell(NamedTuple):
    """A cell: its most probable label and score, the label that it is counted as (None: a mere suspicion), xyxy in pixels."""

    label: str
    score: float
    counted_as: str | None
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Model:
    """Networks from float32 pixels (n, H, W, 3) to float32, and the content of ``model.yaml``."""

    about: dict[str, Any]
    proposer: Network | None
    classifiers: list[Network]

    @property
    def infected(self) -> np.ndarray:
        """Which labels are infected cells: bool (n_labels,)."""
        return np.isin(self.about["labels"]["names"], self.about["labels"]["infected"])


def load(folder: Path) -> Model:
    """Open the networks of a folder that `malaria-cells export` wrote, by the engine that they were written for."""
    file = folder / "model.yaml"
    try:
        about = yaml.safe_load(file.read_text(encoding="utf-8"))
        absent = [key for key in NEEDED if key not in about] + [key for key in LABELS if key not in about["labels"]]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UnreadableError(f"{file}: missing or damaged ({error!r}); export the model again") from error
    if absent:
        raise UnreadableError(f"{file}: missing or damaged (no {absent[0]}); export the model again")
    names = ["classifier", *([Path(about["refiner_file"]).stem] if about["refiner"] else [])]
    try:
        proposer = open_network(folder, "proposer") if about["proposals"] == "learned" else None
        return Model(about, proposer, [open_network(folder, name) for name in names])
    except UnreadableError:
        raise
    except ModuleNotFoundError as error:
        raise UnreadableError(f"{folder}: needs an engine that is not installed: pip install {error.name}") from error
    except Exception as error:  # each engine raises its own
        raise UnreadableError(f"{folder}: a network cannot be opened ({error}); export the model again") from error


def open_network(folder: Path, name: str) -> Network:
    """Open a network by the engine whose file is there."""
    if (path := folder / f"{name}.onnx").is_file():
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda pixels: session.run(None, {session.get_inputs()[0].name: pixels})[0]
    if (path := folder / f"{name}.xml").is_file():
        import openvino

        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda pixels: compiled(pixels)[0]
    if (path := folder / f"{name}.tflite").is_file():
        from ai_edge_litert.interpreter import Interpreter

        lite = Interpreter(model_path=str(path))

        def run(pixels: np.ndarray) -> np.ndarray:
            lite.resize_tensor_input(lite.get_input_details()[0]["index"], pixels.shape)
            lite.allocate_tensors()
            lite.set_tensor(lite.get_input_details()[0]["index"], pixels)
            lite.invoke()
            return lite.get_tensor(lite.get_output_details()[0]["index"])

        return run
    if (path := folder / name).is_dir():
        import tensorflow as tf

        saved = tf.saved_model.load(str(path))
        return lambda pixels: saved.serve(tf.constant(pixels)).numpy()
    raise UnreadableError(f"{folder}: holds no network {name} of ONNX, OpenVINO, LiteRT or TensorFlow; export the model again")


def read_image(path: Path) -> np.ndarray:
    """Read an upright image as uint8 RGB (H, W, 3): of 8 bits, one page and no transparency; others are refused."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            fault = _fault(image)
            pixels = None if fault else np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:  # Pillow raises whatever the broken part raises
        raise UnreadableError(f"{path}: cannot be read as {', '.join(FORMATS)} ({error})") from error
    if pixels is None:
        raise UnreadableError(f"{path}: {fault}; save it as JPEG or PNG with 8 bits a colour, or use malaria-cells run")
    return pixels


def _fault(image: Image.Image) -> str | None:
    """Say what of an image would come out wrong, from its header and its transparency."""
    if image.size[0] * image.size[1] > MAX_PIXELS:
        return f"{image.size[0]} x {image.size[1]} pixels are over {MAX_PIXELS:,}"
    if image.mode not in {"L", "RGB", "P", "RGBA", "LA"} or any(";16" in str(tile) for tile in getattr(image, "tile", [])):
        return f"it has more than 8 bits a colour, or is no grey or RGB image (mode {image.mode})"
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # the further images of a camera's JPEG are previews
        return f"it holds {getattr(image, 'n_frames', 1)} images"
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        bits, photometric, planes = tags.get(258, (1,)), tags.get(262), tags.get(284, 1)
        if set(bits) != {8} or photometric not in {1, 2} or planes != 1:
            return f"a TIFF of {'+'.join(map(str, bits))} bits, photometric {photometric}, planes {planes}"
    if "transparency" in image.info or image.mode in {"RGBA", "LA"}:
        return None if np.asarray(image.convert("RGBA"))[..., 3].min() == 255 else "a part of it is transparent"
    return None


def find_cells(image: np.ndarray, model: Model, cell_size: float | None = None) -> list[Cell]:
    """Find and name the cells of an image.

    Args:
        image: uint8 RGB (H, W, 3).
        model: with a proposer.
        cell_size: median longer side of a cell in pixels; None: as in the training.
    """
    image = in_common_look(image, model.about.get("stain", "none"))
    boxes, proposal_scores = propose(image, model, cell_size)
    return decide(boxes, probabilities_in(image, boxes, model), proposal_scores, model)


def in_common_look(image: np.ndarray, how: str) -> np.ndarray:
    """Bring an image, uint8 RGB (H, W, 3), to the common light (``clear_field``) and stain (``density``) of `stain` in ``model.yaml``."""
    if how == "none":
        return image
    step = max(int(np.sqrt(image.shape[0] * image.shape[1] / SAMPLED)), 1)
    pixels = image[::step, ::step].reshape(-1, 3)
    white = np.maximum(np.percentile(pixels, CLEAR, axis=0), DIMMEST).astype(np.float32)
    density = red_cell_density(-np.log(np.clip(pixels / white, DARKEST, 1))) if how == "density" else None
    gain = np.ones(3) if density is None else np.clip(np.array(RED_CELL) / np.maximum(density, 1e-3), *GAINS)
    table = np.rint(np.clip(WHITE * np.clip(np.arange(256)[:, None] / white, DARKEST, None) ** gain, 0, 255)).astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(image), table[:, None]).reshape(image.shape)


def red_cell_density(densities: np.ndarray) -> np.ndarray | None:
    """Optical density of red cells by colour, (3,), from those of pixels, (n, 3): the peak of what is stained; None where nothing is."""
    darkness = np.maximum(densities[:, 1], densities.mean(axis=1))
    levels = np.clip(np.sqrt(darkness) * 150, 0, 255).astype(np.uint8)
    if len(np.unique(levels)) < 3:
        return None
    stained = darkness > np.clip((lower_of_three(levels) / 150) ** 2, *STAINED)
    if stained.sum() < FEWEST:
        return None
    logarithms = np.log(darkness[stained])
    counts, edges = np.histogram(logarithms, BINS, (np.log(STAINED[0]), np.log(STAINED[0]) + BINS / 10))
    smooth = np.convolve(np.pad(counts.astype(float), len(SMOOTH) // 2, "symmetric"), SMOOTH / SMOOTH.sum(), "valid")
    near = np.abs(logarithms - edges[hill(smooth)] - 0.05) < ALIKE
    return np.asarray(np.median(densities[stained][near], axis=0), dtype=np.float32)


def hill(smooth: np.ndarray) -> int:
    """Index of the highest place of a histogram; if that is the first one, the foot of what a noisy field scatters, of the next hill."""
    if smooth.argmax() > 0:
        return int(smooth.argmax())
    inner = smooth[1:-1]
    is_hill = (inner > smooth[:-2]) & (inner >= smooth[2:])
    return int(np.where(is_hill, inner, 0).argmax()) + 1 if is_hill.any() else 0


def lower_of_three(levels: np.ndarray) -> float:
    """The lower threshold of three classes of grey values, uint8 (n,), that differ most (Otsu 1979)."""
    fraction = np.bincount(levels, minlength=256) / len(levels)
    if np.count_nonzero(fraction) == 3:
        return float(np.flatnonzero(fraction)[0])
    weight, moment = np.r_[0, fraction.cumsum()], np.r_[0, (fraction * np.arange(256)).cumsum()]

    def between(first: np.ndarray, end: np.ndarray) -> np.ndarray:
        w, m = weight[end] - weight[first], moment[end] - moment[first]
        return np.where(w > 0, m**2 / np.where(w > 0, w, 1), 0)

    low, high = np.triu_indices(255, 1)  # last grey values of the first and the second class
    spread = between(np.zeros_like(low), low + 1) + between(low + 1, high + 1) + between(high + 1, np.full_like(high, 256))
    return float(low[spread.argmax()])


def propose(image: np.ndarray, model: Model, cell_size: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Where cells may be, xyxy (n, 4), and their proposal scores, (n,): peaks of a heat map, which is of cells of `CELL` pixels."""
    factor = CELL / (cell_size or model.about["cell_size"])
    height, width = image.shape[:2]
    if height * width * factor**2 > MOST_PIXELS * 1.01:
        raise UnreadableError(
            f"{width} x {height} pixels would be enlarged {factor:.1f} times, to over {MOST_PIXELS:,}; put the cell size right"
        )
    fy, fx = max(factor, 1 / height), max(factor, 1 / width)
    small = cv2.resize(image, None, fx=fx, fy=fy, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    below, right = (PADDING + -(n + 2 * PADDING) % MULTIPLE for n in small.shape[:2])
    padded = cv2.copyMakeBorder(small, PADDING, below, PADDING, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    grid = in_tiles(padded, model)
    heat = np.ascontiguousarray(grid[..., 0])
    y, x = np.nonzero((heat >= cv2.dilate(heat, np.ones((3, 3), np.uint8))) & (heat >= MIN_SCORE))
    centre = (np.stack([x, y], axis=1) + grid[y, x, 1:3]) * STRIDE - PADDING
    half = np.exp(np.clip(grid[y, x, 3:5], -MAX_LOG_SIZE, MAX_LOG_SIZE)) * CELL / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
    boxes *= np.array([width / small.shape[1], height / small.shape[0]] * 2, dtype=np.float32)
    boxes = boxes.clip(0, np.array([width, height] * 2, dtype=np.float32))
    kept = ((centre >= 0) & (centre < small.shape[1::-1])).all(axis=1) & (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    return boxes[kept], heat[y, x][kept].astype(np.float32)


def in_tiles(padded: np.ndarray, model: Model) -> np.ndarray:
    """The proposer's answer to an image of any size, (H / STRIDE, W / STRIDE, 5), put together from overlapping tiles of a large one."""
    height, width = padded.shape[:2]
    if max(height, width) <= TILE + RECEPTIVE_RADIUS:
        return seen_mirrored(padded, model)
    rows = []
    for top in range(0, height, TILE):
        row = []
        for left in range(0, width, TILE):
            above, before = min(RECEPTIVE_RADIUS, top), min(RECEPTIVE_RADIUS, left)
            tile = seen_mirrored(padded[top - above : top + TILE + RECEPTIVE_RADIUS, left - before : left + TILE + RECEPTIVE_RADIUS], model)
            row.append(tile[above // STRIDE :, before // STRIDE :][: TILE // STRIDE, : TILE // STRIDE])
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows, axis=0)


def seen_mirrored(pixels: np.ndarray, model: Model) -> np.ndarray:
    """The mean of what the proposer sees in pixels (H, W, 3) and in their mirror images."""
    if model.proposer is None:
        raise UnreadableError("this model names whole images and finds no cells")
    views = []
    for axes in MIRRORS[: model.about["proposer_tta"]]:
        grid = np.flip(model.proposer(np.ascontiguousarray(np.flip(pixels[None], axes), dtype=np.float32)), axes).copy()
        for axis, offset in ((2, 1), (1, 2)):
            if axis in axes:
                grid[..., offset] = 1 - grid[..., offset]
        views.append(grid[0])
    return np.mean(views, axis=0)


def resize(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize uint8 (H, W, 3), averaging where it shrinks."""
    shrinks = image.shape[0] >= size_hw[0] and image.shape[1] >= size_hw[1]
    return cv2.resize(image, tuple(size_hw[::-1]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def probabilities_in(image: np.ndarray, boxes: np.ndarray, model: Model) -> np.ndarray:
    """Calibrated probabilities of what is in each box, (n, n_classes): squares around them, reflected at the image's border."""
    side = np.maximum(np.rint((boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0).astype(np.float64) * model.about["context"]), 1).astype(
        int
    )
    corner = np.rint((boxes[:, :2].astype(np.float64) + boxes[:, 2:]) / 2 - side[:, None] / 2).astype(int)
    margin = int(side.max(initial=0)) + 1
    wide = cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_REFLECT_101)
    squares = [wide[b + margin : b + margin + s, a + margin : a + margin + s] for (a, b), s in zip(corner, side, strict=True)]
    return probabilities_of(squares, model)


def probabilities_of(patches: list[np.ndarray], model: Model) -> np.ndarray:
    """Calibrated probabilities of patches of any size: by both classifiers and in more views where the first has a hint of an infection."""
    names, size_hw = model.about["labels"]["names"], model.about["image_size_hw"]
    infected, views = model.infected, model.about["settings"]["tta"]
    if not patches:
        return np.zeros((0, len(names) + model.about["has_background"]), dtype=np.float32)
    seen = np.stack([resize(patch, size_hw) for patch in patches])
    p = np.array(_in_batches(model.classifiers[0], seen))
    needs_refinement = p[:, : len(names)][:, infected].sum(axis=1) >= HINT if infected.any() else p.max(axis=1) < CERTAIN
    again = np.flatnonzero(needs_refinement)
    if len(again) and (views > 1 or len(model.classifiers) > 1):
        answers = [_averaged(model.classifiers[0], seen[again], views)]
        if len(model.classifiers) > 1:
            closer_hw = model.about["refiner_size_hw"] or size_hw
            answers.append(_averaged(model.classifiers[1], np.stack([resize(patches[i], closer_hw) for i in again]), views))
        p[again] = np.mean(answers, axis=0)
    return calibrated(p, model.about["calibration"])


def _averaged(network: Network, patches: np.ndarray, views: int) -> np.ndarray:
    square = patches.shape[1] == patches.shape[2]
    seen = [np.rot90(patches, n % 4 if square else 2 * (n % 2), axes=(1, 2))[:, :, :: -1 if n >= 4 else 1] for n in VIEWS[:views]]
    return _in_batches(network, np.concatenate(seen)).reshape(views, len(patches), -1).mean(axis=0)


def _in_batches(network: Network, patches: np.ndarray) -> np.ndarray:
    p = np.concatenate([network(patches[i : i + BATCH].astype(np.float32)) for i in range(0, len(patches), BATCH)])
    return np.concatenate([1 - p, p], axis=1) if p.shape[1] == 1 else p  # one sigmoid unit


def calibrated(p: np.ndarray, fit: dict[str, Any]) -> np.ndarray:
    """Probabilities that mean what they say: of each class, then of any infection; float32 (n, n_classes)."""
    log_p = np.log(np.clip(p.astype(np.float64), SMALLEST, 1)) / fit["temperature"] + fit["shift"] * np.array(fit["log_prior_ratio"])
    log_p -= np.logaddexp.reduce(log_p, axis=1, keepdims=True)
    if fit["infection"]:
        sick = np.array(fit["infection"]["classes"])
        sick_log_p, rest = (np.logaddexp.reduce(log_p[:, part], axis=1, keepdims=True) for part in (sick, ~sick))
        logit = fit["infection"]["slope"] * (sick_log_p - rest) + fit["infection"]["offset"]
        log_p += np.where(sick, -np.logaddexp(0, -logit) - sick_log_p, -np.logaddexp(0, logit) - rest)
    return np.exp(log_p).astype(np.float32)


def decide(boxes: np.ndarray, probabilities: np.ndarray, proposal_scores: np.ndarray, model: Model) -> list[Cell]:
    """Label, reject, suppress and count: the cells of an image, best score first."""
    names, rule, infected = model.about["labels"]["names"], model.about["settings"], model.infected
    p = probabilities[:, : len(names)]
    objectness = (p.sum(axis=1) * proposal_scores ** rule["proposal_weight"]).astype(np.float32)
    label, score = label_and_score(p, infected, rule["candidate_threshold"])
    score = score * objectness
    kept = np.flatnonzero(score >= rule["score_threshold"])
    kept = kept[suppress(boxes[kept], score[kept], rule["nms_iou"], label[kept] if rule["nms"] == "class" else None)]
    if rule["nms"] == "agnostic":
        red = np.isin(names, model.about["labels"]["red_cells"]) | infected
        decay = nested_decay(boxes[kept], label[kept], red.any() & ~red)
        score[kept], objectness[kept] = score[kept] * decay, objectness[kept] * decay
        kept = kept[score[kept] >= rule["score_threshold"]]
        kept = kept[np.argsort(-score[kept], kind="stable")]
    is_counted_infected = infected[label] & (score >= rule["infected_threshold"])
    healthy = label if infected.all() else np.where(infected, -1, p.astype(np.float64)).argmax(axis=1)
    counted = np.where(infected[label] & ~is_counted_infected, healthy, label)
    counts = is_counted_infected | (objectness >= rule["cell_threshold"])
    return [Cell(names[label[i]], float(score[i]), names[counted[i]] if counts[i] else None, tuple(boxes[i].tolist())) for i in kept]


def label_and_score(p: np.ndarray, infected: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The label of each candidate if it is a cell, (n,), and its score, float32 (n,): a stage's is its and infection's mean."""
    rows = np.arange(len(p))
    p = p / np.maximum(p.sum(axis=1, keepdims=True), 1e-9)
    if not infected.any():
        return p.argmax(axis=1), p.max(axis=1).astype(np.float32)
    sick = p[:, infected].sum(axis=1)
    is_suspect = (sick >= threshold) | infected.all()
    label = np.where(is_suspect, np.where(infected, p, -1).argmax(axis=1), np.where(infected, -1, p).argmax(axis=1))
    best = p[rows, label]
    return label, np.where(is_suspect, np.sqrt(sick * best), best).astype(np.float32)


def suppress(boxes: np.ndarray, score: np.ndarray, iou: float, groups: np.ndarray | None) -> np.ndarray:
    """Non-maximum suppression, within groups where there are some: indices kept, best score first."""
    if not len(boxes):
        return np.zeros(0, dtype=np.int64)
    corner_and_size = np.c_[boxes[:, :2], boxes[:, 2:] - boxes[:, :2]].astype(np.float64).tolist()
    if groups is None:
        found = cv2.dnn.NMSBoxes(corner_and_size, score.tolist(), 0.0, iou)
    else:
        found = cv2.dnn.NMSBoxesBatched(corner_and_size, score.tolist(), groups.tolist(), 0.0, iou)
    kept = np.asarray(found, dtype=np.int64).ravel()
    return kept[np.argsort(-score[kept], kind="stable")]


def nested_decay(boxes: np.ndarray, label: np.ndarray, parts_look_alike: np.ndarray) -> np.ndarray:
    """Score multipliers of nested boxes, best score first: `NESTED_DECAY` for the lower-scored, 0 for a leukocyte's nucleus."""
    low, high = boxes[:, :2], boxes[:, 2:]
    area = np.prod(np.clip(high - low, 0, None), axis=1)
    decay = np.ones(len(boxes), dtype=np.float32)
    for i in range(len(boxes)):
        shared = np.prod(np.clip(np.minimum(high[i], high[i + 1 :]) - np.maximum(low[i], low[i + 1 :]), 0, None), axis=1)
        nested = (shared > 0) & (shared >= CONTAINMENT * np.minimum(area[i], area[i + 1 :]))
        for j in np.flatnonzero(nested) + i + 1:
            if decay[i] < 1 or decay[j] == 0:
                continue
            if label[i] == label[j] and parts_look_alike[label[i]]:
                decay[i if area[j] > area[i] else j] = 0
            elif not (parts_look_alike[label[i]] or parts_look_alike[label[j]]):
                decay[j] = NESTED_DECAY
    return decay


def note_on_size(boxes: np.ndarray, proposal_scores: np.ndarray, usual: float) -> str | None:
    """A note if the cells of an image seem to have another size than the model's, where `malaria-cells run` would estimate it."""
    size = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)[proposal_scores >= CONFIDENT]
    if len(size) < ENOUGH:
        return f"under {ENOUGH} cells of about {usual:.0f} pixels, as in the training, are plain to see"
    seen = float(np.median(size))
    if not CONCLUSIVE[0] <= seen / usual <= CONCLUSIVE[1]:
        return f"cells seem to be {seen:.0f} pixels wide, {usual:.0f} are the model's"
    weight = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) * proposal_scores
    relative = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / usual
    agrees = (proposal_scores >= CONFIDENT) & (relative < SIZE_TOLERANCE) & (relative > 1 / SIZE_TOLERANCE)
    if agrees.sum() >= ENOUGH and weight[agrees].sum() >= MIN_CONSISTENT * weight.sum():
        return None
    return f"only {agrees.sum()} of {len(boxes)} candidates are plainly cells of about {usual:.0f} pixels"


def rows_of(path: Path, model: Model, cell_size: float | None) -> Iterator[list[Any]]:
    """Rows of the table for an image; a note on the cells' size goes to the standard error."""
    image = in_common_look(read_image(path), model.about.get("stain", "none"))
    if not model.about["has_background"]:
        p = probabilities_of([image], model)[0]
        yield [path, model.about["labels"]["names"][p.argmax()], *(f"{v:.4f}" for v in p)]
        return
    boxes, proposal_scores = propose(image, model, cell_size)
    note = note_on_size(boxes, proposal_scores, cell_size or model.about["cell_size"])
    if note:
        print(
            f"{path}: {note}; this example does not look again in another size: name it by --cell-size PIXELS, or use malaria-cells run",
            file=sys.stderr,
        )
    for label, score, counted_as, box in decide(boxes, probabilities_in(image, boxes, model), proposal_scores, model):
        yield [path, label, f"{score:.4f}", *(f"{v:.1f}" for v in box), counted_as or ""]


def main() -> int:
    """Print a table of the images named: 0, or 2 where the request or the model is wrong, 3 where an image cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--cell-size", type=float, help="median longer side of a cell in pixels (default: as in the training)")
    options = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    write, code = csv.writer(sys.stdout, lineterminator="\n"), 0
    try:
        model = load(Path(__file__).parent)
        if options.cell_size is not None and not (0 < options.cell_size < np.inf and model.about["has_background"]):
            raise UnreadableError(f"--cell-size {options.cell_size}: expected pixels, of a model that finds cells")
        names = model.about["labels"]["names"]
        found = ["score", "x_min", "y_min", "x_max", "y_max", "counted_as"] if model.about["has_background"] else names
        write.writerow(["image", "label", *found])
    except UnreadableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in options.images:
        try:
            write.writerows(list(rows_of(path, model, options.cell_size)))
        except UnreadableError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 3
    return code


if __name__ == "__main__":
    sys.exit(main())

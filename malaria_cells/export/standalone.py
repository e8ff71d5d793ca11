"""Detect the cells of images without Keras.

    python example.py IMAGE .. > cells.csv

This file belongs to exported networks and ``model.yaml``, which holds labels, thresholds and calibration. It needs the inference engine,
NumPy, OpenCV, Pillow and PyYAML only. Its results equal those of `malaria-cells run --model THIS_FOLDER` with two exceptions. It does not
estimate the cell size: it assumes that of the training images, and prints a note if an image seems to differ. And it treats all images
alike, also those that are unlike all training images with infected cells. A model of whole images classifies each image instead.
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

# Pixels of the proposer's input: cell size, stride, divisor of the sides, padding, receptive-field radius and side of a tile.
CELL, STRIDE, MULTIPLE, PADDING, RECEPTIVE_RADIUS, TILE = 40.0, 4, 16, 16, 64, 1280
MIN_SCORE, MAX_LOG_SIZE = 0.1, 1.5  # proposal score of a candidate, and logarithm of its size in cells
MAX_WORKING_PIXELS, MAX_PIXELS = 1_000_000_000, 400_000_000  # pixels of an enlarged image, and of a file
# Probability of infection from which a patch is refined; probability of a class below which it is refined if no class is infected; the
# views that are averaged then, quarter turns, mirrored from 4 on; and patches per call of a network.
HINT, CERTAIN, VIEWS, BATCH = 0.1, 0.95, (0, 6, 1, 7, 2, 4, 3, 5), 256
SMALLEST = 1e-7  # probability; smaller ones are raised to it before the logarithm
CONTAINMENT, NESTED_DECAY = 0.8, 0.3  # fraction of a nested box inside the other, and the score multiplier of the lower-scored one
# Check of the cell size: accepted ratios of the median size to the expected one, score of a confident detection, and number of them.
CONCLUSIVE, CONFIDENT, ENOUGH = (0.85, 1.2), 0.4, 10
SIZE_TOLERANCE, MIN_CONSISTENT = 1.4, 0.3  # ratio of a consistent size to the expected one, and weighted fraction of consistent detections
# Stain normalization: see the module `stain` of the package.
WHITE, RED_CELL, CLEAR, MIN_WHITE, MIN_TRANSMISSION = 225.0, (0.35, 0.6, 0.3), 97, 30.0, 1 / 255
SAMPLE_PIXELS, STAINED_LIMITS, MIN_STAINED, BINS, PEAK_HALF_WIDTH, GAIN_LIMITS = 60_000, (0.05, 0.45), 200, 40, 0.25, (0.25, 4.0)
SMOOTH = np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2)  # Gaussian kernel, in bins of the histogram
MIRRORS: tuple[tuple[int, ...], ...] = ((), (1, 2), (1,), (2,))  # axes of (1, h, w, c) that each view of the proposer mirrors
# Required keys of model.yaml, and of its `labels`.
NEEDED = ("has_background", "image_size_hw", "context", "cell_size", "proposals", "settings", "calibration", "proposer_tta", "refiner")
LABELS = ("names", "infected", "red_cells")
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")

Network = Callable[[np.ndarray], np.ndarray]


class UnreadableError(Exception):
    """Error about an image that cannot be read correctly, or a folder without an exported model."""


class Cell(NamedTuple):
    """A detection: label and score, the label that it is counted as (None: not counted), and the box xyxy in pixels."""

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
        """Whether each label is infected: bool (n_labels,)."""
        return np.isin(self.about["labels"]["names"], self.about["labels"]["infected"])


def load(folder: Path) -> Model:
    """Open the networks of a folder that `malaria-cells export` wrote, with the engine of their format."""
    file = folder / "model.yaml"
    try:
        about = yaml.safe_load(file.read_text(encoding="utf-8"))
        missing = [key for key in NEEDED if key not in about] + [key for key in LABELS if key not in about["labels"]]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UnreadableError(f"{file}: missing or damaged ({error!r}); export the model again") from error
    if missing:
        raise UnreadableError(f"{file}: missing or damaged (no {missing[0]}); export the model again")
    names = ["classifier", *([Path(about["refiner_file"]).stem] if about["refiner"] else [])]
    try:
        proposer = open_network(folder, "proposer") if about["proposals"] == "learned" else None
        return Model(about, proposer, [open_network(folder, name) for name in names])
    except UnreadableError:
        raise
    except ModuleNotFoundError as error:
        raise UnreadableError(f"{folder}: needs an engine that is not installed: pip install {error.name}") from error
    except Exception as error:  # each engine raises its own exceptions
        raise UnreadableError(f"{folder}: a network cannot be opened ({error}); export the model again") from error


def open_network(folder: Path, name: str) -> Network:
    """Open a network with the engine whose file is in the folder."""
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
    """Read an image as upright uint8 RGB (H, W, 3). More than 8 bits per channel, several pages and transparency are refused."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            fault = _fault(image)
            pixels = None if fault else np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:  # Pillow raises whatever the broken part raises
        raise UnreadableError(f"{path}: cannot be read as {', '.join(FORMATS)} ({error})") from error
    if pixels is None:
        raise UnreadableError(f"{path}: {fault}; save it as JPEG or PNG with 8 bits per channel, or use malaria-cells run")
    return pixels


def _fault(image: Image.Image) -> str | None:
    """Reason why an image cannot be read correctly, from its header and transparency; None if it can."""
    if image.size[0] * image.size[1] > MAX_PIXELS:
        return f"{image.size[0]} x {image.size[1]} pixels are over {MAX_PIXELS:,}"
    if image.mode not in {"L", "RGB", "P", "RGBA", "LA"} or any(";16" in str(tile) for tile in getattr(image, "tile", [])):
        return f"it has more than 8 bits per channel, or is neither a grey nor an RGB image (mode {image.mode})"
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # the other images of a camera's JPEG are previews
        return f"it holds {getattr(image, 'n_frames', 1)} images"
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        bits, photometric, planes = tags.get(258, (1,)), tags.get(262), tags.get(284, 1)
        if set(bits) != {8} or photometric not in {1, 2} or planes != 1:
            return f"a TIFF of {'+'.join(map(str, bits))} bits, photometric {photometric}, planes {planes}"
    if "transparency" in image.info or image.mode in {"RGBA", "LA"}:
        return None if np.asarray(image.convert("RGBA"))[..., 3].min() == 255 else "it has transparent pixels"
    return None


def find_cells(image: np.ndarray, model: Model, cell_size: float | None = None) -> list[Cell]:
    """Detect the cells of an image.

    Args:
        image: uint8 RGB (H, W, 3).
        model: a model with a proposer.
        cell_size: median longer side of a cell in pixels; None: that of the training images.
    """
    image = in_common_look(image, model.about.get("stain", "none"))
    boxes, proposal_scores = propose(image, model, cell_size)
    return decide(boxes, probabilities_in(image, boxes, model), proposal_scores, model)


def in_common_look(image: np.ndarray, how: str) -> np.ndarray:
    """Normalize the light and stain of an image.

    Args:
        image: uint8 RGB (H, W, 3).
        how: `stain` in ``model.yaml``: ``none``, ``clear_field`` or ``density``.
    """
    if how == "none":
        return image
    step = max(int(np.sqrt(image.shape[0] * image.shape[1] / SAMPLE_PIXELS)), 1)
    pixels = image[::step, ::step].reshape(-1, 3)
    white = np.maximum(np.percentile(pixels, CLEAR, axis=0), MIN_WHITE).astype(np.float32)
    density = red_cell_density(-np.log(np.clip(pixels / white, MIN_TRANSMISSION, 1))) if how == "density" else None
    gain = np.ones(3) if density is None else np.clip(np.array(RED_CELL) / np.maximum(density, 1e-3), *GAIN_LIMITS)
    table = np.rint(np.clip(WHITE * np.clip(np.arange(256)[:, None] / white, MIN_TRANSMISSION, None) ** gain, 0, 255)).astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(image), table[:, None]).reshape(image.shape)


def red_cell_density(densities: np.ndarray) -> np.ndarray | None:
    """Density (3,) at the peak of the stained pixels among (n, 3), which is that of red cells; None if almost nothing is stained."""
    darkness = np.maximum(densities[:, 1], densities.mean(axis=1))
    levels = np.clip(np.sqrt(darkness) * 150, 0, 255).astype(np.uint8)
    if len(np.unique(levels)) < 3:
        return None
    stained = darkness > np.clip((lower_of_three(levels) / 150) ** 2, *STAINED_LIMITS)
    if stained.sum() < MIN_STAINED:
        return None
    logarithms = np.log(darkness[stained])
    counts, edges = np.histogram(logarithms, BINS, (np.log(STAINED_LIMITS[0]), np.log(STAINED_LIMITS[0]) + BINS / 10))
    smooth = np.convolve(np.pad(counts.astype(float), len(SMOOTH) // 2, "symmetric"), SMOOTH / SMOOTH.sum(), "valid")
    near = np.abs(logarithms - edges[hill(smooth)] - 0.05) < PEAK_HALF_WIDTH
    return np.asarray(np.median(densities[stained][near], axis=0), dtype=np.float32)


def hill(smooth: np.ndarray) -> int:
    """Index of a histogram's peak; a maximum in the first bin is the tail of a noisy clear field, and the highest inner peak is taken."""
    if smooth.argmax() > 0:
        return int(smooth.argmax())
    inner = smooth[1:-1]
    is_hill = (inner > smooth[:-2]) & (inner >= smooth[2:])
    return int(np.where(is_hill, inner, 0).argmax()) + 1 if is_hill.any() else 0


def lower_of_three(levels: np.ndarray) -> float:
    """The lower threshold of Otsu's method (1979) with three classes, for grey values uint8 (n,)."""
    fraction = np.bincount(levels, minlength=256) / len(levels)
    if np.count_nonzero(fraction) == 3:
        return float(np.flatnonzero(fraction)[0])
    weight, moment = np.r_[0, fraction.cumsum()], np.r_[0, (fraction * np.arange(256)).cumsum()]

    def between(first: np.ndarray, end: np.ndarray) -> np.ndarray:
        w, m = weight[end] - weight[first], moment[end] - moment[first]
        return np.where(w > 0, m**2 / np.where(w > 0, w, 1), 0)

    low, high = np.triu_indices(255, 1)  # last grey values of the first and of the second class
    spread = between(np.zeros_like(low), low + 1) + between(low + 1, high + 1) + between(high + 1, np.full_like(high, 256))
    return float(low[spread.argmax()])


def propose(image: np.ndarray, model: Model, cell_size: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Candidate boxes, xyxy (n, 4) in pixels, and proposal scores, (n,): peaks of the proposer's heat map.

    Args:
        image: uint8 RGB (H, W, 3).
        model: a model with a proposer.
        cell_size: median longer side of a cell in pixels; None: that of the training images.
    """
    factor = CELL / (cell_size or model.about["cell_size"])
    height, width = image.shape[:2]
    if height * width * factor**2 > MAX_WORKING_PIXELS * 1.01:
        raise UnreadableError(
            f"{width} x {height} pixels would be enlarged {factor:.1f} times, to over {MAX_WORKING_PIXELS:,}; check the cell size"
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
    keep = ((centre >= 0) & (centre < small.shape[1::-1])).all(axis=1) & (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    return boxes[keep], heat[y, x][keep].astype(np.float32)


def in_tiles(padded: np.ndarray, model: Model) -> np.ndarray:
    """The proposer's output grid for an image of any size, (H / STRIDE, W / STRIDE, 5); large images are processed in tiles with a halo."""
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
    """The proposer's mean output for pixels (H, W, 3) and their mirror images."""
    if model.proposer is None:
        raise UnreadableError("this model classifies whole images and detects no cells")
    views = []
    for axes in MIRRORS[: model.about["proposer_tta"]]:
        grid = np.flip(model.proposer(np.ascontiguousarray(np.flip(pixels[None], axes), dtype=np.float32)), axes).copy()
        for axis, offset in ((2, 1), (1, 2)):
            if axis in axes:
                grid[..., offset] = 1 - grid[..., offset]
        views.append(grid[0])
    return np.mean(views, axis=0)


def resize(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize uint8 (H, W, 3); area averaging is used for shrinking."""
    shrinks = image.shape[0] >= size_hw[0] and image.shape[1] >= size_hw[1]
    return cv2.resize(image, tuple(size_hw[::-1]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def probabilities_in(image: np.ndarray, boxes: np.ndarray, model: Model) -> np.ndarray:
    """Calibrated class probabilities of boxes, (n, n_classes), from square crops around them, reflected at the image's border."""
    side = np.maximum(np.rint((boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0).astype(np.float64) * model.about["context"]), 1).astype(
        int
    )
    corner = np.rint((boxes[:, :2].astype(np.float64) + boxes[:, 2:]) / 2 - side[:, None] / 2).astype(int)
    margin = int(side.max(initial=0)) + 1
    wide = cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_REFLECT_101)
    squares = [wide[b + margin : b + margin + s, a + margin : a + margin + s] for (a, b), s in zip(corner, side, strict=True)]
    return probabilities_of(squares, model)


def probabilities_of(patches: list[np.ndarray], model: Model) -> np.ndarray:
    """Calibrated class probabilities of patches of any size, (n, n_classes); uncertain ones are refined, in several views."""
    names, size_hw = model.about["labels"]["names"], model.about["image_size_hw"]
    infected, views = model.infected, model.about["settings"]["tta"]
    if not patches:
        return np.zeros((0, len(names) + model.about["has_background"]), dtype=np.float32)
    resized = np.stack([resize(patch, size_hw) for patch in patches])
    p = np.array(_in_batches(model.classifiers[0], resized))
    needs_refinement = p[:, : len(names)][:, infected].sum(axis=1) >= HINT if infected.any() else p.max(axis=1) < CERTAIN
    uncertain = np.flatnonzero(needs_refinement)
    if len(uncertain) and (views > 1 or len(model.classifiers) > 1):
        outputs = [_averaged(model.classifiers[0], resized[uncertain], views)]
        if len(model.classifiers) > 1:
            refiner_hw = model.about["refiner_size_hw"] or size_hw
            outputs.append(_averaged(model.classifiers[1], np.stack([resize(patches[i], refiner_hw) for i in uncertain]), views))
        p[uncertain] = np.mean(outputs, axis=0)
    return calibrated(p, model.about["calibration"])


def _averaged(network: Network, patches: np.ndarray, views: int) -> np.ndarray:
    square = patches.shape[1] == patches.shape[2]
    augmented = [np.rot90(patches, n % 4 if square else 2 * (n % 2), axes=(1, 2))[:, :, :: -1 if n >= 4 else 1] for n in VIEWS[:views]]
    return _in_batches(network, np.concatenate(augmented)).reshape(views, len(patches), -1).mean(axis=0)


def _in_batches(network: Network, patches: np.ndarray) -> np.ndarray:
    p = np.concatenate([network(patches[i : i + BATCH].astype(np.float32)) for i in range(0, len(patches), BATCH)])
    return np.concatenate([1 - p, p], axis=1) if p.shape[1] == 1 else p  # one sigmoid unit


def calibrated(p: np.ndarray, fit: dict[str, Any]) -> np.ndarray:
    """Calibrated probabilities, float32 (n, n_classes): temperature and prior correction, then Platt scaling of infection."""
    log_p = np.log(np.clip(p.astype(np.float64), SMALLEST, 1)) / fit["temperature"] + fit["shift"] * np.array(fit["log_prior_ratio"])
    log_p -= np.logaddexp.reduce(log_p, axis=1, keepdims=True)
    if fit["infection"]:
        sick = np.array(fit["infection"]["classes"])
        sick_log_p, rest = (np.logaddexp.reduce(log_p[:, part], axis=1, keepdims=True) for part in (sick, ~sick))
        logit = fit["infection"]["slope"] * (sick_log_p - rest) + fit["infection"]["offset"]
        log_p += np.where(sick, -np.logaddexp(0, -logit) - sick_log_p, -np.logaddexp(0, logit) - rest)
    return np.exp(log_p).astype(np.float32)


def decide(boxes: np.ndarray, probabilities: np.ndarray, proposal_scores: np.ndarray, model: Model) -> list[Cell]:
    """Label candidates, apply thresholds and non-maximum suppression, and count: the cells of an image, best score first."""
    names, settings, infected = model.about["labels"]["names"], model.about["settings"], model.infected
    p = probabilities[:, : len(names)]
    objectness = (p.sum(axis=1) * proposal_scores ** settings["proposal_weight"]).astype(np.float32)
    label, score = label_and_score(p, infected, settings["candidate_threshold"])
    score = score * objectness
    indices = np.flatnonzero(score >= settings["score_threshold"])
    indices = indices[suppress(boxes[indices], score[indices], settings["nms_iou"], label[indices] if settings["nms"] == "class" else None)]
    if settings["nms"] == "agnostic":
        red = np.isin(names, model.about["labels"]["red_cells"]) | infected
        decay = nested_decay(boxes[indices], label[indices], red.any() & ~red)
        score[indices], objectness[indices] = score[indices] * decay, objectness[indices] * decay
        indices = indices[score[indices] >= settings["score_threshold"]]
        indices = indices[np.argsort(-score[indices], kind="stable")]
    is_counted_infected = infected[label] & (score >= settings["infected_threshold"])
    healthy = label if infected.all() else np.where(infected, -1, p.astype(np.float64)).argmax(axis=1)
    counted = np.where(infected[label] & ~is_counted_infected, healthy, label)
    is_counted = is_counted_infected | (objectness >= settings["cell_threshold"])
    return [Cell(names[label[i]], float(score[i]), names[counted[i]] if is_counted[i] else None, tuple(boxes[i].tolist())) for i in indices]


def label_and_score(p: np.ndarray, infected: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The label of each candidate, given that it is a cell, (n,), and its score, float32 (n,); see the package's `label_and_score`."""
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
    """Non-maximum suppression, within each of any groups: indices of the remaining boxes, best score first."""
    if not len(boxes):
        return np.zeros(0, dtype=np.int64)
    corner_and_size = np.c_[boxes[:, :2], boxes[:, 2:] - boxes[:, :2]].astype(np.float64).tolist()
    if groups is None:
        remaining = cv2.dnn.NMSBoxes(corner_and_size, score.tolist(), 0.0, iou)
    else:
        remaining = cv2.dnn.NMSBoxesBatched(corner_and_size, score.tolist(), groups.tolist(), 0.0, iou)
    indices = np.asarray(remaining, dtype=np.int64).ravel()
    return indices[np.argsort(-score[indices], kind="stable")]


def nested_decay(boxes: np.ndarray, label: np.ndarray, parts_look_alike: np.ndarray) -> np.ndarray:
    """Score multipliers for nested boxes, sorted by score: `NESTED_DECAY` for the lower-scored one, 0 for a leukocyte's nucleus."""
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


def note_on_size(boxes: np.ndarray, proposal_scores: np.ndarray, expected: float) -> str | None:
    """A note if the cells of an image may not have the expected size, in pixels; `malaria-cells run` would estimate the size then."""
    size = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)[proposal_scores >= CONFIDENT]
    if len(size) < ENOUGH:
        return f"fewer than {ENOUGH} cells were detected with confidence at the expected cell size of {expected:.0f} pixels"
    median = float(np.median(size))
    if not CONCLUSIVE[0] <= median / expected <= CONCLUSIVE[1]:
        return f"cells seem to be {median:.0f} pixels wide, expected {expected:.0f}"
    weight = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) * proposal_scores
    relative = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / expected
    is_consistent = (proposal_scores >= CONFIDENT) & (relative < SIZE_TOLERANCE) & (relative > 1 / SIZE_TOLERANCE)
    if is_consistent.sum() >= ENOUGH and weight[is_consistent].sum() >= MIN_CONSISTENT * weight.sum():
        return None
    return f"only {is_consistent.sum()} of {len(boxes)} candidates are confident and of about the expected {expected:.0f} pixels"


def rows_of(path: Path, model: Model, cell_size: float | None) -> Iterator[list[Any]]:
    """Rows of the table for an image; a note on the cell size is printed to stderr."""
    image = in_common_look(read_image(path), model.about.get("stain", "none"))
    if not model.about["has_background"]:
        p = probabilities_of([image], model)[0]
        yield [path, model.about["labels"]["names"][p.argmax()], *(f"{v:.4f}" for v in p)]
        return
    boxes, proposal_scores = propose(image, model, cell_size)
    note = note_on_size(boxes, proposal_scores, cell_size or model.about["cell_size"])
    if note:
        print(
            f"{path}: {note}; this example does not estimate the cell size: set --cell-size PIXELS, or use malaria-cells run",
            file=sys.stderr,
        )
    for label, score, counted_as, box in decide(boxes, probabilities_in(image, boxes, model), proposal_scores, model):
        yield [path, label, f"{score:.4f}", *(f"{v:.1f}" for v in box), counted_as or ""]


def main() -> int:
    """Print a table of the images. Exit code 0; 2 if an argument or the model is wrong; 3 if an image cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--cell-size", type=float, help="median longer side of a cell in pixels (default: that of the training images)")
    options = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    write, code = csv.writer(sys.stdout, lineterminator="\n"), 0
    try:
        model = load(Path(__file__).parent)
        if options.cell_size is not None and not (0 < options.cell_size < np.inf and model.about["has_background"]):
            raise UnreadableError(f"--cell-size {options.cell_size}: expected a positive number of pixels, for a model that detects cells")
        names = model.about["labels"]["names"]
        columns = ["score", "x_min", "y_min", "x_max", "y_max", "counted_as"] if model.about["has_background"] else names
        write.writerow(["image", "label", *columns])
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

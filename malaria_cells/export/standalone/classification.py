"""Class probabilities of candidate boxes and of whole images."""

from typing import Any

import cv2
import numpy as np

from .images import resize
from .model import Model, Network

# Views that are averaged where a patch is refined, quarter turns, mirrored from 4 on; and patches per call of a network.
VIEWS, BATCH = (0, 6, 1, 7, 2, 4, 3, 5), 256
SMALLEST = 1e-7  # probability; smaller ones are raised to it before the logarithm


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
    infected, views, refinement = model.infected, model.about["settings"]["tta"], model.inference("refinement")
    if not patches:
        return np.zeros((0, len(names) + model.about["has_background"]), dtype=np.float32)
    resized = np.stack([resize(patch, size_hw) for patch in patches])
    p = np.array(_in_batches(model.classifiers[0], resized))
    is_suspect = p[:, : len(names)][:, infected].sum(axis=1) >= refinement["min_infected"]
    uncertain = np.flatnonzero(is_suspect if infected.any() else p.max(axis=1) < refinement["certain"])
    if len(uncertain) and (views > 1 or len(model.classifiers) > 1):
        seen = [(model.classifiers[0], resized[uncertain])]
        if len(model.classifiers) > 1:
            refiner_hw = model.about["refiner_size_hw"] or size_hw
            seen.append((model.classifiers[1], np.stack([resize(patches[i], refiner_hw) for i in uncertain])))
        p[uncertain] = np.mean([_averaged(*pair, 1) for pair in seen], axis=0)
        suspicion = p[:, : len(names)][:, infected].sum(axis=1)[uncertain]
        rows = np.flatnonzero(suspicion >= refinement["further_views"] if infected.any() else suspicion >= 0)
        if len(rows) and views > 1:
            p[uncertain[rows]] = np.mean([_averaged(network, given[rows], views) for network, given in seen], axis=0)
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

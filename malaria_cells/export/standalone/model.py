"""The networks and ``model.yaml`` of an exported model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from .images import UnreadableError

# Required keys of model.yaml, and of its `labels`.
NEEDED = ("has_background", "image_size_hw", "context", "cell_size", "proposals", "settings", "calibration", "proposer_tta", "refiner")
LABELS = ("names", "infected", "red_cells")
# Values under `inference` in model.yaml, with those that hold where a folder lacks them.
INFERENCE: dict[str, dict[str, Any]] = {
    # Probability of infection from which a patch is refined; probability of a class below which it is refined if no class is infected.
    "refinement": {"min_infected": 0.1, "certain": 0.95, "further_views": 0.0},
    # Fraction of a nested box inside the other, and the score multiplier of the lower-scored one.
    "nested_boxes": {"containment": 0.8, "decay": 0.3},
    # Score of a candidate and of a confident detection. Check of the cell size: accepted ratios of the median size to the expected one,
    # ratio of a consistent size to the expected one, and weighted fraction of consistent detections.
    "proposals": {"min_score": 0.1, "confident": 0.4, "conclusive": [0.85, 1.2], "size_tolerance": 1.4, "min_consistent": 0.3},
}

Network = Callable[[np.ndarray], np.ndarray]


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

    def inference(self, part: str) -> dict[str, Any]:
        """The values of a part of `inference` in ``model.yaml``; those that it lacks are taken from `INFERENCE`."""
        return INFERENCE[part] | ((self.about.get("inference") or {}).get(part) or {})


def load(folder: Path) -> Model:
    """Open the networks of a folder that `malaria-cells export` wrote, with the engine of their format.

    Raises:
        UnreadableError: ``model.yaml`` or a network is missing or damaged, or the engine is not installed.
    """
    file = folder / "model.yaml"
    try:
        about = yaml.safe_load(file.read_text(encoding="utf-8"))
        missing = [key for key in NEEDED if key not in about] + [key for key in LABELS if key not in about["labels"]]
        for part in INFERENCE:
            Model(about, None, []).inference(part)
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
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
        pixels_in = session.get_inputs()[0]
        dtype = np.uint8 if pixels_in.type == "tensor(uint8)" else np.float32  # the pixels are whole numbers, 0 to 255
        return lambda pixels: session.run(None, {pixels_in.name: pixels.astype(dtype)})[0]
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

"""Training, evaluation and export for programs; all of it can be imported from `malaria_cells`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from malaria_cells.base.host_process import host_restored
from malaria_cells.base.progress import progress
from malaria_cells.config import Config, load_config, make_config
from malaria_cells.data.annotations import load_annotations
from malaria_cells.data.images import read_image
from malaria_cells.evaluation import DetectionMetrics, detection_metrics
from malaria_cells.fitting.claim import claimed
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.results.training_report import write_training_files
from malaria_cells.training.train_model import check_request, prepared, train_claimed


def train(config: str | Path | Mapping[str, Any], *, resume: bool = False, **settings: Any) -> Path:
    """Train what a config asks for.

    Args:
        config: a YAML file, or the settings themselves.
        resume: whether an unfinished training of the same name goes on where it was.
        settings: keys of the config that are set otherwise, such as ``epochs=3``; a key inside a key is given by a mapping.

    Returns:
        The folder of the new model.

    Raises:
        InputError: the config or the data are wrong, or another training has the name.
    """
    asked = _config(config, settings)
    check_request(asked)
    asked, data = prepared(asked)
    with host_restored(), claimed(Path(asked.output_models), asked.name or None, resume) as name:
        return train_claimed(name, asked, data, resume, write_training_files)


def _config(config: str | Path | Mapping[str, Any], settings: Mapping[str, Any]) -> Config:
    if isinstance(config, Mapping):
        return make_config({**config, **settings}, "train()")
    return load_config(Path(config), [f"{key}={yaml.safe_dump(_plain(value), default_flow_style=True)}" for key, value in settings.items()])


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def evaluate(model: str | Path, annotations: str | Path, *, images: str | Path | None = None) -> DetectionMetrics:
    """Detect in annotated images and score what is detected.

    Args:
        model: folder of a detector.
        annotations: an annotation file, or the folder of a data set, of any format that is read.
        images: folder of the images, where they are not beside the annotation.

    Returns:
        The metrics; `to_json` gives what ``metrics.json`` of a run holds.

    Raises:
        InputError: no such model or annotation, or a category that the model does not know.
    """
    detector, description = load_detector(Path(model), "auto")
    annotated = load_annotations(Path(annotations), description.labels, root=None if images is None else Path(images))
    each = progress(annotated.images, len(annotated), "detecting", "image")
    detections = [detector.detect(read_image(image.path)) for image in each]
    return detection_metrics(list(annotated.images), detections, description.labels, None)


def export_model(
    model: str | Path, format_name: str, *, int8: bool = False, images: str | None = None, output: str | Path | None = None
) -> Path:
    """Write a detector for another engine.

    Args:
        model: folder that training wrote.
        format_name: ``onnx``, ``openvino``, ``litert`` or ``savedmodel``.
        int8: whether weights and activations become eight-bit integers.
        images: what ranges are fitted to where the format needs that; None: the images that the model was trained on.
        output: folder to write; None: a subfolder of `model` named by the format.

    Returns:
        The folder.

    Raises:
        InputError: no such model, a format that is unknown or cannot be quantised, or a library is not installed.
    """
    from malaria_cells.app.commands.export import default_folder, export

    folder = default_folder(Path(model), format_name, int8) if output is None else Path(output)
    export(Path(model), format_name, int8, images, folder)
    return folder

"""YOLOV8 and RetinaNet of keras-cv: our decoding is theirs, losses by hand, and the whole way from train to run."""

import csv
import json
import warnings
from functools import cache

import h5py
import numpy as np
import pytest

from malaria_cells.app.cli import main
from malaria_cells.data.labels import LabelSet
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.inference.one_stage_detector import as_probabilities, letterbox

SIZE = (128, 256)
ANCHORS = {"sizes": [32.0, 64.0, 128.0, 256.0, 512.0], "scales": [1.0, 1.26], "ratios": [0.5, 1.0, 2.0]}


@pytest.fixture(scope="module")
def ready():
    """A network that is ready for use, by its kind; each is built once, which takes as long as to export it."""
    from malaria_cells.models.one_stage_networks import build, for_use

    return cache(lambda kind: for_use(build(kind, SIZE, 3, ANCHORS), kind, SIZE))


def test_letterbox_and_back():
    image = np.full((100, 300, 3), 90, dtype=np.uint8)
    canvas, scale = letterbox(image, SIZE)
    assert canvas.shape == (*SIZE, 3)
    assert scale == pytest.approx(256 / 300)
    assert (canvas[: round(100 * scale)] == 90).all()
    assert (canvas[round(100 * scale) :] == 0).all()


def test_scores_become_shares():
    p = as_probabilities(np.array([[0.6, 0.2], [0.0, 0.0]], dtype=np.float32))
    assert p == pytest.approx(np.array([[0.45, 0.15, 0.4], [0, 0, 1]]))
    assert as_probabilities(np.zeros((0, 3), dtype=np.float32)).shape == (0, 4)


def test_weighted_focal_loss_by_hand():
    from malaria_cells.models.one_stage_networks import WeightedFocal

    truth, p = np.array([[[1.0, 0.0]]], dtype=np.float32), np.array([[[0.25, 0.4]]], dtype=np.float32)
    hit, miss = -np.log(0.25), -np.log(0.6)
    assert float(WeightedFocal((3.0, 1.0), None, 0.0, False)(truth, p)) == pytest.approx(3 * hit + miss, rel=1e-5)
    focal = 0.25 * 3 * 0.75**2 * hit + 0.75 * 0.4**2 * miss
    logits = np.log(p / (1 - p))
    assert float(WeightedFocal((3.0, 1.0), 0.25, 2.0, True)(truth, logits)) == pytest.approx(focal, rel=1e-5)


def test_unweighted_it_is_the_focal_loss_of_keras():
    import keras

    from malaria_cells.models.one_stage_networks import WeightedFocal

    rng = np.random.default_rng(0)
    truth, p = rng.integers(0, 2, (3, 7, 4)).astype(np.float32), rng.uniform(0.01, 0.99, (3, 7, 4)).astype(np.float32)
    theirs = keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True, alpha=0.25, gamma=2.0, reduction="sum")(truth, p)
    assert float(WeightedFocal((1.0,) * 4, 0.25, 2.0, False)(truth, p)) == pytest.approx(float(theirs) * 4, rel=1e-4)  # they take the mean


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["yolo", "retinanet"])
def test_before_training_a_cell_is_a_rare_thing(kind, ready):
    scores = np.asarray(ready(kind)(np.full((1, *SIZE, 3), 200, dtype=np.float32), training=False))[..., 4:]
    assert np.median(scores) == pytest.approx(0.01, abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["yolo", "retinanet"])
def test_decoding_is_that_of_keras_cv(kind):
    import keras
    import keras_cv

    from malaria_cells.models.one_stage_networks import build, for_use

    keras.utils.set_random_seed(0)
    detector = build(kind, SIZE, 5, ANCHORS)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, *SIZE, 3)).astype(np.float32)
    answer = np.asarray(for_use(detector, kind, SIZE)(pixels))[0]
    detector.prediction_decoder = keras_cv.layers.MultiClassNonMaxSuppression(
        "xyxy", from_logits=kind == "retinanet", iou_threshold=1.0, confidence_threshold=0.0, max_detections=9, max_detections_per_class=9
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = detector.decode_predictions(detector(pixels, training=False), pixels)
    best = np.argsort(-answer[:, 4:].max(axis=1))[:1]
    assert answer[best, 4:].max(axis=1) == pytest.approx(np.asarray(theirs["confidence"])[0, :1], abs=1e-5)
    assert answer[best, :4] == pytest.approx(np.asarray(theirs["boxes"])[0, :1], abs=1e-2)


def test_boxes_turn_with_the_image():
    from malaria_cells.training.fit_one_stage import NO_BOX, LetterboxedImages, _augmented

    pixels = np.zeros((1, 64, 96, 3), dtype=np.uint8)
    pixels[0, 10:20, 30:50] = 255
    boxes = np.array([[[30, 10, 50, 20], [NO_BOX] * 4]], dtype=np.float32)
    seen = set()
    for seed in range(20):
        turned, moved = _augmented(LetterboxedImages(pixels, boxes, np.zeros((1, 2), dtype=np.float32)), 0, np.random.default_rng(seed))
        left, top, right, bottom = moved[0].astype(int)
        assert (turned[top:bottom, left:right] > 100).all()
        assert (turned > 0).any(axis=2).sum() == 200
        assert (moved[1] == NO_BOX).all()
        seen.add((left, top))
    assert len(seen) == 4


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def count_tracing(monkeypatch):
    """A list that gets an entry whenever the training step of a detector is traced."""
    from malaria_cells.models import one_stage_networks

    traced, build = [], one_stage_networks.build

    def counting(*arguments):
        model = build(*arguments)
        step = model.train_step
        model.train_step = lambda *data: traced.append(None) or step(*data)
        return model

    monkeypatch.setattr(one_stage_networks, "build", counting)
    return traced


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_yolo_trains_runs_and_is_exported(sample, tmp_path, capsys, monkeypatch):
    """A training learns; its folder loads, runs and scores; exported, it answers as before."""
    values = {"train_images": sample, "output_models": tmp_path / "models", "name": "y", "detector": "yolo", "epochs": 2}
    values |= {"steps_per_epoch": 6, "detector_size": "[256, 384]", "keep_checkpoints": 1}
    sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    traced = count_tracing(monkeypatch)
    assert main(["train", "--config", "configs/from_scratch.yaml", *sets]) == 0
    assert len(traced) == 1
    folder = tmp_path / "models" / "y"
    written = {p.name for p in folder.iterdir()}
    assert written == {
        "detector.keras",
        "model.yaml",
        "config.yaml",
        "history.csv",
        "metrics.json",
        "split.json",
        "training_curves.png",
        "report.html",
        "checkpoints",
    }
    assert len(list((folder / "checkpoints").iterdir())) == 1
    losses = [float(row["loss"]) for row in history(folder)]
    assert losses[1] < losses[0]
    assert main(["export", "--model", str(folder), "--format", "onnx"]) == 0
    output = tmp_path / "results"
    arguments = [
        "--model",
        str(folder),
        "--image",
        str(sample / "images"),
        "--annotations",
        str(sample / "test.json"),
        "--output",
        str(output),
    ]
    assert main(["run", *arguments]) == 0
    assert json.loads((output / "metrics.json").read_text())["images"] > 0
    assert (output / "counts.csv").is_file()
    assert main(["run", *arguments, "--engine", "onnx", "--proposals", "watershed"]) == 2
    assert "applies to two-stage models only" in capsys.readouterr().err
    canvas = np.random.default_rng(0).integers(0, 256, (1, 256, 384, 3), dtype=np.uint8)
    ours, theirs = (load_detector(folder, engine)[0].network(canvas) for engine in ("keras", "onnx"))
    assert theirs == pytest.approx(ours, abs=1e-2, rel=1e-3)  # boxes are in pixels


@pytest.mark.slow
def test_retinanet_is_killed_goes_on_and_runs(sample, tmp_path, capsys, monkeypatch):
    """Few steps, as any user takes them, without a warning of the libraries; what it finds by then is nothing to speak of."""
    values = {"train_images": sample, "output_models": tmp_path, "name": "r", "detector": "retinanet", "epochs": 2, "keep_checkpoints": 1}
    values |= {"steps_per_epoch": 2, "detector_batch": 1, "detector_size": "[128, 128]"}
    sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    save, traced = RunState.save, count_tracing(monkeypatch)

    def save_and_die(run, *arguments):
        save(run, *arguments)
        raise Killed

    monkeypatch.setattr(RunState, "save", save_and_die)
    with pytest.raises(Killed):
        main(["train", "--config", "configs/from_scratch.yaml", *sets])
    monkeypatch.setattr(RunState, "save", save)
    assert main(["train", "--config", "configs/from_scratch.yaml", *sets, "--resume"]) == 0
    assert len(traced) == 2  # once a call
    assert [row["epoch"] for row in history(tmp_path / "r")] == ["1", "2"]
    with h5py.File(tmp_path / "r" / "checkpoints" / "pass_002.weights.h5") as weights:
        assert weights["optimizer/vars/0"][()] == 4  # steps, those before the kill counted
    capsys.readouterr()
    assert main(["train", "--config", "configs/from_scratch.yaml", *sets, "--resume"]) == 0
    assert "nothing to resume" in capsys.readouterr().out
    assert main(["run", "--model", str(tmp_path / "r"), "--image", str(sample / "images"), "--output", str(tmp_path / "results")]) == 0
    assert (tmp_path / "results" / "counts.csv").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "format_name"),
    # Both networks are of the same operations but for those of the anchors. OpenVINO's files are made from ONNX.
    [("yolo", "openvino"), ("yolo", "litert"), ("yolo", "savedmodel"), ("retinanet", "onnx")],
)
def test_an_exported_one_stage_network_answers_as_keras(kind, format_name, ready, tmp_path):
    from malaria_cells.export import export_network
    from malaria_cells.inference.engines import exported_network

    export_network(ready(kind), tmp_path / "detector", format_name)
    canvas = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
    wanted = np.asarray(ready(kind)(canvas.astype(np.float32), training=False))
    assert exported_network(tmp_path, "detector", format_name)(canvas) == pytest.approx(wanted, abs=1e-3)


def test_labels_of_a_one_stage_detector():
    from malaria_cells.inference.decision import DetectionSettings
    from malaria_cells.inference.one_stage_detector import OneStageDetector

    labels = LabelSet(("cell", "debris"))
    answer = np.array([[10, 10, 40, 40, 0.9, 0.1], [60, 10, 300, 40, 0.1, 0.6], [5, 5, 9, 9, 0.01, 0.01]], dtype=np.float32)
    detector = OneStageDetector(lambda _: answer[None], (128, 128), labels, settings=DetectionSettings())
    found = detector.detect(np.zeros((64, 64, 3), dtype=np.uint8))  # enlarged twice: boxes come back half as large
    assert found.xyxy.tolist() == [[5, 5, 20, 20], [30, 5, 64, 20]]
    assert found.class_name.tolist() == ["cell", "debris"]
    assert found.confidence.tolist() == pytest.approx([0.81, 0.6 * 0.6 / 0.7], abs=1e-5)


def test_a_network_that_sees_cells_everywhere_does_not_take_forever():
    from malaria_cells.inference.decision import DetectionSettings
    from malaria_cells.inference.one_stage_detector import MAX_CANDIDATES, OneStageDetector

    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 100, (3 * MAX_CANDIDATES, 2))
    scores = rng.uniform(0.1, 0.9, (3 * MAX_CANDIDATES, 2))
    answer = np.concatenate([corner, corner + 20, scores], axis=1).astype(np.float32)
    detector = OneStageDetector(lambda _: answer[None], (128, 128), LabelSet(("cell", "debris")), settings=DetectionSettings())
    boxes_xyxy, probabilities, *_ = detector.predict(np.zeros((128, 128, 3), dtype=np.uint8))
    assert len(boxes_xyxy) == MAX_CANDIDATES
    best = np.sort(scores.max(axis=1))[::-1][:MAX_CANDIDATES]
    assert 1 - probabilities[:, -1] == pytest.approx(best, abs=1e-5)

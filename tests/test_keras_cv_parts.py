"""keras-cv is no longer developed: what is used of it is there, and a version without it is told."""

import sys

import pytest

from malaria_cells.base.errors import InputError
from malaria_cells.base.keras_cv_parts import keras_cv_layers, keras_cv_part
from malaria_cells.models.architectures import lite
from malaria_cells.models.stored import architecture

PARTS = (
    "layers.AnchorGenerator",
    "layers.RandAugment",
    "models.EfficientNetLiteBackbone",
    "models.ResNetBackbone",
    "models.RetinaNet",
    "models.YOLOV8Backbone",
    "models.YOLOV8Detector",
    "models.retinanet.FeaturePyramid",
    "models.retinanet.PredictionHead",
)


@pytest.mark.parametrize("name", PARTS)
def test_each_part_is_there_and_may_be_loaded_from_a_file(name):
    part = keras_cv_part(name)
    assert part.__name__ == name.rsplit(".", 1)[-1]
    if name not in {"models.RetinaNet", "models.YOLOV8Detector"}:  # these are written as functional models
        assert part.__module__.startswith(architecture._KERAS_CV_MODULES)


def test_what_another_version_lacks_is_named():
    with pytest.raises(InputError, match=r"the installed keras-cv [\d.]+ has no models\.YOLOV9; install .*: pip install keras-cv==0\.9"):
        keras_cv_part("models.YOLOV9")


def test_keras_cv_that_cannot_be_imported_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_cv", None)
    with pytest.raises(InputError, match=r"keras-cv cannot be imported \(.*\); install the version that is tested"):
        keras_cv_part("models.RetinaNet")


def test_layers_are_found_by_the_end_of_their_names():
    stages = lite.backbone((32, 32))
    (finer,) = keras_cv_layers(stages, lite.STRIDE_8_LAYER, 1)
    assert finer.output.shape[1:] == (4, 4, 40)
    assert stages.output.shape[1:] == (2, 2, 112)
    with pytest.raises(InputError, match=r"builds 0 layers named \*block9z_add, expected 1; install"):
        keras_cv_layers(stages, "block9z_add", 1)


def test_points_of_yolo_are_the_middles_of_its_grid_cells():
    from keras_cv.src.models.object_detection.yolo_v8.yolo_v8_detector import get_anchors  # not public: this is what it is compared with

    from malaria_cells.models.one_stage_networks import _yolo_points

    for found, expected in zip(_yolo_points((128, 256)), get_anchors(image_shape=(128, 256)), strict=True):
        assert found.dtype == "float32"
        assert (found == expected.numpy()).all()

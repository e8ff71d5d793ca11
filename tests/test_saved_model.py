"""A SavedModel is a program: it is loaded only by name, and only if all that it does is compute."""

import shutil
import sys

import numpy as np
import pytest

from malaria_cells.app.cli import main
from malaria_cells.base.errors import InputError
from malaria_cells.export import export_network
from malaria_cells.inference.engines import exported_network
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.inference.model_yaml import load_description, save_description
from malaria_cells.models.stored.keras_files import load_network
from malaria_cells.models.stored.saved_model import HARMLESS, STORING, _is_operation, check_saved_model


@pytest.fixture(scope="module")
def exported(untrained_model, tmp_path_factory):
    """The untrained model as SavedModel."""
    folder = tmp_path_factory.mktemp("saved")
    export_network(load_network(untrained_model / "classifier.keras"), folder / "classifier", "savedmodel")
    description, _ = load_description(untrained_model)
    save_description(folder, [exported_network(folder, "classifier", "savedmodel")], description)
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "model")


def changed(folder, change):
    """The SavedModel of a model folder with another graph, under its checksum."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = folder / "classifier" / "saved_model.pb"
    saved = SavedModel()
    saved.ParseFromString(path.read_bytes())
    change(saved.meta_graphs[0])
    path.write_bytes(saved.SerializeToString())
    about = folder / "model.yaml"
    text = about.read_text(encoding="utf-8")
    about.write_text(text[: text.index("files:")], encoding="utf-8")


def test_it_is_loaded_where_it_is_asked_for_by_name_alone(folder, untrained_model, repository, tmp_path, capsys):
    with pytest.raises(InputError, match=r"holds a SavedModel, whose graph is a program; .*\(--engine savedmodel\)"):
        load_detector(folder)
    request = ["run", "--model", str(folder), "--image", str(repository / "docs/images/smear.jpg"), "--output", str(tmp_path / "out")]
    assert main(request) == 2
    assert "loaded only if this engine is requested (--engine savedmodel)" in capsys.readouterr().err
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    ours, theirs = (
        load_detector(where, engine)[0].classifier.cascade.network for where, engine in ((folder, "savedmodel"), (untrained_model, None))
    )
    assert ours(pixels) == pytest.approx(theirs(pixels), abs=1e-5)


def test_beside_keras_files_it_is_not_taken_by_itself(folder, untrained_model):
    shutil.copy(untrained_model / "classifier.keras", folder)
    load_detector(folder)


def writing(target):
    import tensorflow as tf

    class Writing(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 32, 32, 3), tf.float32)])
        def serve(self, pixels):
            tf.io.write_file(str(target), "written")
            return tf.ones((tf.shape(pixels)[0], 7)) / 7

    return Writing()


def test_a_graph_that_writes_a_file_is_refused_and_writes_none(folder, tmp_path):
    import tensorflow as tf

    target = tmp_path / "target"
    shutil.rmtree(folder / "classifier")
    module = writing(target)
    tf.saved_model.save(module, str(folder / "classifier"), signatures={"serve": module.serve})
    with pytest.raises(InputError, match=r"saved_model\.pb: its graph holds the operation WriteFile, which is not on the list"):
        exported_network(folder, "classifier", "savedmodel")
    with pytest.raises(InputError, match=r"its checksum differs"):
        load_detector(folder, "savedmodel")
    assert not target.exists()


def called_storing(graph):
    """Have a function that is called store variables."""
    store = next(f for f in graph.graph_def.library.function if any(n.op == "SaveV2" for n in f.node_def))
    call = next(f for f in graph.graph_def.library.function if f is not store).node_def.add()
    call.op, call.name = "StatefulPartitionedCall", "store"
    call.attr["f"].func.name = store.signature.name


def named_as_an_operation(graph):
    function = graph.graph_def.library.function.add()
    function.signature.name = "ReadFile"
    graph.graph_def.library.function[0].node_def.add(op="ReadFile", name="read")


def huge_constant(graph):
    node = graph.graph_def.library.function[0].node_def.add(op="Const", name="huge")
    node.attr["value"].tensor.tensor_shape.dim.add(size=2**40)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.graph_def.node.add(op="ReadFile", name="r"), "the operation ReadFile, which is not on the list"),
        (lambda g: g.graph_def.library.function[0].node_def.add(op="PyFunc", name="r"), "the operation PyFunc, which is not"),
        (called_storing, "its graph holds the operation (SaveV2|ShardedFilename|StringJoin|StaticRegexFullMatch|MergeV2Checkpoints)"),
        (named_as_an_operation, "the operation ReadFile, which is not on the list"),
        (lambda g: g.asset_file_def.add(filename="../../secret"), r"names the file '\.\./\.\./secret' to be read"),
        (lambda g: setattr(g.object_graph_def.nodes[0], "registered_saver", "x"), "holds a part of kind user_object"),
        (lambda g: g.object_graph_def.nodes.add().asset.SetInParent(), "holds a part of kind asset, which may read files"),
        (lambda g: g.graph_def.library.function[0].attr["api_implements"].SetInParent(), "may be replaced by others; the model"),
        (huge_constant, r"its constant 'huge' has 1,099,511,627,776 values"),
        (lambda g: g.ClearField("object_graph_def"), "expected one graph written by TensorFlow 2"),
    ],
)
def test_whatever_else_than_computing_is_refused(change, message, folder):
    changed(folder, change)
    with pytest.raises(InputError, match=rf"saved_model\.pb: .*{message}"):
        load_detector(folder, "savedmodel")


def test_damage_is_named(folder):
    changed(folder, lambda graph: None)
    path = folder / "classifier" / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"saved_model\.pb: not a SavedModel that can be loaded"):
        load_detector(folder, "savedmodel")
    shutil.rmtree(folder / "classifier" / "variables")
    with pytest.raises(InputError, match=r"classifier"):
        load_detector(folder, "savedmodel")
    path.rename(path.with_suffix(".pbtxt"))
    with pytest.raises(InputError, match=r"saved_model\.pb: no such file"):
        exported_network(folder, "classifier", "savedmodel")


def test_the_list_is_of_operations_that_there_are():
    import tensorflow as tf  # noqa: F401  registers them
    from tensorflow.python.framework.op_def_registry import get

    assert [name for name in HARMLESS | STORING if get(name) is None] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["EfficientNetB0", "ConvNeXtTiny", "yolo", "retinanet"])
def test_ordinary_exports_pass(kind, tmp_path):
    import keras

    if kind in {"yolo", "retinanet"}:
        from malaria_cells.models import one_stage_networks

        anchors = {"sizes": [16.0, 32.0, 64.0, 128.0, 256.0], "scales": [1.0], "ratios": [1.0]}
        model = one_stage_networks.for_use(one_stage_networks.build(kind, (128, 128), 3, anchors), kind, (128, 128))
    else:
        model = getattr(keras.applications, kind)(weights=None, input_shape=(64, 64, 3), classes=3)
    export_network(model, tmp_path / "classifier", "savedmodel")
    check_saved_model(tmp_path / "classifier")


def test_operations_are_asked_from_tensorflow_and_refused_where_it_does_not_answer(monkeypatch):
    assert _is_operation("ReadFile")
    assert not _is_operation("serve_12")
    monkeypatch.setitem(sys.modules, "tensorflow.python.framework.op_def_registry", None)
    assert _is_operation("serve_12")

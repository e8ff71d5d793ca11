"""TensorFlow alone, and its SavedModel: a folder whose graph is a program, so that it is opened only if it does nothing but compute."""

from pathlib import Path
from typing import Any

from malaria_cells.inference.engines import SAVED_MODEL, Batches, Engine, Run, engine
from malaria_cells.inference.engines.conversion import signature


@engine(SAVED_MODEL, rank=4)
class SavedModel(Engine):
    """TensorFlow without Keras."""

    suffix, distribution = "", "tensorflow"

    def open(self, path: Path) -> Run:
        """Open a graph after a look at its operations."""
        from malaria_cells.base.tensorflow_setup import start_tensorflow
        from malaria_cells.models.stored.saved_model import check_saved_model

        start_tensorflow()
        check_saved_model(path)
        import tensorflow as tf

        loaded = tf.saved_model.load(str(path))
        return lambda pixels: loaded.serve(tf.constant(pixels)).numpy()

    def write(self, model: Any, path: Path, int8: bool, examples: Batches | None) -> None:
        """Write a folder."""
        model.export(path, format="tf_saved_model", verbose=False, input_signature=signature(model))

    def is_there(self, path: Path) -> bool:
        """Whether `path` is a folder with a graph."""
        from malaria_cells.models.stored.saved_model import GRAPH

        return (path / GRAPH).is_file()

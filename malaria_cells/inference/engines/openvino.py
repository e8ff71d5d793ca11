"""OpenVINO (docs.openvino.ai) and its format: a graph in XML beside its weights."""

import tempfile
from pathlib import Path
from typing import Any

from malaria_cells.inference.engines import Batches, Engine, Run, engine
from malaria_cells.inference.engines.conversion import exact_ends, one_call_at_a_time
from malaria_cells.inference.engines.onnx_graph import write_float_graph


@engine("openvino", rank=2)
class OpenVino(Engine):
    """OpenVINO on the CPU."""

    suffix, distribution = ".xml", "openvino"
    quantizes = needs_examples = True

    def open(self, path: Path) -> Run:
        """Open a network; one request at a time."""
        import openvino

        # On processors that have it OpenVINO would take bfloat16, which moves probabilities by a hundredth.
        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        network = openvino.Core().compile_model(path, "CPU", settings)
        return one_call_at_a_time(lambda pixels: network(pixels)[0])

    def write(self, model: Any, path: Path, int8: bool, examples: Batches | None) -> None:
        """Write a network by way of ONNX: Keras writes OpenVINO's format from its OpenVINO backend alone."""
        import openvino

        with tempfile.TemporaryDirectory() as folder:
            by_onnx = Path(folder) / "network.onnx"
            write_float_graph(model, by_onnx)
            network = openvino.Core().read_model(by_onnx)
            if int8 and examples is not None:
                import nncf

                named = [op.get_friendly_name() for op in network.get_ordered_ops() if op.get_type_name() in {"Convolution", "MatMul"}]
                network = nncf.quantize(network, nncf.Dataset(examples), subset_size=len(examples), ignored_scope=exact_ends(named))
            openvino.save_model(network, path, compress_to_fp16=False)

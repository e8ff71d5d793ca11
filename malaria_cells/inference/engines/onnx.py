"""ONNX Runtime (onnxruntime.ai) and its format, ONNX."""

import re
from pathlib import Path
from typing import Any

from malaria_cells.base.errors import InputError
from malaria_cells.inference.engines import Batches, Engine, Run, engine
from malaria_cells.inference.engines.conversion import exact_ends, signature

# The key of the name of another file in a tensor's `external_data` (onnx.proto, StringStringEntryProto), its length before it, which may
# be written in more bytes than it needs.
EXTERNAL = re.compile(rb"(?:\x08|\x88\x80*\x00)location")


@engine("onnx", rank=1)
class Onnx(Engine):
    """ONNX Runtime on the CPU."""

    suffix, distribution = ".onnx", "onnxruntime"
    quantizes = needs_examples = True

    def open(self, path: Path) -> Run:
        """Open a network whose weights are in its one file."""
        import onnxruntime

        if EXTERNAL.search(path.read_bytes()):
            raise InputError(f"{path}: its weights are in another file, which it names; it is not opened: our exports are one file")
        onnxruntime.set_default_logger_severity(4)  # errors are raised as exceptions, too
        options = onnxruntime.SessionOptions()
        # Threads that wait for work in a loop take the cores from images that are worked on at the same time: a fifth of the time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A fallback would print and try again.
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        name = session.get_inputs()[0].name
        return lambda pixels: session.run(None, {name: pixels})[0]

    def write(self, model: Any, path: Path, int8: bool, examples: Batches | None) -> None:
        """Write a network; in eight bits by NNCF, whose ranges of activations are fitted to examples."""
        model.export(path, format="onnx", verbose=False, input_signature=signature(model))
        if int8 and examples is not None:
            import nncf
            import onnx

            network = onnx.load(path)
            name = network.graph.input[0].name
            exact = exact_ends([node.name for node in network.graph.node if node.op_type in {"Conv", "Gemm", "MatMul"}])
            data = nncf.Dataset(examples, lambda batch: {name: batch})
            onnx.save(nncf.quantize(network, data, subset_size=len(examples), ignored_scope=exact), path)

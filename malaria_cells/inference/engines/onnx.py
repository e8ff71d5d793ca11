"""ONNX Runtime (onnxruntime.ai) and its format, ONNX."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from malaria_cells.base.errors import InputError
from malaria_cells.inference.engines import Batches, Engine, Run, engine
from malaria_cells.inference.engines.conversion import exact_ends
from malaria_cells.inference.engines.onnx_graph import take_uint8, write_float_graph

if TYPE_CHECKING:
    import numpy as np

# The key of the name of another file in a tensor's `external_data` (onnx.proto, StringStringEntryProto), its length before it, which may
# be written in more bytes than it needs.
EXTERNAL = re.compile(rb"(?:\x08|\x88\x80*\x00)location")
# Images of a call for each core. Of a batch of 142 patches the first layers' answers leave the cores' caches: a tenth of the time.
IMAGES_PER_CORE = 8


@engine("onnx", rank=1)
class Onnx(Engine):
    """ONNX Runtime on the CPU."""

    suffix, distribution = ".onnx", "onnxruntime"
    quantizes = needs_examples = True
    takes_uint8 = True

    def open(self, path: Path) -> Run:
        """Open a network whose weights are in its one file, and whose input is uint8 or, in earlier exports, float32."""
        import numpy as np
        import onnxruntime

        if EXTERNAL.search(path.read_bytes()):
            raise InputError(f"{path}: its weights are in another file, which it names; it is not opened: our exports are one file")
        onnxruntime.set_default_logger_severity(4)  # errors are raised as exceptions, too
        options = onnxruntime.SessionOptions()
        # Threads that wait for work in a loop take the cores from images that are worked on at the same time: a fifth of the time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.intra_op_num_threads = _threads()
        # A fallback would print and try again.
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        pixels_in = session.get_inputs()[0]
        at_once = IMAGES_PER_CORE * (_threads() or os.cpu_count() or 1)

        def run(pixels: "np.ndarray") -> "np.ndarray":
            if pixels_in.type == "tensor(float)":
                pixels = pixels.astype(np.float32)
            starts = range(0, len(pixels), at_once) if len(pixels) > at_once else (0,)
            answers = [session.run(None, {pixels_in.name: pixels[i : i + at_once]})[0] for i in starts]
            return answers[0] if len(answers) == 1 else np.concatenate(answers)

        return run

    def write(self, model: Any, path: Path, int8: bool, examples: Batches | None) -> None:
        """Write a network; in eight bits by NNCF, whose ranges of activations are fitted to examples."""
        write_float_graph(model, path)
        if int8 and examples is not None:
            import nncf
            import onnx

            network = onnx.load(path)
            name = network.graph.input[0].name
            exact = exact_ends([node.name for node in network.graph.node if node.op_type in {"Conv", "Gemm", "MatMul"}])
            data = nncf.Dataset(examples, lambda batch: {name: batch})
            onnx.save(nncf.quantize(network, data, subset_size=len(examples), ignored_scope=exact), path)
        take_uint8(path)


def _threads() -> int:
    """Threads of a network: ``OMP_NUM_THREADS``, which schedulers set and most numerical libraries follow; 0: one for each core."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return int(threads) if threads.isdigit() else 0

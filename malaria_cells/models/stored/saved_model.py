"""Validates the graph of a SavedModel before TensorFlow loads it: a graph is a program that can read and write files.

All of its operations must be on a list of operations that only compute. The functions that TensorFlow adds to each SavedModel to store its
variables are allowed too, but only where no other function calls them; this package does not call them either.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base.errors import InputError, reason

GRAPH = "saved_model.pb"
MAX_BYTES = 2**28  # bytes of a graph; that of EfficientNetB7 has 2**24
MAX_VALUES = 2**28  # values in a constant

# Operations that only compute, in groups: Keras layers, image operations, mathematics and arrays, quantisation, control flow and variables.
_HARMLESS = """
    AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchToSpaceND BiasAdd Conv2D Conv2DBackpropInput Conv3D Conv3DBackpropInputV2
    DepthToSpace DepthwiseConv2dNative Einsum Elu FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 LRN LeakyRelu LogSoftmax MatMul MaxPool
    MaxPool3D MaxPoolV2 Relu Relu6 Selu Sigmoid Softmax Softplus Softsign SpaceToBatchND SpaceToDepth Tanh
    CropAndResize MirrorPad NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 Pad PadV2 ResizeArea
    ResizeBicubic ResizeBilinear ResizeNearestNeighbor
    Abs Acos Acosh Add AddN AddV2 All Any ArgMax ArgMin Asin Asinh Atan Atan2 Atanh Ceil ClipByValue Cos Cosh Cumprod Cumsum Div DivNoNan
    Equal Erf Erfc Erfinv Exp Expm1 Floor FloorDiv FloorMod Greater GreaterEqual InTopKV2 Inv IsFinite IsInf IsNan L2Loss Less LessEqual
    Lgamma Log Log1p LogicalAnd LogicalNot LogicalOr Max Maximum Mean Min Minimum Mod Mul MulNoNan Neg NotEqual Pow Prod RealDiv Reciprocal
    Rint Round Rsqrt Sign Sin Sinh Sqrt Square SquaredDifference Sub Sum Tan TopK TopKV2 TruncateDiv Xdivy Xlogy Bincount BitwiseAnd
    BroadcastArgs BroadcastTo Cast Concat ConcatV2 Const DynamicPartition DynamicStitch EnsureShape ExpandDims Fill Gather GatherNd
    GatherV2 Identity IdentityN InvertPermutation LinSpace MatrixBandPart MatrixDiagV3 OneHot OnesLike Pack ParallelConcat Placeholder
    PlaceholderWithDefault PreventGradient Range Rank Reshape ReverseV2 Roll ScatterNd Select SelectV2 Shape ShapeN Size Slice
    Snapshot Split SplitV StopGradient StridedSlice Squeeze TensorScatterUpdate Tile Transpose Unique UniqueV2 Unpack Where ZerosLike
    FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel
    Assert Case If NoOp PartitionedCall StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile While
    DisableCopyOnRead ReadVariableOp ResourceGather VarHandleOp VarIsInitializedOp
    """
HARMLESS = frozenset(_HARMLESS.split())
# Operations that store and restore the variables of a SavedModel; allowed in functions that are not called.
_STORING = "AssignVariableOp MergeV2Checkpoints RestoreV2 SaveV2 ShardedFilename StaticRegexFullMatch StringJoin"
STORING = frozenset(_STORING.split())
KINDS = {
    "user_object",
    "function",
    "bare_concrete_function",
    "variable",
    "constant",
    "captured_tensor",
}  # allowed kinds of parts; other kinds refer to files
REGISTERED = {"", "tf.TrackableConstant"}  # allowed registered class names of parts


def check_saved_model(folder: Path) -> None:
    """Check that the graph of a SavedModel only computes, without loading or running it.

    Args:
        folder: folder of the SavedModel.

    Raises:
        InputError: the folder is not a SavedModel or is damaged, or its graph holds an operation that is not allowed, which is named.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = folder / GRAPH
    if not path.is_file():
        raise InputError(f"{path}: no such file; {folder} is not a SavedModel")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: {path.stat().st_size:,} bytes, more than the graph of any network")
    saved = SavedModel()
    try:
        saved.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise InputError(f"{path}: not a SavedModel that can be loaded: {reason(error)}") from error
    if len(saved.meta_graphs) != 1 or not saved.meta_graphs[0].object_graph_def.nodes:
        raise InputError(
            f"{path}: expected one graph written by TensorFlow 2, found {len(saved.meta_graphs)} graphs, or one of TensorFlow 1"
        )
    try:
        _check_parts(saved.meta_graphs[0])
        _check_operations(saved.meta_graphs[0])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _check_parts(graph: Any) -> None:
    if graph.asset_file_def:
        raise InputError(f"names the file '{graph.asset_file_def[0].filename[:60]}' to be read; the model is not loaded")
    for part in graph.object_graph_def.nodes:
        kind = part.WhichOneof("kind")
        if kind not in KINDS or part.registered_name not in REGISTERED or part.registered_saver:
            raise InputError(
                f"holds a part of kind {(part.registered_name or kind or 'unknown')[:60]}, which may read files; the model is not loaded"
            )


def _check_operations(graph: Any) -> None:
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    called = set(graph.object_graph_def.concrete_functions) | {g.gradient_func for g in graph.graph_def.library.gradient}
    for part in graph.object_graph_def.nodes:
        called |= {*part.function.concrete_functions, part.bare_concrete_function.concrete_function_name}
    for function in functions.values():
        if "api_implements" in function.attr:  # TensorFlow may replace it by another function
            raise InputError(f"its function '{function.signature.name[:60]}' may be replaced by others; the model is not loaded")
        called |= {name for node in function.node_def for name in _called_by(node)}
    _check_nodes(graph.graph_def.node, HARMLESS | STORING, functions)
    for name, function in functions.items():
        _check_nodes(function.node_def, HARMLESS if name in called else HARMLESS | STORING, functions)


def _called_by(node: Any) -> Iterator[str]:
    """Names of the functions that an operation may call."""
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield from (each.name for each in value.list.func)


def _check_nodes(nodes: Iterable[Any], allowed: frozenset[str], functions: dict[str, Any]) -> None:
    for node in nodes:
        # A name that is both a function and an operation is ambiguous, so it is treated as the operation.
        is_function = node.op in functions and not _is_operation(node.op)
        if node.op not in allowed and not is_function:
            raise InputError(
                f"its graph holds the operation {node.op[:60]}, which is not on the list of operations that only compute (it may read or "
                "write files); the model is not loaded. Use the model folder that it was exported from, or export it for another engine"
            )
        for value in node.attr.values():
            size = int(np.prod([each.size for each in value.tensor.tensor_shape.dim], dtype=object))
            if size > MAX_VALUES:
                raise InputError(f"its constant '{node.name[:60]}' has {size:,} values, more than that of any network")


def _is_operation(name: str) -> bool:
    """Whether TensorFlow has an operation of this name. Where it cannot be asked, every name is taken for one and thus not allowed."""
    try:
        from tensorflow.python.framework.op_def_registry import get  # not public, and TensorFlow has no public list of all operations
    except ImportError:
        return True
    return get(name) is not None

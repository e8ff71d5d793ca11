"""Reads a SavedModel's graph before TensorFlow loads it: a graph is a program, which may read and write any file.

So every operation of it has to be on a list of those that only compute. What TensorFlow adds to each SavedModel to store its variables
is known by its place: no other part calls it, and neither do we.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base.errors import InputError, reason

GRAPH = "saved_model.pb"
MAX_BYTES = 2**28  # of a graph; EfficientNetB7's has 2**24
MAX_VALUES = 2**28  # of a constant

# Operations that only compute, by what they are for: layers and functions of Keras, and what holds them together.
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
# Operations by which a SavedModel's variables are stored and restored, where nothing calls them.
_STORING = "AssignVariableOp MergeV2Checkpoints RestoreV2 SaveV2 ShardedFilename StaticRegexFullMatch StringJoin"
STORING = frozenset(_STORING.split())
KINDS = {"user_object", "function", "bare_concrete_function", "variable", "constant", "captured_tensor"}  # parts; others are files
REGISTERED = {"", "tf.TrackableConstant"}  # names by which TensorFlow finds a part's class


def check_saved_model(folder: Path) -> None:
    """Refuse a SavedModel whose graph does anything but compute. Nothing of it is loaded or run.

    Raises:
        InputError: no SavedModel, a damaged one, or one with an operation that is not on the list, which is named.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = folder / GRAPH
    if not path.is_file():
        raise InputError(f"{path}: no such file; {folder} is no SavedModel")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: {path.stat().st_size:,} bytes are more than the graph of a network has")
    saved = SavedModel()
    try:
        saved.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise InputError(f"{path}: not a SavedModel that can be loaded: {reason(error)}") from error
    if len(saved.meta_graphs) != 1 or not saved.meta_graphs[0].object_graph_def.nodes:
        raise InputError(f"{path}: expected one graph as TensorFlow 2 writes it, found {len(saved.meta_graphs)}, or one of TensorFlow 1")
    try:
        _check_parts(saved.meta_graphs[0])
        _check_operations(saved.meta_graphs[0])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _check_parts(graph: Any) -> None:
    if graph.asset_file_def:
        raise InputError(f"names the file '{graph.asset_file_def[0].filename[:60]}' to be read; it is not loaded")
    for part in graph.object_graph_def.nodes:
        kind = part.WhichOneof("kind")
        if kind not in KINDS or part.registered_name not in REGISTERED or part.registered_saver:
            raise InputError(
                f"holds a part of kind {(part.registered_name or kind or 'unknown')[:60]}, which may read files; it is not loaded"
            )


def _check_operations(graph: Any) -> None:
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    called = set(graph.object_graph_def.concrete_functions) | {g.gradient_func for g in graph.graph_def.library.gradient}
    for part in graph.object_graph_def.nodes:
        called |= {*part.function.concrete_functions, part.bare_concrete_function.concrete_function_name}
    for function in functions.values():
        if "api_implements" in function.attr:  # TensorFlow may put another function in its place
            raise InputError(f"its function '{function.signature.name[:60]}' stands for others; it is not loaded")
        called |= {name for node in function.node_def for name in _called_by(node)}
    _check_nodes(graph.graph_def.node, HARMLESS | STORING, functions)
    for name, function in functions.items():
        _check_nodes(function.node_def, HARMLESS if name in called else HARMLESS | STORING, functions)


def _called_by(node: Any) -> Iterator[str]:
    """Names of the functions that an operation calls."""
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield from (each.name for each in value.list.func)


def _check_nodes(nodes: Iterable[Any], allowed: frozenset[str], functions: dict[str, Any]) -> None:
    from tensorflow.python.framework.op_def_registry import get

    for node in nodes:
        # A function's name that is an operation's, too, would be taken for either.
        is_function = node.op in functions and get(node.op) is None
        if node.op not in allowed and not is_function:
            raise InputError(
                f"its graph holds the operation {node.op[:60]}, which is not on the list of those that only compute (it may read or write "
                "files); it is not loaded: run the model folder that it was exported from, or export that for another engine"
            )
        for value in node.attr.values():
            size = int(np.prod([each.size for each in value.tensor.tensor_shape.dim], dtype=object))
            if size > MAX_VALUES:
                raise InputError(f"its constant '{node.name[:60]}' has {size:,} values, which no network's has")

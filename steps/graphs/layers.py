"""The nodes of a graph that have weights, and unique names for all nodes."""

import numpy as np
import onnx
from onnx import numpy_helper

LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}  # the normalisation ends before the first of these nodes


def name_nodes(model: onnx.ModelProto) -> None:
    """Give a unique name to each node without a name: converters identify nodes by name."""
    for position, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{position}"


def layers_of(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the names of the layers with weights, in the graph's order."""
    weights = {weight.name for weight in model.graph.initializer}
    return tuple(
        node.name for node in model.graph.node if node.op_type in LAYERS and weights.intersection(node.input)
    )


def with_infinity(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the names of the nodes that read an infinite constant, such as a padding before a max pooling."""
    infinite = {
        stored.name
        for stored in model.graph.initializer
        if stored.data_type == onnx.TensorProto.FLOAT and np.isinf(numpy_helper.to_array(stored)).any()
    }
    return tuple(node.name for node in model.graph.node if infinite.intersection(node.input))

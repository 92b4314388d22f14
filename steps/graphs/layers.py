"""The nodes of a graph that hold weights, and names that tell all nodes apart."""

import numpy as np
import onnx
from onnx import numpy_helper

LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}  # the first of them ends the normalisation


def name_nodes(model: onnx.ModelProto) -> None:
    """Give each node a name of its own: converters tell nodes apart by name."""
    for position, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{position}"


def layers_of(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the names of the layers with weights, in the graph's order."""
    weights = {weight.name for weight in model.graph.initializer}
    return tuple(
        node.name for node in model.graph.node if node.op_type in LAYERS and weights.intersection(node.input)
    )


def with_infinity(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the names of the nodes that take an infinite constant, such as a padding before a max pooling."""
    infinite = {
        stored.name
        for stored in model.graph.initializer
        if stored.data_type == onnx.TensorProto.FLOAT and np.isinf(numpy_helper.to_array(stored)).any()
    }
    return tuple(node.name for node in model.graph.node if infinite.intersection(node.input))

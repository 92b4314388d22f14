"""The nodes of a graph that hold weights, and names that tell all nodes apart."""

import onnx

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

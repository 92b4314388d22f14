"""The float tail: the nodes from a graph's last layers with weights to its logits, which int8 does not round.

256 steps are too few for logits, and a range from the calibration images would clip the logits of other images.
Data flow determines the tail, not the type of operator: a network may end in a convolution and a pooling, or add
its bias in a separate node.
"""

from dataclasses import dataclass

from onnx import ModelProto

from steps.graphs.layers import layers_of
from steps.graphs.nodes import drop_unread, readers_of


@dataclass(frozen=True)
class Tail:
    """The names of the last layers with weights, and of the other nodes with results that no layer reads."""

    last: tuple[str, ...]
    behind: tuple[str, ...]


def tail_of(model: ModelProto) -> Tail:
    """Return the tail of a graph whose nodes have names."""
    layers = set(layers_of(model))
    read: set[str] = set()  # tensors that a layer reads, directly or through other nodes
    found: list[str] = []
    for node in reversed(model.graph.node):  # every node comes after its readers
        if not read.intersection(node.output):
            found.append(node.name)
        if node.name in layers or read.intersection(node.output):
            read.update(filter(None, node.input))  # an omitted input has the name ""
    in_order = found[::-1]
    return Tail(
        tuple(name for name in in_order if name in layers),
        tuple(name for name in in_order if name not in layers),
    )


def leave_exact(model: ModelProto, last: tuple[str, ...]) -> None:
    """Remove the nodes that round the outputs of these layers: the quantizer can skip nodes, not their outputs.

    No such output is the graph's output: the graph returns logits_NK, and these outputs have more than two
    dimensions.
    """
    graph = model.graph
    rounding = [
        (node.output[0], reader)
        for node in graph.node
        if node.name in last
        for reader in readers_of(graph, node.output[0])
        if reader.op_type == "QuantizeLinear"
    ]
    for result, quantize in rounding:
        (dequantize,) = readers_of(graph, quantize.output[0])
        for reader in readers_of(graph, dequantize.output[0]):
            reader.input[:] = [result if name == dequantize.output[0] else name for name in reader.input]
        graph.node.remove(quantize)
        graph.node.remove(dequantize)
    if rounding:
        drop_unread(graph)

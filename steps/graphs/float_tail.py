"""What stands behind a graph's last layers with weights, up to its logits: there an int8 graph rounds nothing.

256 steps are too few for logits, and a range that was found on some images would cut off those of others. By
the flow of the data and not by the operator, as a network may end in a convolution and a pooling, or add its
bias apart.
"""

from dataclasses import dataclass

from onnx import ModelProto

from steps.graphs.layers import layers_of
from steps.graphs.nodes import drop_unread, readers_of


@dataclass(frozen=True)
class Tail:
    """The names of the layers whose results no layer reads, and of the other nodes whose results none does."""

    last: tuple[str, ...]
    behind: tuple[str, ...]


def tail_of(model: ModelProto) -> Tail:
    """Return the end of a graph whose nodes have names."""
    layers = set(layers_of(model))
    read: set[str] = set()  # by layers, if only by way of other nodes
    found: list[str] = []
    for node in reversed(model.graph.node):  # each after all that read it
        if not read.intersection(node.output):
            found.append(node.name)
        if node.name in layers or read.intersection(node.output):
            read.update(filter(None, node.input))  # an input that is left out is called ""
    in_order = found[::-1]
    return Tail(
        tuple(name for name in in_order if name in layers),
        tuple(name for name in in_order if name not in layers),
    )


def leave_exact(model: ModelProto, last: tuple[str, ...]) -> None:
    """Take out what rounds the results of these layers: the quantizer can be kept from nodes, not from results.

    None of them is the graph's own result, as that is logits_NK, and a convolution's has more than two dimensions.
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

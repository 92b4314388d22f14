"""Pixels around zero, for a quantizer whose steps are symmetric about it.

Where export has folded the mean into the first convolution, that takes levels from 0 to 255, and a symmetric int8
has 127 steps for them. Less 128 they have 254; the bias makes up for it. Letters: O outputs, I inputs, K kernel.
"""

from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

MIDDLE = 128.0
FOLLOWING = (b"reflect", b"edge", b"wrap")  # paddings whose border is made of pixels


def recentre_pixels(graph: GraphProto) -> None:
    """Subtract 128 from the levels that first convolutions take as they are; other graphs stay as they are."""
    (source,) = graph.input
    casts = [node for node in _readers(graph, source.name) if node.op_type == "Cast"]
    if len(casts) != 1:
        return
    levels = casts[0].output[0]
    convolutions = _convolutions(graph, levels)
    if not convolutions:
        return
    for conv in convolutions:
        _make_up(graph, conv)
    readers = _readers(graph, levels)
    graph.initializer.append(numpy_helper.from_array(np.array(MIDDLE, np.float32), "recentre/middle"))
    centred = helper.make_node("Sub", [levels, "recentre/middle"], ["recentre/levels"], name="recentre/levels")
    for node in readers:
        node.input[:] = ["recentre/levels" if name == levels else name for name in node.input]
    graph.node.insert(list(graph.node).index(casts[0]) + 1, centred)
    read = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)


def _convolutions(graph: GraphProto, tensor: str) -> list[NodeProto]:
    """Return the convolutions that take these levels, transposed or padded with pixels; none where others do."""
    found: list[NodeProto] = []
    for node in _readers(graph, tensor):
        follows = node.op_type == "Transpose" or (node.op_type == "Pad" and _attribute(node, "mode") in FOLLOWING)
        inner = _convolutions(graph, node.output[0]) if follows else [node] if _unpadded(graph, node) else []
        if not inner:
            return []
        found += inner
    return found


def _unpadded(graph: GraphProto, node: NodeProto) -> bool:
    automatic = _attribute(node, "auto_pad") not in (None, b"NOTSET", b"VALID")
    stored = {tensor.name for tensor in graph.initializer}
    known = node.op_type == "Conv" and set(node.input[1:]) <= stored
    return known and not automatic and not any(_attribute(node, "pads") or [])


def _make_up(graph: GraphProto, conv: NodeProto) -> None:
    """Add to the bias what the convolution of 128 everywhere would have given."""
    stored = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in graph.initializer}
    weight_OIKK = stored[conv.input[1]]
    bias_O = stored[conv.input[2]] if len(conv.input) > 2 else np.zeros(len(weight_OIKK))
    bias_O = bias_O + MIDDLE * weight_OIKK.sum((1, 2, 3))
    name = f"recentre/{conv.output[0]}.bias"
    graph.initializer.append(numpy_helper.from_array(bias_O.astype(np.float32), name))
    del conv.input[2:]
    conv.input.append(name)


def _readers(graph: GraphProto, tensor: str) -> list[NodeProto]:
    return [node for node in graph.node if tensor in node.input]


def _attribute(node: NodeProto, name: str) -> Any:
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), None)

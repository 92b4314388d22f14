"""Shift pixel levels by 128 so that they are centred at zero, for a symmetric quantizer.

Where export has folded the mean into the first convolution, this convolution takes levels from 0 to 255. A
symmetric int8 has only 127 steps for them. After subtracting 128 the levels use 254 steps. The convolution's bias
compensates the shift. Letters: O outputs, I inputs, K kernel.
"""

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

from steps.graphs.nodes import border_follows, constant_of, drop_unread, pads, readers_of

MIDDLE = 128.0


def recentre_pixels(graph: GraphProto) -> None:
    """Subtract 128 from the pixel levels if only first convolutions take them; do not change other graphs."""
    (source,) = graph.input
    casts = [node for node in readers_of(graph, source.name) if node.op_type == "Cast"]
    if len(casts) != 1:
        return
    levels = casts[0].output[0]
    convolutions = _convolutions(graph, levels)
    if not convolutions:
        return
    for conv in convolutions:
        _compensate(graph, conv)
    readers = readers_of(graph, levels)
    graph.initializer.append(numpy_helper.from_array(np.array(MIDDLE, np.float32), "recentre/middle"))
    centred = helper.make_node("Sub", [levels, "recentre/middle"], ["recentre/levels"], name="recentre/levels")
    for node in readers:
        node.input[:] = ["recentre/levels" if name == levels else name for name in node.input]
    graph.node.insert(list(graph.node).index(casts[0]) + 1, centred)
    drop_unread(graph)


def _convolutions(graph: GraphProto, tensor: str) -> list[NodeProto]:
    """Return the convolutions that take these levels, also transposed or padded with pixels.

    Return an empty list if any other node takes the levels.
    """
    found: list[NodeProto] = []
    for node in readers_of(graph, tensor):
        follows = node.op_type == "Transpose" or border_follows(node)
        inner = _convolutions(graph, node.output[0]) if follows else [node] if _unpadded(graph, node) else []
        if not inner:
            return []
        found += inner
    return found


def _unpadded(graph: GraphProto, node: NodeProto) -> bool:
    stored = {tensor.name for tensor in graph.initializer}
    return node.op_type == "Conv" and set(node.input[1:]) <= stored and not pads(node)


def _compensate(graph: GraphProto, conv: NodeProto) -> None:
    """Add to the bias the convolution's output for an image of 128 everywhere."""
    weight_OIKK = constant_of(graph, conv.input[1])
    assert weight_OIKK is not None, "_unpadded accepts only stored weights"
    bias_O = constant_of(graph, conv.input[2]) if len(conv.input) > 2 else np.zeros(len(weight_OIKK))
    assert bias_O is not None, "_unpadded accepts only a stored bias"
    bias_O = bias_O + MIDDLE * weight_OIKK.sum((1, 2, 3))
    name = f"recentre/{conv.output[0]}.bias"
    graph.initializer.append(numpy_helper.from_array(bias_O.astype(np.float32), name))
    del conv.input[2:]
    conv.input.append(name)

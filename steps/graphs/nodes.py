"""Queries about the nodes of an ONNX graph: readers of a tensor, attributes, constants and padding."""

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, helper, numpy_helper

FOLLOWING = (b"reflect", b"edge", b"wrap")  # the modes of Pad that fill the border with copies of pixels
NO_PADDING = (None, b"NOTSET", b"VALID")  # the values of auto_pad that add no padding by the input's size
Reals = npt.NDArray[np.float64]


def readers_of(graph: GraphProto, tensor: str) -> list[NodeProto]:
    """Return the nodes that read the tensor, in the graph's order."""
    return [node for node in graph.node if tensor in node.input]


def attribute_of(node: NodeProto, name: str) -> Any:
    """Return the attribute's value, strings as bytes, or None if the node does not set the attribute."""
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), None)


def constant_of(graph: GraphProto, name: str) -> Reals | None:
    """Return the values of a stored tensor in float64, or None for a computed tensor."""
    for tensor in graph.initializer:
        if tensor.name == name:
            values: Reals = numpy_helper.to_array(tensor).astype(np.float64)
            return values
    return None


def pads(conv: NodeProto) -> bool:
    """Return whether a convolution pads its input with zeros."""
    return attribute_of(conv, "auto_pad") not in NO_PADDING or any(attribute_of(conv, "pads") or [])


def border_follows(pad: NodeProto) -> bool:
    """Return whether a padding fills its border with copies of pixels."""
    return pad.op_type == "Pad" and attribute_of(pad, "mode") in FOLLOWING


def drop_unread(graph: GraphProto) -> None:
    """Remove the constants and the shapes of tensors that no node uses any more."""
    read = {name for node in graph.node for name in node.input} | {result.name for result in graph.output}
    written = {name for node in graph.node for name in node.output}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
    for shape in [shape for shape in graph.value_info if shape.name not in written]:
        graph.value_info.remove(shape)

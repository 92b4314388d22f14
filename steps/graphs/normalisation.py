"""Fold the normalisation of the pixels into the first convolutions.

Division by s: a convolution of (x - o) / s equals a convolution of x - o with the weights W / s, for every
padding, because a border of zeros stays zero. Subtraction of o: a convolution of x - o equals a convolution of x
with the bias b - sum(W o), but only without padding or with a padding that repeats pixels. A border of zeros would
mean black pixels, not pixels of mean value. Everything is computed in float64 and found by data flow. A part that
cannot be folded stays in the graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, numpy_helper

from steps.graphs.nodes import (
    Reals,
    attribute_of,
    border_follows,
    constant_of,
    drop_unread,
    pads,
    readers_of,
)

CHAIN = ("Cast", "Transpose", "Sub", "Div")  # from images_NHWC_u8 to normalised images_NCHW


@dataclass(frozen=True)
class _Normalisation:
    """The nodes of CHAIN after the cast, and offset and scale of (x - offset) / scale per channel."""

    transpose: NodeProto
    sub: NodeProto
    div: NodeProto
    offset_C: Reals
    scale_C: Reals


@dataclass(frozen=True)
class _First:
    """A convolution that reads normalised pixels, and whether its padding, if any, repeats pixels."""

    conv: NodeProto
    border_follows: bool


def fold_normalisation(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph without its division, and without its subtraction where the padding allows that.

    The graph is not changed if another node than a convolution reads the pixels first, such as the layer of an
    MLP.
    """
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    found = _normalisation(graph)
    firsts = None if found is None else _first_convolutions(graph, found)
    if found is None or not firsts:
        return folded
    follows = all(first.border_follows for first in firsts)
    for first in firsts:
        _fold(graph, first.conv, found.scale_C, found.offset_C if follows else np.zeros_like(found.offset_C))
    (found.transpose if follows else found.sub).output[0] = found.div.output[0]
    _remove(graph, [found.div, found.sub] if follows else [found.div])
    return folded


def _normalisation(graph: GraphProto) -> _Normalisation | None:
    """Return the nodes of the normalisation, or None if a tensor between them has another reader."""
    (source,) = graph.input
    casts = [node for node in graph.node if node.op_type == "Cast" and source.name in node.input]
    nodes = casts if len(casts) == 1 else []
    for kind in CHAIN[1:]:
        readers = readers_of(graph, nodes[-1].output[0]) if nodes else []
        if len(readers) != 1 or readers[0].op_type != kind or readers[0].input[0] != nodes[-1].output[0]:
            return None
        nodes.append(readers[0])
    _, transpose, sub, div = nodes
    offset_C, scale_C = constant_of(graph, sub.input[1]), constant_of(graph, div.input[1])
    if offset_C is None or scale_C is None or attribute_of(transpose, "perm") != [0, 3, 1, 2]:
        return None
    return _Normalisation(transpose, sub, div, offset_C.reshape(-1), scale_C.reshape(-1))


def _first_convolutions(graph: GraphProto, found: _Normalisation) -> list[_First]:
    """Return the convolutions that read normalised pixels, directly or after a padding.

    Return an empty list if any other node reads them.
    """
    normal = found.div.output[0]
    firsts: list[_First] = []
    for node in readers_of(graph, normal):
        border = _border(graph, node) if node.op_type == "Pad" else "none"
        convolutions = readers_of(graph, node.output[0]) if node.op_type == "Pad" else [node]
        if border == "other" or not all(_folds(graph, conv, node, len(found.scale_C)) for conv in convolutions):
            return []
        firsts += [_First(conv, border != "zeros" and not pads(conv)) for conv in convolutions]
    return firsts if normal not in {result.name for result in graph.output} else []


def _folds(graph: GraphProto, conv: NodeProto, reader: NodeProto, channels: int) -> bool:
    """Return whether a node is a convolution over the pixels' channels whose weights and bias are stored."""
    weight = constant_of(graph, conv.input[1]) if conv.op_type == "Conv" else None
    bias_known = len(conv.input) < 3 or constant_of(graph, conv.input[2]) is not None
    reads_pixels = conv is reader or conv.input[0] == reader.output[0]
    right = weight is not None and weight.shape[1] * (attribute_of(conv, "group") or 1) == channels
    return right and bias_known and reads_pixels


def _border(graph: GraphProto, pad: NodeProto) -> str:
    """Return the content of a padding's border: `zeros`, copies of pixels (`follows`), or `other`."""
    if border_follows(pad):
        return "follows"
    value = constant_of(graph, pad.input[2]) if len(pad.input) > 2 and pad.input[2] else np.zeros(1)
    return "other" if value is None or value.any() else "zeros"


def _fold(graph: GraphProto, conv: NodeProto, scale_C: Reals, offset_C: Reals) -> None:
    """Change the convolution's weights and bias so that it takes x instead of (x - offset) / scale."""
    weight_OIKK = constant_of(graph, conv.input[1])
    assert weight_OIKK is not None
    outputs, inputs = weight_OIKK.shape[:2]
    group_of_O = np.arange(outputs) // (outputs // (attribute_of(conv, "group") or 1))
    channel_OI = group_of_O[:, None] * inputs + np.arange(inputs)
    scaled_OIKK = weight_OIKK / scale_C[channel_OI][:, :, None, None]
    name = conv.input[1]
    conv.input[1] = _add(graph, f"{name}.of_pixels", scaled_OIKK)
    if offset_C.any():
        bias_O = constant_of(graph, conv.input[2]) if len(conv.input) > 2 else np.zeros(outputs)
        assert bias_O is not None
        shifted_O = bias_O - (scaled_OIKK.sum((2, 3)) * offset_C[channel_OI]).sum(1)
        del conv.input[2:]
        conv.input.append(_add(graph, f"{name}.bias_of_pixels", shifted_O))


def _add(graph: GraphProto, name: str, values: Reals) -> str:
    names = {tensor.name for tensor in graph.initializer}
    while name in names:  # two convolutions may share their weights
        name += "_"
    graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return name


def _remove(graph: GraphProto, nodes: Sequence[NodeProto]) -> None:
    """Remove the nodes, and the constants and shapes that no node uses any more."""
    for node in nodes:
        graph.node.remove(node)
    drop_unread(graph)

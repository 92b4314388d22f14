"""Faults of a graph that takes images of any size: small changes of its resize and crop, and where it normalises.

The nodes are those of steps/graphs/preprocessing.py: per side a Max that keeps the filter from narrowing, a
column of the pixels that the crop keeps, and after each pass the levels (Floor, Max with 0, Min with 255).
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.planted.places import Change
from steps.images.preprocessing import MAX_ASPECT

OWN, MEAN = "preprocess/", "offset_C11"


def no_wider_filter(model: onnx.ModelProto) -> onnx.ModelProto:
    """Leave the filter as narrow as it is where nothing shrinks, as a resize without antialias does."""
    for node in _passes(model, "Max", 1.0):
        node.input[0] = node.input[1]
    return model


def no_middle(model: onnx.ModelProto) -> onnx.ModelProto:
    """Squeeze all of a long image in, of which the middle is used: no test image is so long."""
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if tensor.name.startswith(OWN) and array.tolist() == [MAX_ASPECT]:
            tensor.CopyFrom(numpy_helper.from_array(array * 100, tensor.name))
    return model


def levels_in_bytes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Cast to bytes after the first pass, where it should clip: what is below 0 or above 255 comes round again."""
    first = _passes(model, "Min", 255.0)[0]
    names = (_above(model, first, "Floor"), "planted/integers", "planted/bytes", "planted/reals")
    _read_instead(model, first.output[0], names[-1])
    place = list(model.graph.node).index(first)
    for number, kind in enumerate((TensorProto.INT32, TensorProto.UINT8, TensorProto.FLOAT)):
        cast = helper.make_node("Cast", [names[number]], [names[number + 1]], to=kind)
        model.graph.node.insert(place + number, cast)
    return model


def crop_moved(right: int, down: int) -> Change:
    """Return the change after which the crop is so many pixels off."""

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        columns = [
            tensor for tensor in model.graph.initializer
            if tensor.name.startswith(OWN) and len(tensor.dims) == 2
        ]  # fmt: skip
        for tensor, by in zip(columns, (right, down), strict=True):  # the width's stands first
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + by, tensor.name))
        return model

    return change


def sides_exchanged(model: onnx.ModelProto) -> onnx.ModelProto:
    """Hand the network the image as N x W x H x 3."""
    last = [node for node in model.graph.node if node.name.startswith(f"{OWN}Transpose")][-1]
    (perm,) = last.attribute
    perm.ints[:] = [0, 3, 2, 1]
    return model


def normalised_before_it_resizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Subtract the mean from the pixels, and then round and clip what was resized as if it were levels."""
    subtraction = _of_mean(model)
    _read_instead(model, subtraction.output[0], subtraction.input[0])
    cast = next(
        node for node in model.graph.node if model.graph.input[0].name in node.input and node.op_type == "Cast"
    )
    mean = next(tensor for tensor in model.graph.initializer if tensor.name == MEAN)
    mean.dims[:] = [3]  # of pixels now, not of planes
    moved = helper.make_node("Sub", ["planted/pixels", MEAN], [cast.output[0]])
    cast.output[0] = "planted/pixels"
    model.graph.node.remove(subtraction)
    model.graph.node.insert(list(model.graph.node).index(cast) + 1, moved)
    return model


def mean_in_a_padded_convolution(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold the mean into the bias of the first convolution, though its zeros around the image are no mean."""
    subtraction = _of_mean(model)
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    weight_OIKK, bias_O, mean_C11 = (numpy_helper.to_array(arrays[name]) for name in (*conv.input[1:3], MEAN))
    folded_O = bias_O - (weight_OIKK.sum((2, 3)) * mean_C11.reshape(-1)).sum(1)
    arrays[conv.input[2]].CopyFrom(numpy_helper.from_array(folded_O.astype(np.float32), conv.input[2]))
    _read_instead(model, subtraction.output[0], subtraction.input[0])
    model.graph.node.remove(subtraction)
    return model


def _of_mean(model: onnx.ModelProto) -> onnx.NodeProto:
    subtraction: onnx.NodeProto
    (subtraction,) = [node for node in model.graph.node if node.op_type == "Sub" and MEAN in node.input]
    return subtraction


def _passes(model: onnx.ModelProto, kind: str, number: float) -> list[onnx.NodeProto]:
    """Return the resize's nodes of this kind whose second input is this number, one a side."""
    real = {
        tensor.name: float(numpy_helper.to_array(tensor))
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and not tensor.dims
    }
    own = [node for node in model.graph.node if node.op_type == kind and node.name.startswith(OWN)]
    wanted = [node for node in own if real.get(node.input[1]) == number]
    assert len(wanted) == 2, "one a side"
    return wanted


def _above(model: onnx.ModelProto, node: onnx.NodeProto, kind: str) -> str:
    """Return what the nearest node of that kind gives, up along the first inputs."""
    made = {name: other for other in model.graph.node for name in other.output}
    while node.op_type != kind:
        node = made[node.input[0]]
    return str(node.output[0])


def _read_instead(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]

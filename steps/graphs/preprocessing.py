"""Resize and crop as ONNX nodes, in front of a model that takes images at the network's size.

The reference is steps/images/preprocessing.py: Pillow's antialiased resize along the width, then along the height,
each rounded to 8 bits. Each of the two passes is a matrix product. The matrix has one row for each pixel that the
centre crop keeps. A row is the filter (a triangle, or Keys' cubic with a = -1/2), centred at the pixel's position
in the image, stretched by the scale, cut off at the image's borders, and normalised to the sum 1. Sizes and
positions are computed in integers from the image's shape.

Pixel values stay levels (0 to 255) in both passes, and the model normalises them afterwards. So the levels can be
rounded as Pillow rounds them, and are exact in TensorFloat-32. These nodes compute in float32, for every precision
of the model. Letters: N images, H and W pixels, C = 3 channels (RGB), S the network's size.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from steps.engines.contract import CannotBuild
from steps.images.preprocessing import MAX_ASPECT
from steps.reports.card import Interpolation, Preprocessing

ANY, LEVELS = "images_of_any_size_NHWC_u8", "levels_NHWC"
LARGEST = 2**31 - 1  # OpenVINO computes 64-bit integers in 32 bits


class Nodes:
    """A list of new nodes and constants; calling the object adds one node and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def __call__(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"preprocess/{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def integers(self, values: npt.ArrayLike) -> str:
        """Add a constant of 64-bit integers and return its name."""
        return self._constant(np.array(values, np.int64))

    def reals(self, values: float) -> str:
        """Add a float32 constant and return its name."""
        return self._constant(np.array(values, np.float32))

    def _constant(self, values: npt.NDArray[Any]) -> str:
        name = f"preprocess/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name


def preprocess_nodes(add: Nodes, source: str, preprocessing: Preprocessing) -> str:
    """Add the nodes from images_NHWC_u8 of any size to levels_NHWC (float32, whole numbers); return its name."""
    shape = add("Shape", source)
    height, width = (add("Gather", shape, add.integers([axis])) for axis in (1, 2))
    planes_NCHW = add("Transpose", add("Cast", source, to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    rows_WS = add("Transpose", _rows(add, width, height, preprocessing), perm=[1, 0])
    rows_SH = _rows(add, height, width, preprocessing)
    narrow_NCHS = _as_levels(add, add("MatMul", planes_NCHW, rows_WS))
    levels_NCSS = _as_levels(add, add("MatMul", rows_SH, narrow_NCHS))
    return add("Transpose", levels_NCSS, perm=[0, 2, 3, 1])


def _rows(add: Nodes, side: str, other_side: str, preprocessing: Preprocessing) -> str:
    """Return rows_SL: the weights of the L pixels along one side, for each of the S pixels that the crop keeps."""
    used, short, begin = _used_part(add, side, other_side)
    resize, size = preprocessing.resize, preprocessing.size
    resized = add("Max", _resized(add, used, short, resize), add.integers([resize]))
    first = add("Div", add("Sub", resized, add.integers([size])), add.integers([2]))
    kept_S1 = add("Add", add.integers([[number] for number in range(size)]), first)
    # The position of pixel k is (k + 1/2) used / resized = whole + rest / (2 resized), exactly.
    twice = add("Mul", resized, add.integers([2]))
    position_S1 = add("Mul", add("Add", add("Mul", kept_S1, add.integers([2])), add.integers([1])), used)
    whole_S1 = add("Div", position_S1, twice)
    rest_S1 = add("Div", _real(add, add("Sub", position_S1, add("Mul", whole_S1, twice))), _real(add, twice))
    pixels_L = add(
        "Sub",
        add("Range", add.integers(0), add("Squeeze", side, add.integers([0])), add.integers(1)),
        begin,
    )
    distance_SL = add("Sub", _real(add, add("Sub", pixels_L, whole_S1)), add("Sub", rest_S1, add.reals(0.5)))
    scale = add("Max", add("Div", _real(add, used), _real(add, resized)), add.reals(1.0))
    weights_SL = FILTERS[preprocessing.interpolation](add, add("Abs", add("Div", distance_SL, scale)))
    after_begin_L = add("GreaterOrEqual", pixels_L, add.integers([0]))
    inside_L = _real(add, add("And", after_begin_L, add("Less", pixels_L, used)))
    inside_SL = add("Mul", weights_SL, inside_L)
    return add("Div", inside_SL, add("ReduceSum", inside_SL, add.integers([1]), keepdims=1))


def _used_part(add: Nodes, side: str, other_side: str) -> tuple[str, str, str]:
    """Return the used length of a side, the length of the short side, and the begin of the used part."""
    longest = add.integers([MAX_ASPECT])
    used = add("Min", side, add("Mul", other_side, longest))
    short = add("Min", side, other_side)
    return used, short, add("Div", add("Sub", side, used), add.integers([2]))


def _resized(add: Nodes, side: str, short: str, resize: int) -> str:
    """Return side * resize / short, rounded to the nearest integer, ties to even."""
    twice = add("Mul", short, add.integers([2]))
    doubled = add("Add", add("Mul", side, add.integers([2 * resize])), short)
    rounded_up = add("Div", doubled, twice)
    odd = add("Sub", rounded_up, add("Mul", add("Div", rounded_up, add.integers([2])), add.integers([2])))
    tie = add("Cast", add("Equal", add("Mul", rounded_up, twice), doubled), to=TensorProto.INT64)
    return add("Sub", rounded_up, add("Mul", tie, odd))


def _as_levels(add: Nodes, values: str) -> str:
    """Return values rounded to whole levels, ties up, and clipped to 0 and 255, as in Pillow after each pass."""
    whole = add("Floor", add("Add", values, add.reals(0.5)))
    return add("Min", add("Max", whole, add.reals(0.0)), add.reals(255.0))


def _triangle(add: Nodes, distance: str) -> str:
    return add("Max", add("Sub", add.reals(1.0), distance), add.reals(0.0))


def _cubic(add: Nodes, distance: str) -> str:
    """Keys (1981), "Cubic convolution interpolation for digital image processing", eq. 15, with a = -1/2."""
    near = add("Add", _polynomial(add, distance, (1.5, -2.5, 0.0)), add.reals(1.0))
    far = add("Add", _polynomial(add, distance, (-0.5, 2.5, -4.0)), add.reals(2.0))
    beyond = add("Where", add("Less", distance, add.reals(2.0)), far, add.reals(0.0))
    return add("Where", add("Less", distance, add.reals(1.0)), near, beyond)


def _polynomial(add: Nodes, x: str, factors: tuple[float, float, float]) -> str:
    """Return ((a x + b) x + c) x."""
    a, b, c = (add.reals(factor) for factor in factors)
    return add("Mul", add("Add", add("Mul", add("Add", add("Mul", x, a), b), x), c), x)


def _real(add: Nodes, integers: str) -> str:
    return add("Cast", integers, to=TensorProto.FLOAT)


FILTERS: dict[Interpolation, Callable[[Nodes, str], str]] = {"bilinear": _triangle, "bicubic": _cubic}


def preprocessing_graph(preprocessing: Preprocessing, opset: int) -> onnx.ModelProto:
    """Return a graph of only resize and crop: images_NHWC_u8 of any size to float32 levels_NHWC of size S."""
    add, size = Nodes(), preprocessing.size
    levels = preprocess_nodes(add, ANY, preprocessing)
    add.nodes.append(helper.make_node("Identity", [levels], [LEVELS], name=f"preprocess/{LEVELS}"))
    result = helper.make_tensor_value_info(LEVELS, TensorProto.FLOAT, ["N", size, size, 3])
    graph = helper.make_graph(add.nodes, "preprocess", [_any_size(ANY)], [result], add.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def prepend_preprocessing(path: Path, preprocessing: Preprocessing, max_side: int) -> None:
    """Let the model in this file take images of any size, or raise CannotBuild if `max_side` is out of range.

    The nodes that read images_NHWC_u8 then read levels_NHWC: levels as float32 at the network's size.
    """
    resize = preprocessing.resize
    if max_side < resize or 2 * max_side * (MAX_ASPECT * resize + 1) > LARGEST:
        most = LARGEST // (2 * (MAX_ASPECT * resize + 1))
        raise CannotBuild(f"build.max_side is {max_side}, and with this model it may be {resize} to {most}")
    model = onnx.load(path)
    graph, add = model.graph, Nodes()
    (source,) = graph.input
    levels = preprocess_nodes(add, source.name, preprocessing)
    for node in graph.node:
        node.input[:] = [levels if name == source.name else name for name in node.input]
    model_nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*add.nodes, *model_nodes])
    graph.initializer.extend(add.constants)
    source.CopyFrom(_any_size(source.name))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _any_size(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.UINT8, ["N", "H", "W", 3])

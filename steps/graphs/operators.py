"""OPERATORS: the PyTorch functions for the ONNX operators that exported classifiers use.

Source: ONNX's Operators.md, opset 18 to 23.
"""

import math
from collections.abc import Callable
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

from steps.graphs.shapes import (
    Attributes,
    Operator,
    Unsupported,
    Value,
    any_tensor,
    arange,
    as_tensor,
    cast_to,
    concat,
    constant,
    divide,
    elementwise,
    gather,
    numbers,
    pair,
    reshape,
    shape,
    slice_of,
    split,
    squeeze,
    unsqueeze,
)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Return the node's attributes, with strings decoded."""
    found = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def _on_tensor(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda _, x: function(as_tensor(x))


def _padded(x: Tensor, pads: list[int], value: float) -> tuple[Tensor, list[int]]:
    """Return the input and a padding that is equal on both sides; if the sides differ, pad here, return zeros."""
    half = len(pads) // 2
    before, after = pads[:half], pads[half:]
    if before == after:
        return x, before
    pairs = [side for pair in reversed(list(zip(before, after, strict=True))) for side in pair]
    return functional.pad(x, pairs, value=value), [0] * half


def _spatial(attributes: Attributes, x: Tensor) -> tuple[int, list[int]]:
    """Return the number of spatial axes and the pads at the begin and the end of each axis."""
    if attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise Unsupported(f"auto_pad {attributes['auto_pad']}")
    axes = x.ndim - 2
    return axes, list(attributes.get("pads", [0] * 2 * axes))


def _conv(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    axes, pads = _spatial(attributes, x)
    if axes not in (1, 2):
        raise Unsupported(f"Conv over {axes} axes")
    x, padding = _padded(x, pads, 0.0)
    convolve = functional.conv1d if axes == 1 else functional.conv2d
    return convolve(
        x,
        weight,
        bias,
        attributes.get("strides", [1] * axes),
        padding,
        attributes.get("dilations", [1] * axes),
        attributes.get("group", 1),
    )


def _max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    axes, pads = _spatial(attributes, x)
    x, padding = _padded(x, pads, -math.inf)
    ceil = bool(attributes.get("ceil_mode", 0))
    strides, dilations = attributes.get("strides", [1] * axes), attributes.get("dilations", [1] * axes)
    return functional.max_pool2d(x, attributes["kernel_shape"], strides, padding, dilations, ceil)


def _average_pool(attributes: Attributes, x: Tensor) -> Tensor:
    axes, pads = _spatial(attributes, x)
    counts, ceil = bool(attributes.get("count_include_pad", 0)), bool(attributes.get("ceil_mode", 0))
    if pads[:axes] != pads[axes:] and (ceil or not counts):
        raise Unsupported("AveragePool with different padding at the two sides")
    x, padding = _padded(x, pads, 0.0)
    return functional.avg_pool2d(
        x, attributes["kernel_shape"], attributes.get("strides", [1] * axes), padding, ceil, counts
    )


def _gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.T if attributes.get("transA") else a
    if c is not None and attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0:
        return functional.linear(a, b if attributes.get("transB") else b.T, c)
    product: Tensor = attributes.get("alpha", 1.0) * (a @ (b.T if attributes.get("transB") else b))
    return product if c is None else product + attributes.get("beta", 1.0) * c


def _reduce(function: Callable[..., Tensor]) -> Operator:
    def apply(attributes: Attributes, x: Tensor, axes: Value = None) -> Tensor:
        if axes is None and attributes.get("noop_with_empty_axes"):
            return x
        chosen = list(numbers(axes)) if axes is not None else list(range(x.ndim))
        reduced: Tensor = function(x, chosen, keepdim=bool(attributes.get("keepdims", 1)))
        return reduced

    return apply


def _flatten(attributes: Attributes, x: Tensor) -> Tensor:
    axis = attributes.get("axis", 1) % (x.ndim + 1)
    return x.reshape(math.prod(x.shape[:axis]), -1) if axis != 1 else x.flatten(1)


def _pad(attributes: Attributes, x: Tensor, pads: Value, value: Value = None, axes: Value = None) -> Tensor:
    if axes is not None or attributes.get("mode", "constant") != "constant":
        raise Unsupported(f"Pad in mode {attributes.get('mode', 'constant')} or with axes")
    sides = numbers(pads)
    half = len(sides) // 2
    pairs = [side for axis in reversed(range(half)) for side in (sides[axis], sides[half + axis])]
    return functional.pad(x, pairs, value=0.0 if value is None else float(value))


def _clip(_: Attributes, x: Tensor, low: Value = None, high: Value = None) -> Tensor:
    """Return the clipped tensor; torch's inductor can fuse only bounds that are numbers (see torch_module.py)."""
    if not any_tensor(low, high):
        return torch.clamp(x, low, high)
    for bound, limit in ((low, torch.maximum), (high, torch.minimum)):
        if bound is not None:
            x = limit(x, torch.as_tensor(bound, dtype=x.dtype, device=x.device))
    return x


def _layer_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = attributes.get("axis", -1) % x.ndim
    return functional.layer_norm(x, x.shape[axis:], scale, bias, attributes.get("epsilon", 1e-5))


def _batch_norm(attributes: Attributes, x: Tensor, *statistics: Tensor) -> Tensor:
    scale, bias, mean, variance = statistics
    return functional.batch_norm(x, mean, variance, scale, bias, eps=attributes.get("epsilon", 1e-5))


def _hard_sigmoid(attributes: Attributes, x: Tensor) -> Tensor:
    return torch.clamp(attributes.get("alpha", 0.2) * x + attributes.get("beta", 0.5), 0, 1)


def _constant(attributes: Attributes) -> Value:
    ((kind, value),) = attributes.items()
    return constant(numpy_helper.to_array(value)) if kind == "value" else value


OPERATORS: dict[str, Operator] = {
    "Abs": elementwise(abs),
    "Add": elementwise(lambda a, b: a + b),
    "And": elementwise(lambda a, b: a & b),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": cast_to,
    "Ceil": elementwise(lambda x: torch.ceil(x) if isinstance(x, Tensor) else -((-x) // 1)),
    "Clip": _clip,
    "Concat": concat,
    "Constant": _constant,
    "Conv": _conv,
    "Div": elementwise(divide),
    "Dropout": lambda _, x, *more: x,  # noqa: ARG005 - Dropout does nothing in inference
    "Elu": lambda attributes, x: functional.elu(x, attributes.get("alpha", 1.0)),
    "Equal": elementwise(lambda a, b: a == b),
    "Erf": _on_tensor(torch.erf),
    "Exp": _on_tensor(torch.exp),
    "Expand": lambda _, x, shape: x * torch.ones(numbers(shape), dtype=x.dtype, device=x.device),
    "Flatten": _flatten,
    "Floor": elementwise(lambda x: torch.floor(x) if isinstance(x, Tensor) else x // 1),
    "Gather": gather,
    "Gelu": lambda attributes, x: functional.gelu(x, approximate=attributes.get("approximate", "none")),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _, x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
    "GlobalMaxPool": lambda _, x: x.amax(tuple(range(2, x.ndim)), keepdim=True),
    "Greater": elementwise(lambda a, b: a > b),
    "GreaterOrEqual": elementwise(lambda a, b: a >= b),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda _, x: functional.hardswish(x),
    "Identity": lambda _, x: x,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda attributes, x: functional.leaky_relu(x, attributes.get("alpha", 0.01)),
    "Less": elementwise(lambda a, b: a < b),
    "LessOrEqual": elementwise(lambda a, b: a <= b),
    "MatMul": lambda _, a, b: torch.matmul(a, b),
    "Max": elementwise(lambda a, b: torch.maximum(*pair(a, b)) if any_tensor(a, b) else torch.sym_max(a, b)),
    "MaxPool": _max_pool,
    "Min": elementwise(lambda a, b: torch.minimum(*pair(a, b)) if any_tensor(a, b) else torch.sym_min(a, b)),
    "Mul": elementwise(lambda a, b: a * b),
    "Neg": elementwise(lambda x: -x),
    "PRelu": lambda _, x, slope: torch.where(x < 0, x * slope, x),
    "Pad": _pad,
    "Pow": elementwise(lambda a, b: a**b),
    "Range": arange,
    "Reciprocal": _on_tensor(torch.reciprocal),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _on_tensor(functional.relu),
    "Reshape": reshape,
    "Shape": shape,
    "Sigmoid": _on_tensor(torch.sigmoid),
    "Slice": slice_of,
    "Softmax": lambda attributes, x: functional.softmax(x, attributes.get("axis", -1)),
    "Softplus": lambda _, x: functional.softplus(x),
    "Split": split,
    "Sqrt": _on_tensor(torch.sqrt),
    "Squeeze": squeeze,
    "Sub": elementwise(lambda a, b: a - b),
    "Tanh": _on_tensor(torch.tanh),
    "Transpose": lambda attributes, x: x.permute(attributes.get("perm", tuple(reversed(range(x.ndim))))),
    "Unsqueeze": unsqueeze,
    "Where": elementwise(lambda which, a, b: torch.where(which, a, b)),
}

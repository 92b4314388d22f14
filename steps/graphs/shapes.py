"""The ONNX operators that compute shapes, on tensors or on Python numbers.

A value is a tensor, or, for a shape, a Python number or a tuple of Python numbers. torch.export represents unknown
sizes by symbols, and a tensor would lose the symbols. Source: ONNX's Operators.md, opset 18 to 23.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import onnx
import torch
from torch import Tensor

Number = Any  # int, float, or a symbol of torch
Value = Any  # Tensor, Number, or a tuple of Numbers
Attributes = Mapping[str, Any]
Operator = Callable[..., Value]  # (attributes, *inputs) -> the first output, or a tuple of all outputs (Tensors)

DTYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.BOOL: torch.bool,
}


class Unsupported(ValueError):
    """An operator, or an attribute of an operator, that this package does not implement."""


def as_tensor(value: Value, like: Tensor | None = None) -> Tensor:
    """Return the value as a tensor, on the device of `like`."""
    if isinstance(value, Tensor):
        return value
    device = None if like is None else like.device
    if isinstance(value, tuple):
        return torch.stack([as_tensor(number, like) for number in value])
    whole = isinstance(value, (int, torch.SymInt))
    return torch.scalar_tensor(value, dtype=torch.int64 if whole else torch.float32, device=device)


def numbers(value: Value) -> tuple[Number, ...]:
    """Return the value as a tuple of Python numbers, or raise Unsupported for a tensor."""
    if isinstance(value, Tensor):
        raise Unsupported("a shape that depends on the images' values")
    return value if isinstance(value, tuple) else (value,)


def elementwise(function: Callable[..., Value]) -> Operator:
    """Return the operator that applies `function` to tensors, or to tuples number by number."""

    def apply(_: Attributes, *inputs: Value) -> Value:
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        if tensors:
            return function(
                *(as_tensor(value, tensors[0]) if isinstance(value, tuple) else value for value in inputs)
            )
        if not any(isinstance(value, tuple) for value in inputs):
            return function(*inputs)
        length = max(len(numbers(value)) for value in inputs)
        spread = [value if isinstance(value, tuple) else (value,) * length for value in inputs]
        spread = [value * length if len(value) == 1 else value for value in spread]
        return tuple(function(*items) for items in zip(*spread, strict=True))

    return apply


def divide(a: Value, b: Value) -> Value:
    """Return a / b as in ONNX: integers give an integer."""
    whole = isinstance(a, (int, torch.SymInt)) and isinstance(b, (int, torch.SymInt))
    if whole:
        return a // b
    if isinstance(a, Tensor) and not a.is_floating_point():
        return torch.div(a, b, rounding_mode="trunc")
    return a / b


def cast_to(attributes: Attributes, x: Value) -> Value:
    dtype = DTYPES.get(attributes["to"])
    if dtype is None:
        raise Unsupported(f"Cast to {onnx.TensorProto.DataType.Name(attributes['to'])}")
    if isinstance(x, Tensor):
        return x.to(dtype)
    return tuple(_number_as(dtype, item) for item in x) if isinstance(x, tuple) else _number_as(dtype, x)


def _number_as(dtype: torch.dtype, number: Number) -> Number:
    if isinstance(number, (bool, torch.SymBool)):
        number = torch.sym_ite(number, 1, 0)
    return torch.sym_float(number) if dtype.is_floating_point else torch.sym_int(number)


def reshape(attributes: Attributes, x: Value, shape: Value) -> Value:
    sizes = list(numbers(shape))
    if not isinstance(x, Tensor):
        if sizes in ([], [1], [-1]):
            return x if sizes == [-1] else (numbers(x)[0] if sizes == [] else numbers(x))
        x = as_tensor(x)
    if not attributes.get("allowzero"):
        sizes = [x.shape[axis] if isinstance(size, int) and size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def shape(attributes: Attributes, x: Tensor) -> Value:
    return tuple(x.shape)[attributes.get("start", 0) : attributes.get("end")]


def gather(attributes: Attributes, x: Value, indices: Value) -> Value:
    if isinstance(x, tuple) and not isinstance(indices, Tensor):
        return tuple(x[index] for index in indices) if isinstance(indices, tuple) else x[indices]
    x = as_tensor(x)
    axis = attributes.get("axis", 0) % x.ndim
    if not isinstance(indices, (Tensor, tuple)):
        return x.select(axis, indices)
    positions = as_tensor(indices, x)
    positions = torch.where(positions < 0, positions + x.shape[axis], positions)
    selected = x.index_select(axis, positions.flatten())
    return selected.reshape([*x.shape[:axis], *positions.shape, *x.shape[axis + 1 :]])


def slice_of(
    _: Attributes, x: Value, starts: Value, ends: Value, axes: Value = None, steps: Value = None
) -> Value:
    firsts, lasts = numbers(starts), numbers(ends)
    strides = numbers(steps) if steps is not None else (1,) * len(firsts)
    if any(stride < 1 for stride in strides):
        raise Unsupported("Slice with a negative step")
    if isinstance(x, tuple):
        return x[firsts[0] : lasts[0] : strides[0]]
    cuts = [slice(None)] * x.ndim
    for axis, first, last, stride in zip(
        numbers(axes) if axes is not None else range(len(firsts)), firsts, lasts, strides, strict=True
    ):
        cuts[axis] = slice(first, None if isinstance(last, int) and last >= 2**31 - 1 else last, stride)
    return x[tuple(cuts)]


def squeeze(_: Attributes, x: Value, axes: Value = None) -> Value:
    if isinstance(x, tuple):
        return x[0]
    return x.squeeze(numbers(axes)) if axes is not None else x.squeeze()


def unsqueeze(_: Attributes, x: Value, axes: Value) -> Value:
    new_axes = numbers(axes)
    if not isinstance(x, (Tensor, tuple)) and len(new_axes) == 1:
        return (x,)
    x = as_tensor(x)
    for new_axis in sorted(axis % (x.ndim + len(new_axes)) for axis in new_axes):
        x = x.unsqueeze(new_axis)
    return x


def concat(attributes: Attributes, *parts: Value) -> Value:
    if not any(isinstance(part, Tensor) for part in parts):
        return tuple(number for part in parts for number in numbers(part))
    like = next(part for part in parts if isinstance(part, Tensor))
    return torch.cat([as_tensor(part, like) for part in parts], attributes["axis"])


def split(attributes: Attributes, x: Tensor, sizes: Value = None) -> tuple[Tensor, ...]:
    axis = attributes.get("axis", 0)
    if sizes is not None:
        return torch.split(x, list(numbers(sizes)), axis)
    return torch.tensor_split(x, attributes["num_outputs"], axis)


def constant(array: Any) -> Value:
    """Return a stored array: integers with at most one axis as Python numbers, any other array as a tensor."""
    if array.dtype.kind == "i" and array.ndim <= 1:
        return tuple(array.tolist()) if array.ndim else array.item()
    return torch.from_numpy(array.copy())


def arange(_: Attributes, first: Value, limit: Value, step: Value) -> Tensor:
    return torch.arange(first, limit, step)


def any_tensor(*values: Value) -> bool:
    return any(isinstance(value, Tensor) for value in values)


def pair(a: Value, b: Value) -> tuple[Tensor, Tensor]:
    like = cast(Tensor, a if isinstance(a, Tensor) else b)
    return as_tensor(a, like).to(like.dtype), as_tensor(b, like).to(like.dtype)

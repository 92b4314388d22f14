"""FLOPs of one operator call, as PyTorch dispatches it in a forward pass.

A convolution makes Cout*Hout*Wout outputs. Each output is the sum of n = (Cin/g)*K*K products: n multiplications
and n - 1 additions. That gives Cout*Hout*Wout*(2*n - 1); a bias adds one per output. Padding counts like pixels.
Linear layers, matrix products and the two products of attention are counted the same way.
`torch.utils.flop_counter` has a formula for each of these operators, also with groups and transposed kernels. But
the formulas count two for every product, one addition too many per output, and no bias. So only the multiply-adds
come from `torch.utils.flop_counter`.

Other operators, per image:
- norms: with running statistics (batch norm in eval mode) 2 per element (scale, shift); with the statistics of the
  input (layer, group and most instance norms) 5 per element (mean, deviation, square, mean of squares, division),
  and 2 more for gamma and beta;
- activation functions and arithmetic: 1 per output element, for every function;
- softmax: 5 per element (maximum, difference, exponential, sum, quotient);
- max pooling: K*K - 1 per output; average pooling: K*K (the division counts one); mean, sum, maximum and adaptive
  pooling: 1 per element read; vector norm: 2; variance: 4;
- interpolation: bilinear 7 per output (4 products), bicubic 31;
- operators that only move numbers (views, copies, padding, concatenation, look-ups): 0.
Any other operator has no count, and its name is reported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

Arguments = tuple[Any, ...]
MOVED = "moved"  # the kind of the operators that only move numbers


@dataclass(frozen=True)
class Flops:
    """The FLOPs of one call; many papers and libraries call `multiply_adds` FLOPs (or MACs)."""

    kind: str
    flops: int
    multiply_adds: int = 0


def flops_of(operator: Any, arguments: Arguments, keywords: dict[str, Any], output: Any) -> Flops | None:
    """Return the FLOPs of one call of an aten operator, or None if there is no formula for the operator."""
    name = str(operator).split(".")[1] if str(operator).startswith("aten.") else str(operator)
    if name.startswith("_scaled_dot_product"):
        return _attention(*arguments[:3], masked=keywords.get("attn_mask") is not None)
    if operator.overloadpacket in flop_registry:
        return _products(operator, name, arguments, keywords, output)
    if name in MOVES or operator.is_view:
        return Flops(MOVED, 0)
    if name.removesuffix("_") in TABLE:
        kind, count = TABLE[name.removesuffix("_")]
        return Flops(kind, count(arguments, output))
    if torch.Tag.pointwise in operator.tags:
        return Flops("elementwise", _elements(output))
    if torch.Tag.reduction in operator.tags:
        return Flops("reduction", _elements(arguments[0]))
    return None


def _products(operator: Any, name: str, arguments: Arguments, keywords: dict[str, Any], output: Tensor) -> Flops:
    """Return the cost of a convolution or a matrix product, including its bias."""
    multiply_adds = flop_registry[operator.overloadpacket](*arguments, **keywords, out_val=output) // 2
    is_convolution = "conv" in name
    has_bias = arguments[2] is not None if is_convolution else name in ("addmm", "baddbmm")
    flops = 2 * multiply_adds - output.numel() + has_bias * output.numel()
    return Flops("convolution" if is_convolution else "matmul", flops, multiply_adds)


def _attention(query_BHLE: Tensor, key_BHSE: Tensor, value_BHSV: Tensor, *, masked: bool) -> Flops:
    """Return the cost of both products and of scaling, mask and softmax of the scores (1, 1 and 5 per score)."""
    count: Callable[..., int] = sdpa_flop_count
    multiply_adds = count(query_BHLE.shape, key_BHSE.shape, value_BHSV.shape) // 2
    scores = prod(query_BHLE.shape[:3]) * key_BHSE.shape[2]
    outputs = prod(query_BHLE.shape[:3]) * value_BHSV.shape[3]
    return Flops("attention", 2 * multiply_adds - scores - outputs + (6 + masked) * scores, multiply_adds)


def _elements(tree: Any) -> int:
    """Return the number of elements of the first tensor; any other outputs are indices or statistics."""
    return next((leaf.numel() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)), 0)


def _per_output(count: int) -> Callable[[Arguments, Any], int]:
    return lambda _, output: count * _elements(output)


def _per_input(count: int) -> Callable[[Arguments, Any], int]:
    return lambda arguments, _: count * _elements(arguments[0])


def _pooled(less: int) -> Callable[[Arguments, Any], int]:
    """Return the count for a pooling; its second argument is the kernel, with one side for all or all sides."""

    def count(arguments: Arguments, output: Any) -> int:
        sides = arguments[1] if len(arguments[1]) > 1 else list(arguments[1]) * 2
        return (prod(sides) - less) * _elements(output)

    return count


def _normed(weight: int) -> Callable[[Arguments, Any], int]:
    """Return the count for a norm with the statistics of its input; argument number `weight` is gamma."""
    return lambda arguments, output: (5 if arguments[weight] is None else 7) * _elements(output)


def _batch_normed(arguments: Arguments, output: Any) -> int:
    """Return the count for aten's batch norm, also called by instance norms; its sixth argument is `training`."""
    return _normed(1)(arguments, output) if arguments[5] else 2 * _elements(output)


TABLE: dict[str, tuple[str, Callable[[Arguments, Any], int]]] = {
    "native_batch_norm": ("norm", _batch_normed),
    "_native_batch_norm_legit_no_training": ("norm", _per_output(2)),
    "cudnn_batch_norm": ("norm", _batch_normed),
    "_batch_norm_no_update": ("norm", _per_output(2)),
    "native_layer_norm": ("norm", _normed(2)),
    "native_group_norm": ("norm", _normed(1)),
    "max_pool2d_with_indices": ("pooling", _pooled(1)),
    "avg_pool2d": ("pooling", _pooled(0)),
    "_adaptive_avg_pool2d": ("pooling", _per_input(1)),
    "adaptive_max_pool2d": ("pooling", _per_input(1)),
    "_softmax": ("softmax", _per_output(5)),
    "_safe_softmax": ("softmax", _per_output(5)),
    "hardswish": ("elementwise", _per_output(1)),
    "glu": ("elementwise", _per_output(1)),
    "_prelu_kernel": ("elementwise", _per_output(1)),
    "linalg_vector_norm": ("reduction", _per_input(2)),
    "var": ("reduction", _per_input(4)),
    "var_mean": ("reduction", _per_input(4)),
    "std": ("reduction", _per_input(4)),
    "cumsum": ("reduction", _per_input(1)),
    "col2im": ("reduction", _per_input(1)),
    "upsample_bilinear2d": ("interpolation", _per_output(7)),
    "upsample_bicubic2d": ("interpolation", _per_output(31)),
}
MOVES = {
    "_to_copy", "_unsafe_view", "arange", "as_strided_", "cat", "channel_shuffle", "clone", "constant_pad_nd",
    "copy_", "embedding", "empty", "empty_like", "empty_strided", "fill_", "flip", "full", "full_like",
    "gather", "im2col", "index", "index_select", "lift_fresh", "native_channel_shuffle", "new_empty",
    "new_full", "new_ones", "new_zeros", "ones", "ones_like", "pixel_shuffle", "pixel_unshuffle",
    "reflection_pad2d", "repeat", "replication_pad2d", "roll", "scalar_tensor", "stack", "upsample_nearest2d",
    "zero_", "zeros", "zeros_like",
}  # fmt: skip

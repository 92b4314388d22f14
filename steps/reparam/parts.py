"""PARTS: the table of the kernels that online mode adds to a convolution's original kernel.

Letters as in kernels.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from steps.reparam.geometry import Geometry
from steps.reparam.kernels import compose_pointwise, dirac

KernelSlice = tuple[slice, slice]  # rows and columns of the window to which a kernel is added
POINT = (1, 1)


class PartType(NamedTuple):
    """A kernel that is added to the original kernel: its new weights, its computation, and its position."""

    weights: Callable[[Geometry], dict[str, Tensor]]  # makes new weights
    kernel: Callable[..., Tensor]  # takes the geometry, the scale (for its dtype and device) and the weights
    place: Callable[[Geometry], KernelSlice]
    scale: float  # the start value of the kernel's scale


def new_weight(outputs: int, geometry: Geometry, kernel: tuple[int, int]) -> Tensor:
    """Return a new random weight with the distribution of nn.Conv2d."""
    weight = torch.empty(outputs, geometry.in_channels // geometry.groups, *kernel)
    return nn.init.kaiming_uniform_(weight, a=5**0.5)


def _own(_: Geometry, __: Tensor, weight_OIKK: Tensor) -> Tensor:
    return weight_OIKK


def _dirac(geometry: Geometry, scale_O: Tensor) -> Tensor:
    return dirac(geometry.out_channels, geometry.groups, like=scale_O)


def _pair(geometry: Geometry, scale_O: Tensor, point_MI11: Tensor, weight_OMKK: Tensor) -> Tensor:
    """Return the kernel of a 1x1 convolution (the identity plus `point_MI11`) followed by a KxK convolution."""
    point_MI11 = point_MI11 + dirac(geometry.in_channels, geometry.groups, like=point_MI11)
    no_bias_M, no_bias_O = scale_O.new_zeros(geometry.in_channels), torch.zeros_like(scale_O)
    return compose_pointwise((point_MI11, no_bias_M), (weight_OMKK, no_bias_O), geometry.groups)[0]


def _average(geometry: Geometry, _: Tensor, weight_OI11: Tensor) -> Tensor:
    return weight_OI11 / (geometry.kernel[0] * geometry.kernel[1])


def _weight(kernel: Callable[[Geometry], tuple[int, int]]) -> Callable[[Geometry], dict[str, Tensor]]:
    def weights(geometry: Geometry) -> dict[str, Tensor]:
        return {"weight": new_weight(geometry.out_channels, geometry, kernel(geometry))}

    return weights


def _no_weight(_: Geometry) -> dict[str, Tensor]:
    return {}


def _point_and_weight(geometry: Geometry) -> dict[str, Tensor]:
    point = torch.zeros_like(new_weight(geometry.in_channels, geometry, POINT))
    return {"point": point, "weight": new_weight(geometry.out_channels, geometry, geometry.kernel)}


def _whole(_: Geometry) -> KernelSlice:
    return slice(None), slice(None)


def _centre_row(geometry: Geometry) -> KernelSlice:
    row = geometry.centre[0]
    return slice(row, row + 1), slice(None)


def _centre_column(geometry: Geometry) -> KernelSlice:
    column = geometry.centre[1]
    return slice(None), slice(column, column + 1)


def _centre(geometry: Geometry) -> KernelSlice:
    return _centre_row(geometry)[0], _centre_column(geometry)[1]


# Each kernel starts as strong as the original one, as branches with norms do. A kernel that nn.Conv2d draws gives
# an output with a third of the input's power; an unscaled identity would give the full power.
IDENTITY_SCALE = 3**-0.5
PARTS: dict[str, PartType] = {
    "full": PartType(_weight(lambda geometry: geometry.kernel), _own, _whole, 1.0),
    "point": PartType(_weight(lambda _: POINT), _own, _centre, 1.0),
    "row": PartType(_weight(lambda geometry: (1, geometry.kernel[1])), _own, _centre_row, 1.0),
    "column": PartType(_weight(lambda geometry: (geometry.kernel[0], 1)), _own, _centre_column, 1.0),
    "identity": PartType(_no_weight, _dirac, _centre, IDENTITY_SCALE),
    "point_full": PartType(_point_and_weight, _pair, _whole, 1.0),
    "point_average": PartType(_weight(lambda _: POINT), _average, _whole, 1.0),
    # In online mode no branch has its own norm, so these equal "point" and "identity".
    "bare_point": PartType(_weight(lambda _: POINT), _own, _centre, 1.0),
    "bare_identity": PartType(_no_weight, _dirac, _centre, IDENTITY_SCALE),
}

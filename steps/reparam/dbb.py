"""The two-layer branches of a Diverse Branch Block: each has one norm between its layers and one at its end.

Source: Ding et al., "Diverse Branch Block" (CVPR 2021), transforms III and V.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steps.reparam.geometry import Geometry
from steps.reparam.kernels import Affine, average, compose_pointwise, dirac, follow_by_norm
from steps.reparam.norms import NewNorm, Norm, add_border, scale_shift, zero_gamma


class PointKernelBranch(nn.Module):
    """1x1 - norm - KxK - norm. The 1x1 kernel is the identity plus `point`, and `point` starts at zero."""

    silence = zero_gamma

    def __init__(self, geometry: Geometry, new_norm: NewNorm) -> None:
        super().__init__()
        self.geometry = geometry
        inputs = geometry.in_channels
        self.point = nn.Conv2d(inputs, inputs, 1, groups=geometry.groups, bias=False)
        nn.init.zeros_(self.point.weight)
        self.between = new_norm(inputs)
        self.conv = nn.Conv2d(
            inputs,
            geometry.out_channels,
            geometry.kernel,
            geometry.stride,
            0,
            geometry.dilation,
            geometry.groups,
            bias=False,
        )
        self.norm = new_norm(geometry.out_channels)

    def forward(self, padded_NCHW: Tensor) -> Tensor:
        """Return the branch's output, one term of the sum over all branches."""
        point = padded_NCHW + self.point(padded_NCHW)
        bordered_NCHW = add_border(self.between(point), self.between, self.geometry.margins)
        normed: Tensor = self.norm(self.conv(bordered_NCHW))
        return normed

    def folded(self) -> Affine:
        """Return the two convolutions and two norms as one kernel."""
        weight_MI11 = self.point.weight.double()
        weight_MI11 = weight_MI11 + dirac(self.geometry.in_channels, self.geometry.groups, like=weight_MI11)
        first = _then_norm(weight_MI11, self.between)
        return compose_pointwise(first, _then_norm(self.conv.weight.double(), self.norm), self.geometry.groups)


class PointAverageBranch(nn.Module):
    """1x1 - norm - average over the window - norm."""

    silence = zero_gamma
    ones_O1KK: Tensor

    def __init__(self, geometry: Geometry, new_norm: NewNorm) -> None:
        super().__init__()
        self.geometry = geometry
        outputs = geometry.out_channels
        self.point = nn.Conv2d(geometry.in_channels, outputs, 1, groups=geometry.groups, bias=False)
        self.between = new_norm(outputs)
        self.norm = new_norm(outputs)
        # Ones, divided afterwards: 1/9 rounded to float32 would keep its error when the network becomes float64.
        self.register_buffer("ones_O1KK", torch.ones(outputs, 1, *geometry.kernel), persistent=False)

    def forward(self, padded_NCHW: Tensor) -> Tensor:
        """Return the branch's output; a convolution averages, because torch's average pooling has no dilation."""
        geometry = self.geometry
        point = self.between(self.point(padded_NCHW))
        bordered_NCHW = add_border(point, self.between, geometry.margins)
        summed = F.conv2d(
            bordered_NCHW,
            self.ones_O1KK,
            stride=geometry.stride,
            dilation=geometry.dilation,
            groups=geometry.out_channels,
        )
        normed: Tensor = self.norm(summed / (geometry.kernel[0] * geometry.kernel[1]))
        return normed

    def folded(self) -> Affine:
        """Return the pointwise kernel spread evenly over the window, with both norms."""
        outputs = self.geometry.out_channels
        point_OI11, point_O = _then_norm(self.point.weight.double(), self.between)
        groups = self.geometry.groups
        spread = average(outputs, groups, self.geometry.kernel, like=point_OI11)
        scale_O, shift_O = scale_shift(self.norm)
        weight, bias_O = follow_by_norm(spread, torch.zeros_like(shift_O), scale_O, shift_O)
        return compose_pointwise((point_OI11, point_O), (weight, bias_O), groups)


def _then_norm(weight_OIKK: Tensor, norm: Norm) -> Affine:
    return follow_by_norm(weight_OIKK, weight_OIKK.new_zeros(weight_OIKK.shape[0]), *scale_shift(norm))

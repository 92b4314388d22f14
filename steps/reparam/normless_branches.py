"""Branches without a norm: one norm follows the sum of all branches instead.

Source: Chu et al., "Make RepVGG Greater Again: A Quantization-aware Approach" (AAAI 2024, arXiv 2212.01593), the
final design S4. A norm in the identity branch divides each channel by its standard deviation. A channel with a
very small deviation then gives a kernel much larger than the others, and int8 loses accuracy. The paper's second
change, plain weight decay instead of RepVGG's decay of the folded kernel, is what our training does in any case.
"""

import torch
from torch import Tensor, nn

from steps.reparam.geometry import Geometry, apply_margins, split_margins, window_margins
from steps.reparam.kernels import Affine, dirac, embed
from steps.reparam.norms import NewNorm

POINT = (1, 1)


class BarePointBranch(nn.Module):
    """A 1x1 convolution without a norm."""

    def __init__(self, geometry: Geometry, new_norm: NewNorm) -> None:  # noqa: ARG002 - all branches take both
        super().__init__()
        self.geometry = geometry
        self.margins, padding = split_margins(window_margins(geometry, POINT, geometry.centre))
        self.conv = nn.Conv2d(
            geometry.in_channels,
            geometry.out_channels,
            POINT,
            geometry.stride,
            padding,
            groups=geometry.groups,
            bias=False,
        )

    def forward(self, padded_NCHW: Tensor) -> Tensor:
        """Return the branch's output, one term of the sum over all branches."""
        convolved: Tensor = self.conv(apply_margins(padded_NCHW, self.margins))
        return convolved

    def folded(self) -> Affine:
        """Return the kernel, embedded at the window's centre, and a bias of zeros."""
        weight_OI11 = self.conv.weight.double()
        bias_O = weight_OI11.new_zeros(weight_OI11.shape[0])
        return embed(weight_OI11, self.geometry.kernel, self.geometry.centre), bias_O

    def silence(self) -> None:
        """Set the kernel to zero; the kernel learns from the first step on."""
        nn.init.zeros_(self.conv.weight)


class BareIdentityBranch(nn.Module):
    """The input times a learned factor per channel. The factor starts at 1, as in the paper; silenced, at 0."""

    def __init__(self, geometry: Geometry, new_norm: NewNorm) -> None:  # noqa: ARG002 - all branches take both
        super().__init__()
        self.geometry = geometry
        self.margins = window_margins(geometry, POINT, geometry.centre)
        self.factor_O = nn.Parameter(torch.ones(geometry.out_channels))

    def forward(self, padded_NCHW: Tensor) -> Tensor:
        """Return the branch's output, one term of the sum over all branches."""
        return apply_margins(padded_NCHW, self.margins) * self.factor_O.reshape(1, -1, 1, 1)

    def folded(self) -> Affine:
        """Return the scaled Dirac kernel and a bias of zeros."""
        factor_O = self.factor_O.double()
        point_OI11 = dirac(self.geometry.out_channels, self.geometry.groups, like=factor_O)
        scaled_OI11 = point_OI11 * factor_O.reshape(-1, 1, 1, 1)
        return embed(scaled_OI11, self.geometry.kernel, self.geometry.centre), torch.zeros_like(factor_O)

    def silence(self) -> None:
        """Set the factor to zero; the factor learns from the first step on."""
        nn.init.zeros_(self.factor_O)

"""BRANCHES and BLOCKS: what one convolution trains as. Each branch is affine in eval mode and folds to a kernel.

Every branch takes the input after `pad_once` and looks at its own part of the convolution's window, so that
its folded kernel, embedded at its offset, computes the same for any stride, dilation, groups and padding.
Sources: Ding et al., "ACNet" (ICCV 2019), "RepVGG" and "Diverse Branch Block" (CVPR 2021); Vasu et al.,
"MobileOne" (CVPR 2023); Chu et al., "Make RepVGG Greater Again" (AAAI 2024), whose branches are in bare.py.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steps.reparam.bare import BareIdentityBranch, BarePointBranch
from steps.reparam.geometry import Geometry, apply_margins, split_margins, window_margins
from steps.reparam.kernels import Affine, average, compose_pointwise, dirac, embed, follow_by_norm
from steps.reparam.norms import NewNorm, Norm, add_border, scale_shift

POINT = (1, 1)
ORIGIN = (0, 0)


class Branch(Protocol):
    """What a multi-branch convolution asks of a branch."""

    def __call__(self, padded_NCHW: Tensor) -> Tensor: ...

    def folded(self) -> Affine:
        """Return the whole window's kernel and bias in float64, of eval mode."""

    def silence(self) -> None:
        """Make it add nothing, but learn from the first step on."""


def zero_gamma(branch: nn.Module) -> None:
    """Silence a branch that ends with its norm."""
    nn.init.zeros_(branch.get_parameter("norm.weight"))


class KernelBranch(nn.Module):
    """A kernel somewhere inside the window, and its batch norm."""

    silence = zero_gamma

    def __init__(
        self,
        geometry: Geometry,
        new_norm: NewNorm,
        kernel: tuple[int, int],
        offset: tuple[int, int],
    ) -> None:
        super().__init__()
        self.window, self.offset = geometry.kernel, offset
        self.margins, padding = split_margins(window_margins(geometry, kernel, offset))
        self.conv = nn.Conv2d(
            geometry.in_channels,
            geometry.out_channels,
            kernel,
            geometry.stride,
            padding,
            geometry.dilation,
            geometry.groups,
            bias=False,
        )
        self.norm = new_norm(geometry.out_channels)

    def forward(self, padded_NCHW: Tensor) -> Tensor:
        """Return the branch's part of the sum."""
        normed: Tensor = self.norm(self.conv(apply_margins(padded_NCHW, self.margins)))
        return normed

    def folded(self) -> Affine:
        """Return W * gamma / sigma at the branch's offset, and the bias that goes with it."""
        weight_OIKK = self.conv.weight.double()
        bias_O = weight_OIKK.new_zeros(weight_OIKK.shape[0])
        if self.conv.bias is not None:
            bias_O = self.conv.bias.double()
        weight_OIKK, bias_O = follow_by_norm(weight_OIKK, bias_O, *scale_shift(self.norm))
        return embed(weight_OIKK, self.window, self.offset), bias_O

    def adopt(self, conv: nn.Conv2d) -> None:
        """Take the convolution's weights over."""
        self.conv.load_state_dict({"weight": conv.weight}, strict=True)
        if conv.bias is not None:
            self.conv.bias = nn.Parameter(conv.bias.detach().clone())


class IdentityBranch(nn.Module):
    """A batch norm of the input itself: its kernel is a Dirac at the window's centre."""

    silence = zero_gamma

    def __init__(self, geometry: Geometry, new_norm: NewNorm) -> None:
        super().__init__()
        self.geometry = geometry
        self.margins = window_margins(geometry, POINT, geometry.centre)
        self.norm = new_norm(geometry.out_channels)

    def forward(self, padded_NCHW: Tensor) -> Tensor:
        """Return the branch's part of the sum."""
        normed: Tensor = self.norm(apply_margins(padded_NCHW, self.margins))
        return normed

    def folded(self) -> Affine:
        """Return the scaled Dirac kernel and the norm's shift."""
        scale_O, shift_O = scale_shift(self.norm)
        point = dirac(self.geometry.out_channels, self.geometry.groups, like=scale_O)
        weight, bias_O = follow_by_norm(point, torch.zeros_like(shift_O), scale_O, shift_O)
        return embed(weight, self.geometry.kernel, self.geometry.centre), bias_O


class PointKernelBranch(nn.Module):
    """1x1 - norm - KxK - norm. The 1x1 starts as the identity plus `point`, which starts at zero."""

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
        """Return the branch's part of the sum."""
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
        # Ones, divided afterwards: a ninth kept in float32 would stay wrong when the network is made float64.
        self.register_buffer("ones_O1KK", torch.ones(outputs, 1, *geometry.kernel), persistent=False)

    def forward(self, padded_NCHW: Tensor) -> Tensor:
        """Return the branch's part of the sum; a convolution, because pooling knows no dilation."""
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


def _full(geometry: Geometry, new_norm: NewNorm) -> KernelBranch:
    return KernelBranch(geometry, new_norm, geometry.kernel, ORIGIN)


def _point(geometry: Geometry, new_norm: NewNorm) -> KernelBranch:
    return KernelBranch(geometry, new_norm, POINT, geometry.centre)


def _row(geometry: Geometry, new_norm: NewNorm) -> KernelBranch:
    return KernelBranch(geometry, new_norm, (1, geometry.kernel[1]), (geometry.centre[0], 0))


def _column(geometry: Geometry, new_norm: NewNorm) -> KernelBranch:
    return KernelBranch(geometry, new_norm, (geometry.kernel[0], 1), (0, geometry.centre[1]))


def _always(_: Geometry) -> bool:
    return True


def _keeps_shape(geometry: Geometry) -> bool:
    return geometry.in_channels == geometry.out_channels and geometry.stride == (1, 1)


def _has_rows_and_columns(geometry: Geometry) -> bool:
    return min(geometry.kernel) > 1


class BranchType(NamedTuple):
    """How a branch is made, for which convolutions it exists, and where its norm stands."""

    make: Callable[[Geometry, NewNorm], Branch]
    fits: Callable[[Geometry], bool]
    norm: Literal["own", "after the sum"] = "own"


class Block(NamedTuple):
    """The branches of a convolution, by name; the first takes over the convolution's own weights."""

    branches: tuple[str, ...]
    at_1x1: tuple[str, ...] = ("full",)  # the branches of a 1x1 convolution; one alone means: leave it


def _mobileone(copies: int) -> Block:
    """Return the paper's block with k over-parameterized copies: the authors take 4 in S0, 1 in S1 to S4."""
    return Block(("full",) * copies + ("point", "identity"), at_1x1=("full",) * copies + ("identity",))


BRANCHES: dict[str, BranchType] = {
    "full": BranchType(_full, _always),
    "point": BranchType(_point, _always),
    "row": BranchType(_row, _has_rows_and_columns),
    "column": BranchType(_column, _has_rows_and_columns),
    "identity": BranchType(IdentityBranch, _keeps_shape),
    "point_full": BranchType(PointKernelBranch, _always),
    "point_average": BranchType(PointAverageBranch, _always),
    "bare_point": BranchType(BarePointBranch, _always, "after the sum"),
    "bare_identity": BranchType(BareIdentityBranch, _keeps_shape, "after the sum"),
}

BLOCKS: dict[str, Block] = {
    "repvgg": Block(("full", "point", "identity")),
    "qarepvgg": Block(("full", "bare_point", "bare_identity")),
    "acb": Block(("full", "row", "column")),
    "dbb": Block(("full", "point", "point_full", "point_average")),
    "mobileone": _mobileone(copies=4),
    "mobileone_k1": _mobileone(copies=1),
}


def branches_for(block: str, geometry: Geometry) -> tuple[str, ...]:
    """Return the names of the branches that this convolution gets; one alone adds nothing to it."""
    entry = BLOCKS[block]
    names = entry.at_1x1 if geometry.kernel == POINT else entry.branches
    return tuple(name for name in names if BRANCHES[name].fits(geometry))

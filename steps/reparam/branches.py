"""BRANCHES and BLOCKS: what one convolution trains as. Each branch is affine in eval mode and folds to a kernel.

Every branch takes the input after `pad_once` and looks at its own part of the convolution's window, so that
its folded kernel, embedded at its offset, computes the same for any stride, dilation, groups and padding.
Sources: Ding et al., "ACNet" (ICCV 2019), "RepVGG" and "Diverse Branch Block" (CVPR 2021); Vasu et al.,
"MobileOne" (CVPR 2023); Chu et al., "Make RepVGG Greater Again" (AAAI 2024). Branches of two layers are in dbb.py,
those without a norm in bare.py.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from steps.reparam.dbb import PointAverageBranch, PointKernelBranch
from steps.reparam.geometry import Geometry, apply_margins, split_margins, window_margins
from steps.reparam.kernels import Affine, dirac, embed, follow_by_norm
from steps.reparam.normless_branches import BareIdentityBranch, BarePointBranch
from steps.reparam.norms import NewNorm, Norm, scale_shift, zero_gamma

POINT = (1, 1)
ORIGIN = (0, 0)


class Branch(Protocol):
    """What a multi-branch convolution asks of a branch."""

    def __call__(self, padded_NCHW: Tensor) -> Tensor: ...

    def folded(self) -> Affine:
        """Return the whole window's kernel and bias in float64, of eval mode."""

    def silence(self) -> None:
        """Make it add nothing, but learn from the first step on."""


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


def make_branches(geometry: Geometry, new_norm: NewNorm, names: Mapping[str, str]) -> dict[str, nn.Module]:
    """Return the named branches, each with a batch norm of its own."""
    branches: dict[str, nn.Module] = {}
    for key, name in names.items():
        branch = BRANCHES[name].make(geometry, new_norm)
        assert isinstance(branch, nn.Module)
        branches[key] = branch
    return branches


def norm_after(names: tuple[str, ...], new_norm: Callable[[], Norm]) -> nn.Module:
    """Return the norm that follows the sum, where a branch has none of its own; else what changes nothing."""
    return new_norm() if any(BRANCHES[name].norm == "after the sum" for name in names) else nn.Identity()


def silence_branches(branches: nn.ModuleDict) -> None:
    """Make every branch but the first add nothing."""
    for branch in list(branches.values())[1:]:
        branch.silence()  # type: ignore[operator] # a Branch

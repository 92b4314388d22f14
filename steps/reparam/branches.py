"""BRANCHES and BLOCKS: the tables of the branches that replace one convolution in training.

Each branch is affine in eval mode and folds to a kernel. A branch takes the input after `pad_once` and reads one
part of the convolution's window. Embedding the folded kernel at the offset of that part gives the same function,
for any stride, dilation, groups and padding.
Sources: Ding et al., "ACNet" (ICCV 2019), "RepVGG" and "Diverse Branch Block" (CVPR 2021); Vasu et al.,
"MobileOne" (CVPR 2023); Chu et al., "Make RepVGG Greater Again" (AAAI 2024). dbb.py has the branches of two
layers, normless_branches.py the branches without a norm.
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
    """The methods that a multi-branch convolution calls on a branch."""

    def __call__(self, padded_NCHW: Tensor) -> Tensor: ...

    def folded(self) -> Affine:
        """Return kernel and bias of eval mode in float64; the kernel has the size of the whole window."""

    def silence(self) -> None:
        """Set the branch's output to zero in such a way that the branch still learns from the first step on."""


class KernelBranch(nn.Module):
    """A convolution with a kernel inside the window, followed by a batch norm."""

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
        """Return the branch's output, one term of the sum over all branches."""
        normed: Tensor = self.norm(self.conv(apply_margins(padded_NCHW, self.margins)))
        return normed

    def folded(self) -> Affine:
        """Return the kernel W * gamma / sigma at the branch's offset, and its bias."""
        weight_OIKK = self.conv.weight.double()
        bias_O = weight_OIKK.new_zeros(weight_OIKK.shape[0])
        if self.conv.bias is not None:
            bias_O = self.conv.bias.double()
        weight_OIKK, bias_O = follow_by_norm(weight_OIKK, bias_O, *scale_shift(self.norm))
        return embed(weight_OIKK, self.window, self.offset), bias_O

    def adopt(self, conv: nn.Conv2d) -> None:
        """Copy the weight and the bias of the original convolution."""
        self.conv.load_state_dict({"weight": conv.weight}, strict=True)
        if conv.bias is not None:
            self.conv.bias = nn.Parameter(conv.bias.detach().clone())


class IdentityBranch(nn.Module):
    """A batch norm of the input without a convolution; the folded kernel is a Dirac at the window's centre."""

    silence = zero_gamma

    def __init__(self, geometry: Geometry, new_norm: NewNorm) -> None:
        super().__init__()
        self.geometry = geometry
        self.margins = window_margins(geometry, POINT, geometry.centre)
        self.norm = new_norm(geometry.out_channels)

    def forward(self, padded_NCHW: Tensor) -> Tensor:
        """Return the branch's output, one term of the sum over all branches."""
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
    """How to make a branch, which convolutions can have it, and whether the branch has a norm of its own."""

    make: Callable[[Geometry, NewNorm], Branch]
    fits: Callable[[Geometry], bool]
    norm: Literal["own", "after the sum"] = "own"


class Block(NamedTuple):
    """The names of the branches of a convolution; the first branch starts with the weights of that convolution."""

    branches: tuple[str, ...]
    at_1x1: tuple[str, ...] = ("full",)  # the branches of a 1x1 convolution; a single one means: do not expand


def _mobileone(copies: int) -> Block:
    """Return the paper's block with k copies of the kernel; the authors use 4 in model S0 and 1 in S1 to S4."""
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
    """Return the names of the branches for this convolution; a single name means that expansion adds nothing."""
    entry = BLOCKS[block]
    names = entry.at_1x1 if geometry.kernel == POINT else entry.branches
    return tuple(name for name in names if BRANCHES[name].fits(geometry))


def make_branches(geometry: Geometry, new_norm: NewNorm, names: Mapping[str, str]) -> dict[str, nn.Module]:
    """Return new branches under the keys of `names`, with new batch norms."""
    branches: dict[str, nn.Module] = {}
    for key, name in names.items():
        branch = BRANCHES[name].make(geometry, new_norm)
        assert isinstance(branch, nn.Module)
        branches[key] = branch
    return branches


def norm_after(names: tuple[str, ...], new_norm: Callable[[], Norm]) -> nn.Module:
    """Return a new norm for the sum if any branch has no norm of its own, else an Identity."""
    return new_norm() if any(BRANCHES[name].norm == "after the sum" for name in names) else nn.Identity()


def silence_branches(branches: nn.ModuleDict) -> None:
    """Silence every branch except the first."""
    for branch in list(branches.values())[1:]:
        branch.silence()  # type: ignore[operator] # a Branch

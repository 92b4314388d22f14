"""Branches whose kernels are summed before the convolution, in every training step: one convolution, one norm.

Each new branch's batch norm gives way to a linear scaling of its kernel; the site's own norm follows the sum.
Source: Hu et al., "Online Convolutional Re-parameterization" (CVPR 2022), section 3. The convolution's own kernel
has no scale here: a common scale of all kernels is nothing to the norm that follows them.
Letters as in kernels.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from steps.reparam.geometry import Geometry, apply_margins, split_margins
from steps.reparam.kernels import Affine, follow_by_norm
from steps.reparam.norms import NewNorm, Norm, scale_shift
from steps.reparam.parts import PARTS, KernelSlice, PartType, drawn


class Part(nn.Module):
    """The trained numbers of one part, its scale first."""

    def __init__(self, geometry: Geometry, kind: PartType) -> None:
        super().__init__()
        self.scale_O = nn.Parameter(torch.full((geometry.out_channels,), kind.scale))
        for name, weight in kind.weights(geometry).items():
            self.register_parameter(name, nn.Parameter(weight))


class Folding(NamedTuple):
    """How the convolution's own kernel and the numbers of all parts, in order, become one convolution."""

    geometry: Geometry
    kinds: tuple[str, ...]  # keys of PARTS, not its rows: a network must be picklable
    places: tuple[KernelSlice, ...]
    counts: tuple[int, ...]  # tensors of each part: its scale and its weights
    padding: tuple[int, int]

    def split(self, tensors: Sequence[Tensor]) -> list[Sequence[Tensor]]:
        """Return the tensors of each part."""
        return [tensors[begin:end] for begin, end in pairwise(accumulate(self.counts, initial=0))]

    def kernels(self, parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Return each part's kernel, of its own size and not yet scaled."""
        return [PARTS[kind].kernel(self.geometry, *part) for kind, part in zip(self.kinds, parts, strict=True)]

    def summed(self, own_OIKK: Tensor, parts: Sequence[Sequence[Tensor]], kernels: Sequence[Tensor]) -> Tensor:
        """Return the sum of all kernels, each times its scale, without a graph: `gradients` is its way back."""
        weight_OIKK = own_OIKK.detach().clone()
        for (rows, columns), (scale_O, *_), kernel in zip(self.places, parts, kernels, strict=True):
            weight_OIKK[:, :, rows, columns].addcmul_(kernel.detach(), scale_O.detach().reshape(-1, 1, 1, 1))
        return weight_OIKK

    def gradients(
        self, gradient_OIKK: Tensor, parts: Sequence[Sequence[Tensor]], kernels: Sequence[Tensor]
    ) -> Iterator[Tensor]:
        """Yield the gradients of the parts' scales and weights from that of the sum."""
        for (rows, columns), (scale_O, *weights), kernel in zip(self.places, parts, kernels, strict=True):
            share = gradient_OIKK[:, :, rows, columns].sum_to_size(kernel.shape)
            yield (share * kernel.detach()).sum((1, 2, 3))
            if weights:
                yield from torch.autograd.grad(kernel, weights, share * scale_O.detach().reshape(-1, 1, 1, 1))


class OnlineBranch(nn.Module):
    """All branches of a site as one kernel, and the site's own batch norm."""

    def __init__(self, geometry: Geometry, new_norm: NewNorm, names: Mapping[str, str]) -> None:
        super().__init__()
        own, *others = names
        assert names[own] == "full"
        self.weight = nn.Parameter(drawn(geometry.out_channels, geometry, geometry.kernel))
        self.bias: nn.Parameter | None = None
        kinds = tuple(names[key] for key in others)
        parts = [Part(geometry, PARTS[kind]) for kind in kinds]
        self.parts = nn.ModuleDict(dict(zip(others, parts, strict=True)))
        self.margins, padding = split_margins(geometry.margins)
        counts = tuple(len(list(part.parameters())) for part in parts)
        places = tuple(PARTS[kind].place(geometry) for kind in kinds)
        self.folding = Folding(geometry, kinds, places, counts, padding)
        self.norm: Norm = new_norm(geometry.out_channels)

    def forward(self, padded_NCHW: Tensor) -> Tensor:
        """Return what the site's convolution and batch norm return."""
        input_NCHW = apply_margins(padded_NCHW, self.margins)
        parts = self.parts.parameters()
        normed: Tensor = self.norm(_FoldedConv.apply(self.folding, input_NCHW, self.bias, self.weight, *parts))
        return normed

    @torch.no_grad()
    def folded(self) -> Affine:
        """Return the sum of the kernels, with the norm of eval mode, in float64."""
        parts = self.folding.split([number.double() for number in self.parts.parameters()])
        weight_OIKK = self.folding.summed(self.weight.double(), parts, self.folding.kernels(parts))
        bias_O = weight_OIKK.new_zeros(weight_OIKK.shape[0]) if self.bias is None else self.bias.double()
        return follow_by_norm(weight_OIKK, bias_O, *scale_shift(self.norm))

    @torch.no_grad()
    def adopt(self, conv: nn.Conv2d) -> None:
        """Take the convolution's weights over."""
        self.weight.copy_(conv.weight)
        if conv.bias is not None:
            self.bias = nn.Parameter(conv.bias.detach().clone())


class _FoldedConv(torch.autograd.Function):
    """A convolution that makes its kernel again on the way back, instead of keeping it.

    Where images are small, the kernels of the deep layers are larger than their feature maps.
    """

    @staticmethod
    def forward(
        ctx: Any, folding: Folding, input_NCHW: Tensor, bias_O: Tensor | None, own_OIKK: Tensor, *tensors: Tensor
    ) -> Tensor:
        """Return the convolution with the sum of all kernels."""
        ctx.folding, ctx.has_bias = folding, bias_O is not None
        ctx.save_for_backward(input_NCHW, own_OIKK, *tensors)
        geometry, parts = folding.geometry, folding.split(tensors)
        with _without_autocast(own_OIKK):
            weight_OIKK = folding.summed(own_OIKK, parts, folding.kernels(parts))
        return F.conv2d(
            input_NCHW, weight_OIKK, bias_O, geometry.stride, folding.padding, geometry.dilation, geometry.groups
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NOHW: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the input, the bias, the own kernel and the parts' numbers."""
        folding: Folding = ctx.folding
        geometry, (input_NCHW, own_OIKK, *saved) = folding.geometry, ctx.saved_tensors
        precision, bias = gradient_NOHW.dtype, [geometry.out_channels] if ctx.has_bias else None
        window = (geometry.stride, folding.padding, geometry.dilation, False, (0, 0), geometry.groups)
        wanted = (ctx.needs_input_grad[1], True, ctx.has_bias)
        with _without_autocast(own_OIKK):
            with torch.enable_grad():
                parts = folding.split([tensor.detach().requires_grad_() for tensor in saved])
                kernels = folding.kernels(parts)
            weight_OIKK = folding.summed(own_OIKK, parts, kernels).to(precision)  # as autocast lowered them
            both = input_NCHW.to(precision), weight_OIKK
            found = torch.ops.aten.convolution_backward(gradient_NOHW, *both, bias, *window, wanted)
            gradient_NCHW, gradient_OIKK, gradient_O = found[0], found[1].to(own_OIKK.dtype), found[2]
            gradients = tuple(folding.gradients(gradient_OIKK, parts, kernels))
        return None, gradient_NCHW, gradient_O, gradient_OIKK, *gradients


def _without_autocast(like: Tensor) -> AbstractContextManager[object]:
    """Kernels are made in the precision of their weights: one rounding, where the convolution takes the sum."""
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def make_online(geometry: Geometry, new_norm: NewNorm, names: Mapping[str, str]) -> dict[str, nn.Module]:
    """Return the one branch that all named branches are folded into."""
    return {"online": OnlineBranch(geometry, new_norm, names)}


def no_norm_after(names: tuple[str, ...], new_norm: Callable[[], Norm]) -> nn.Module:  # noqa: ARG001
    """Return what changes nothing: the one online branch ends with its norm."""
    return nn.Identity()


def silence_parts(branches: nn.ModuleDict) -> None:
    """Leave the convolution's own kernel alone in the sum; the scales of the others learn first."""
    for name, parameter in branches.named_parameters():
        if name.endswith("scale_O"):
            nn.init.zeros_(parameter)

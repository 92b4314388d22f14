"""Online branches: in every training step the kernels are summed first, then one convolution and one norm run.

Each new branch has a linear scale of its kernel instead of a batch norm. The site's norm follows the convolution.
Source: Hu et al., "Online Convolutional Re-parameterization" (CVPR 2022), section 3. The original kernel of the
convolution has no scale here: the norm after the sum cancels a common scale of all kernels.
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
from steps.reparam.parts import PARTS, KernelSlice, PartType, new_weight


class Part(nn.Module):
    """The trained parameters of one part, its scale first."""

    def __init__(self, geometry: Geometry, kind: PartType) -> None:
        super().__init__()
        self.scale_O = nn.Parameter(torch.full((geometry.out_channels,), kind.scale))
        for name, weight in kind.weights(geometry).items():
            self.register_parameter(name, nn.Parameter(weight))


class Folding(NamedTuple):
    """How the original kernel and the parameters of all parts, in order, become one kernel."""

    geometry: Geometry
    kinds: tuple[str, ...]  # keys of PARTS and not its rows, because a network must be picklable
    places: tuple[KernelSlice, ...]
    counts: tuple[int, ...]  # number of tensors of each part: the scale and the weights
    padding: tuple[int, int]

    def split(self, tensors: Sequence[Tensor]) -> list[Sequence[Tensor]]:
        """Return the tensors of each part."""
        return [tensors[begin:end] for begin, end in pairwise(accumulate(self.counts, initial=0))]

    def kernels(self, parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Return the kernel of each part, not yet embedded in the window and not yet scaled."""
        return [PARTS[kind].kernel(self.geometry, *part) for kind, part in zip(self.kinds, parts, strict=True)]

    def summed(self, own_OIKK: Tensor, parts: Sequence[Sequence[Tensor]], kernels: Sequence[Tensor]) -> Tensor:
        """Return the sum of all scaled kernels, without an autograd graph; `gradients` is its backward pass."""
        weight_OIKK = own_OIKK.detach().clone()
        for (rows, columns), (scale_O, *_), kernel in zip(self.places, parts, kernels, strict=True):
            weight_OIKK[:, :, rows, columns].addcmul_(kernel.detach(), scale_O.detach().reshape(-1, 1, 1, 1))
        return weight_OIKK

    def gradients(
        self, gradient_OIKK: Tensor, parts: Sequence[Sequence[Tensor]], kernels: Sequence[Tensor]
    ) -> Iterator[Tensor]:
        """Yield the gradients of the scales and weights of all parts, from the gradient of the summed kernel."""
        for (rows, columns), (scale_O, *weights), kernel in zip(self.places, parts, kernels, strict=True):
            share = gradient_OIKK[:, :, rows, columns].sum_to_size(kernel.shape)
            yield (share * kernel.detach()).sum((1, 2, 3))
            if weights:
                yield from torch.autograd.grad(kernel, weights, share * scale_O.detach().reshape(-1, 1, 1, 1))


class OnlineBranch(nn.Module):
    """All branches of a site as one summed kernel, followed by the site's batch norm."""

    def __init__(self, geometry: Geometry, new_norm: NewNorm, names: Mapping[str, str]) -> None:
        super().__init__()
        first, *keys = names
        assert names[first] == "full"
        self.weight = nn.Parameter(new_weight(geometry.out_channels, geometry, geometry.kernel))
        self.bias: nn.Parameter | None = None
        kinds = tuple(names[key] for key in keys)
        parts = [Part(geometry, PARTS[kind]) for kind in kinds]
        self.parts = nn.ModuleDict(dict(zip(keys, parts, strict=True)))
        self.margins, padding = split_margins(geometry.margins)
        counts = tuple(len(list(part.parameters())) for part in parts)
        places = tuple(PARTS[kind].place(geometry) for kind in kinds)
        self.folding = Folding(geometry, kinds, places, counts, padding)
        self.norm: Norm = new_norm(geometry.out_channels)

    def forward(self, padded_NCHW: Tensor) -> Tensor:
        """Return the output of the site's convolution and batch norm."""
        input_NCHW = apply_margins(padded_NCHW, self.margins)
        parts = self.parts.parameters()
        normed: Tensor = self.norm(_FoldedConv.apply(self.folding, input_NCHW, self.bias, self.weight, *parts))
        return normed

    @torch.no_grad()
    def folded(self) -> Affine:
        """Return the summed kernel and the bias, with the norm of eval mode folded in, in float64."""
        parts = self.folding.split([tensor.double() for tensor in self.parts.parameters()])
        weight_OIKK = self.folding.summed(self.weight.double(), parts, self.folding.kernels(parts))
        bias_O = weight_OIKK.new_zeros(weight_OIKK.shape[0]) if self.bias is None else self.bias.double()
        return follow_by_norm(weight_OIKK, bias_O, *scale_shift(self.norm))

    @torch.no_grad()
    def adopt(self, conv: nn.Conv2d) -> None:
        """Copy the weight and the bias of the original convolution."""
        self.weight.copy_(conv.weight)
        if conv.bias is not None:
            self.bias = nn.Parameter(conv.bias.detach().clone())


class _FoldedConv(torch.autograd.Function):
    """A convolution that computes its summed kernel again in the backward pass, to save memory.

    With small images, the kernels of the deep layers are larger than their feature maps.
    """

    @staticmethod
    def forward(
        ctx: Any, folding: Folding, input_NCHW: Tensor, bias_O: Tensor | None, own_OIKK: Tensor, *tensors: Tensor
    ) -> Tensor:
        """Return the convolution of the input with the sum of all kernels."""
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
        """Return the gradients of the input, the bias, the original kernel and the parameters of the parts."""
        folding: Folding = ctx.folding
        geometry, (input_NCHW, own_OIKK, *saved) = folding.geometry, ctx.saved_tensors
        precision, bias = gradient_NOHW.dtype, [geometry.out_channels] if ctx.has_bias else None
        window = (geometry.stride, folding.padding, geometry.dilation, False, (0, 0), geometry.groups)
        output_mask = (ctx.needs_input_grad[1], True, ctx.has_bias)
        with _without_autocast(own_OIKK):
            with torch.enable_grad():
                parts = folding.split([tensor.detach().requires_grad_() for tensor in saved])
                kernels = folding.kernels(parts)
            weight_OIKK = folding.summed(own_OIKK, parts, kernels).to(precision)  # autocast's precision
            tensors = input_NCHW.to(precision), weight_OIKK
            found = torch.ops.aten.convolution_backward(gradient_NOHW, *tensors, bias, *window, output_mask)
            gradient_NCHW, gradient_OIKK, gradient_O = found[0], found[1].to(own_OIKK.dtype), found[2]
            gradients = tuple(folding.gradients(gradient_OIKK, parts, kernels))
        return None, gradient_NCHW, gradient_O, gradient_OIKK, *gradients


def _without_autocast(like: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast: kernels are summed in their weights' precision and rounded once."""
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def make_online(geometry: Geometry, new_norm: NewNorm, names: Mapping[str, str]) -> dict[str, nn.Module]:
    """Return one branch that contains all named branches."""
    return {"online": OnlineBranch(geometry, new_norm, names)}


def no_norm_after(names: tuple[str, ...], new_norm: Callable[[], Norm]) -> nn.Module:  # noqa: ARG001
    """Return an Identity: the online branch already ends with its norm."""
    return nn.Identity()


def silence_parts(branches: nn.ModuleDict) -> None:
    """Set the scales of all parts to zero, so that only the original kernel counts; the scales learn first."""
    for name, parameter in branches.named_parameters():
        if name.endswith("scale_O"):
            nn.init.zeros_(parameter)

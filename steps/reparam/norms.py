"""Batch norms as affine functions, and what stays at a norm's place when it has gone into a kernel."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steps.reparam.geometry import Margins
from steps.reparam.kernels import norm_scale_shift

Norm = nn.BatchNorm2d | nn.SyncBatchNorm
NewNorm = Callable[[int], Norm]
PLAIN_NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm2d, nn.SyncBatchNorm)
TAIL = ("drop", "act")  # what timm's BatchNormAct2d applies after the norm, in this order


@dataclass(frozen=True)
class Held:
    """A module without its numbers (on the meta device), not registered in the network that holds it."""

    module: nn.Module

    def revived(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Return a module of this structure; its numbers are yet to be set."""
        revived = copy.deepcopy(self.module).to_empty(device=device)
        return revived.to(dtype)


class SiteId:
    """What a block and the tail of its norm hold in common, so that they are found to belong together.

    One object, not a name: it stays one where the network that holds both is copied, pickled, renamed or joined
    with another that was expanded alike.
    """

    def __init__(self, name: str) -> None:
        self.name = name  # in the network that was expanded


class NormTail(nn.Module):
    """What is left at a norm's place: its activation, if it had one inside. Names of keys stay as they were."""

    def __init__(self, norm: Norm, site: SiteId) -> None:
        super().__init__()
        self.site = site
        self.norm = hold(norm)
        for name in TAIL:
            if isinstance(getattr(norm, name, None), nn.Module):
                self.add_module(name, getattr(norm, name))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - named as in the norm that it stands in for
        """Return the input, through what followed the norm."""
        output_NCHW = input
        for module in self.children():
            output_NCHW = module(output_NCHW)
        return output_NCHW


def hold(module: nn.Module) -> Held:
    """Return the structure of a module, without its numbers."""
    return Held(copy.deepcopy(module).to("meta"))


def norm_like(norm: Norm) -> NewNorm:
    """Return a maker of fresh batch norms of any width, of the kind, eps and momentum of `norm`."""
    kind = nn.SyncBatchNorm if isinstance(norm, nn.SyncBatchNorm) else nn.BatchNorm2d

    def new_norm(channels: int) -> Norm:
        return kind(channels, eps=norm.eps, momentum=norm.momentum)

    return new_norm


def copy_norm(source: Norm, target: Norm) -> None:
    """Give `target` the numbers of `source`; a norm without gamma and beta has ones and zeros."""
    with torch.no_grad():
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            numbers = getattr(source, name)
            if numbers is not None:
                getattr(target, name).copy_(numbers)


def scale_shift(norm: Norm) -> tuple[Tensor, Tensor]:
    """Return the norm of eval mode as y = x * scale + shift, in float64."""
    mean_C, variance_C = norm.running_mean, norm.running_var
    assert mean_C is not None and variance_C is not None, "norms without running statistics are no sites"
    gamma_C = None if norm.weight is None else norm.weight.double()
    beta_C = None if norm.bias is None else norm.bias.double()
    return norm_scale_shift(gamma_C, beta_C, mean_C.double(), variance_C.double(), norm.eps)


def apply_norm(norm: Norm, input_NCHW: Tensor) -> Tensor:
    """Return the batch norm of eval mode alone, without what the module may apply after it."""
    return F.batch_norm(
        input_NCHW, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
    )


def apply_in_its_mode(norm: Norm, input_NCHW: Tensor) -> Tensor:
    """Return the batch norm alone, in training by the batch's statistics; the running ones stay as they are."""
    if not norm.training:
        return apply_norm(norm, input_NCHW)
    return F.batch_norm(input_NCHW, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)


def apply_tail(norm: nn.Module, input_NCHW: Tensor) -> Tensor:
    """Return the input through what the norm's module applies after the norm."""
    output_NCHW = input_NCHW
    for name in TAIL:
        module = getattr(norm, name, None)
        if isinstance(module, nn.Module):
            output_NCHW = module(output_NCHW)
    return output_NCHW


def add_border(normed_NCHW: Tensor, norm: Norm, margins: Margins) -> Tensor:
    """Return a norm's output with the border that zeros would have become: beta - mean * gamma / sigma.

    The running statistics are used in training too, after the DBB authors' code: a border has no batch.
    """
    if not any(margins):
        return normed_NCHW
    _, shift_C = scale_shift(norm)
    border_1C11 = shift_C.detach().to(normed_NCHW.dtype).reshape(1, -1, 1, 1)
    return F.pad(normed_NCHW - border_1C11, margins) + border_1C11


def set_to_shift(norm: Norm, shift_C: Tensor) -> None:
    """Make the norm add `shift_C` and nothing else: gamma 1, mean 0, variance 1 - eps."""
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.bias is not None or not shift_C.any(), "a norm without beta can add nothing"
    with torch.no_grad():
        if norm.weight is not None:
            norm.weight.fill_(1.0)
        if norm.bias is not None:
            norm.bias.copy_(shift_C)
        norm.running_mean.zero_()
        norm.running_var.fill_(1.0 - norm.eps)


def zero_gamma(branch: nn.Module) -> None:
    """Silence a branch that ends with its norm."""
    nn.init.zeros_(branch.get_parameter("norm.weight"))


def set_to_identity(norm: Norm, like: Norm) -> None:
    """Make a fresh norm change nothing that has the statistics of `like`, in training and in eval mode.

    gamma sigma, beta mean: the batch's own statistics, whatever they are, are left to the norm that follows.
    """
    assert norm.running_mean is not None and norm.running_var is not None
    assert like.running_mean is not None and like.running_var is not None
    with torch.no_grad():
        norm.running_mean.copy_(like.running_mean)
        norm.running_var.copy_(like.running_var)
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        norm.bias.copy_(norm.running_mean)

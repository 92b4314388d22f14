"""Batch norms as affine functions, and the module that replaces a norm after folding."""

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
TAIL = ("drop", "act")  # the modules that timm's BatchNormAct2d applies after the norm, in this order


@dataclass(frozen=True)
class Structure:
    """A module without its parameters (on the meta device), not registered as a submodule of the network."""

    module: nn.Module

    def rebuilt(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Return a module of this structure with uninitialised parameters."""
        rebuilt = copy.deepcopy(self.module).to_empty(device=device)
        return rebuilt.to(dtype)


class SiteId:
    """The object that a block and the tail of its norm share, so that `blocks_and_tails` can match them.

    An object and not a name: the match stays correct when the network is copied, pickled, renamed, or joined with
    another expanded network of the same names.
    """

    def __init__(self, name: str) -> None:
        self.name = name  # the site's path in the network that was expanded


class NormTail(nn.Module):
    """The replacement of a folded norm: the norm's dropout and activation, if any, under the same keys."""

    def __init__(self, norm: Norm, site: SiteId) -> None:
        super().__init__()
        self.site = site
        self.norm = structure_of(norm)
        for name in TAIL:
            if isinstance(getattr(norm, name, None), nn.Module):
                self.add_module(name, getattr(norm, name))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in nn.BatchNorm2d
        """Return the input after the norm's dropout and activation."""
        output_NCHW = input
        for module in self.children():
            output_NCHW = module(output_NCHW)
        return output_NCHW


def structure_of(module: nn.Module) -> Structure:
    """Return the structure of a module, without its parameters."""
    return Structure(copy.deepcopy(module).to("meta"))


def norm_like(norm: Norm) -> NewNorm:
    """Return a function that makes new batch norms of any width, with the class, eps and momentum of `norm`."""
    kind = nn.SyncBatchNorm if isinstance(norm, nn.SyncBatchNorm) else nn.BatchNorm2d

    def new_norm(channels: int) -> Norm:
        return kind(channels, eps=norm.eps, momentum=norm.momentum)

    return new_norm


def copy_norm(source: Norm, target: Norm) -> None:
    """Copy the parameters and statistics of `source` that exist to `target`."""
    with torch.no_grad():
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            tensor = getattr(source, name)
            if tensor is not None:
                getattr(target, name).copy_(tensor)


def scale_shift(norm: Norm) -> tuple[Tensor, Tensor]:
    """Return scale and shift of y = x * scale + shift, the norm's function in eval mode, in float64."""
    mean_C, variance_C = norm.running_mean, norm.running_var
    assert mean_C is not None and variance_C is not None, "norms without running statistics are no sites"
    gamma_C = None if norm.weight is None else norm.weight.double()
    beta_C = None if norm.bias is None else norm.bias.double()
    return norm_scale_shift(gamma_C, beta_C, mean_C.double(), variance_C.double(), norm.eps)


def apply_norm(norm: Norm, input_NCHW: Tensor) -> Tensor:
    """Return the batch norm of eval mode, without the modules of TAIL."""
    return F.batch_norm(
        input_NCHW, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
    )


def apply_in_its_mode(norm: Norm, input_NCHW: Tensor) -> Tensor:
    """Return the batch norm of the norm's mode, without TAIL and without an update of the running statistics."""
    if not norm.training:
        return apply_norm(norm, input_NCHW)
    return F.batch_norm(input_NCHW, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)


def apply_tail(norm: nn.Module, input_NCHW: Tensor) -> Tensor:
    """Return the input after the modules of TAIL."""
    output_NCHW = input_NCHW
    for name in TAIL:
        module = getattr(norm, name, None)
        if isinstance(module, nn.Module):
            output_NCHW = module(output_NCHW)
    return output_NCHW


def add_border(normed_NCHW: Tensor, norm: Norm, margins: Margins) -> Tensor:
    """Return a norm's output, padded with the norm's result for zeros: beta - mean * gamma / sigma.

    The border uses the running statistics in training too, as in the DBB authors' code: a border has no batch.
    """
    if not any(margins):
        return normed_NCHW
    _, shift_C = scale_shift(norm)
    border_1C11 = shift_C.detach().to(normed_NCHW.dtype).reshape(1, -1, 1, 1)
    return F.pad(normed_NCHW - border_1C11, margins) + border_1C11


def set_to_shift(norm: Norm, shift_C: Tensor) -> None:
    """Set the norm so that it only adds `shift_C`: gamma 1, mean 0, variance 1 - eps."""
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
    """Silence a branch that ends with its norm: set gamma to zero."""
    nn.init.zeros_(branch.get_parameter("norm.weight"))


def set_to_identity(norm: Norm, like: Norm) -> None:
    """Set a new norm to the identity for inputs with the statistics of `like`, in training and in eval mode.

    gamma is sigma and beta is the mean. The norm that follows corrects batch statistics that differ.
    """
    assert norm.running_mean is not None and norm.running_var is not None
    assert like.running_mean is not None and like.running_var is not None
    with torch.no_grad():
        norm.running_mean.copy_(like.running_mean)
        norm.running_var.copy_(like.running_var)
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        norm.bias.copy_(norm.running_mean)

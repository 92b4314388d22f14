"""What a layer of somebody's own class computes, seen on a copy with drawn numbers: zeros would hide it."""

import math
from collections.abc import Iterator
from typing import Literal, NewType

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from steps.reparam.geometry import Margins, geometry_of, same_margins
from steps.reparam.norms import PLAIN_NORMS, apply_in_its_mode, apply_tail
from steps.tracing.copies import copied
from steps.tracing.randomness import drawing_alike

SAME = 1e-4  # of float32 numbers around 1; another function is off by 1e-2 and more
ENOUGH = 8  # rows and columns
NO_OTHER_WEIGHT = "takes no other weight"
Reason = NewType("Reason", str)  # why a layer is left as it is


@torch.no_grad()
def draw_numbers(model: nn.Module) -> None:
    """Give a network, in place, numbers as after training, the same ones in each call: they show what zeros hide.

    All parameters, and the statistics of batch norms: numbers that overflow would hide what is computed of them.
    """
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_floating_point() and parameter.numel():
                weighs = name == "weight" and isinstance(module, nn.Linear | _ConvNd)  # of one output too
                drawn = _matrix if weighs or parameter.numel() > max(parameter.shape, default=1) else _vector
                parameter.copy_(drawn(name, parameter, generator))
        if isinstance(module, _BatchNorm):
            if module.weight is not None:
                module.weight.mul_(_normal(module.weight, generator).sign())
            if module.running_mean is not None and module.running_var is not None:
                module.running_mean.copy_(0.3 * _normal(module.running_mean, generator))
                module.running_var.copy_(_even(module.running_var, generator))


def _matrix(_: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    """Return numbers for a kernel or matrix, that keep the size of its input."""
    return _normal(parameter, generator) / math.sqrt(parameter[0].numel())


def _vector(name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    """Return numbers for a bias, or a scale: above zero, whatever its shape (1,C,1,1): it may go under a root."""
    return 0.3 * _normal(parameter, generator) if name.endswith("bias") else _even(parameter, generator)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=torch.float32)


def _even(like: Tensor, generator: torch.Generator) -> Tensor:
    return 0.5 + torch.rand(like.shape, generator=generator, dtype=torch.float32)


@torch.no_grad()
def is_norm_and_tail(norm: nn.Module, shape: torch.Size) -> bool:
    """Whether a norm's module computes a batch norm and then its tail, in its mode, on images like these."""
    if type(norm) in PLAIN_NORMS:
        return True
    assert isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
    small = (*shape[:2], *(min(side, ENOUGH) for side in shape[2:]))  # a norm knows no neighbours
    probe_NCHW = torch.randn(small, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    itself, reference = copied(norm), copied(norm)
    draw_numbers(itself)
    draw_numbers(reference)
    try:
        with drawing_alike():
            given = itself.forward(probe_NCHW.clone())
        with drawing_alike():
            expected = apply_tail(reference, apply_in_its_mode(reference, probe_NCHW))
        return same(expected, given)
    except Exception:  # whatever a class of one's own raises
        return False


@torch.no_grad()
def own_rules(conv: nn.Conv2d, shape: torch.Size) -> Margins | Literal["nothing"] | Reason | None:
    """Return what a convolution of another class does that a plain one does not, on images of this shape.

    A reason, where no norm can go into its weight; "nothing"; the zeros that it adds around the image by that
    image's size, none at all on some; or None, where what it does is unknown, but a norm can go into its weight.
    """
    probe_NCHW = _probe(shape)
    drawn = copied(conv)
    try:
        weight = torch.randn(conv.weight.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float32)
        drawn.weight = nn.Parameter(weight / weight[0].numel() ** 0.5)
        if not _takes_a_norm(drawn, probe_NCHW):
            return Reason(f"unsupported kernel: {type(conv).__name__} makes more of its weight than a convolution")
        seen = [(probe_NCHW, drawn.forward(probe_NCHW.clone())), *_larger(drawn, shape)]
        if all(_is_plain(drawn, *images) for images in seen):
            return "nothing"
        return same_margins(drawn, seen)
    except Exception as fault:  # whatever a class of one's own raises
        name = type(conv).__name__
        return Reason(f"unsupported kernel: {name} {NO_OTHER_WEIGHT} ({type(fault).__name__})")


def _larger(conv: nn.Conv2d, shape: torch.Size) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield somewhat larger images, not square, and what the convolution makes of those that it takes.

    A padding by size that adds nothing at one size adds something at the next ones, up to the stride.
    """
    *others, rows, columns = shape
    for more in range(1, max(geometry_of(conv).stride) + 1):
        probe_NCHW = _probe(torch.Size([*others, rows + more, columns + 2 * more]))
        try:
            yield probe_NCHW, conv.forward(probe_NCHW.clone())
        except Exception:  # it refuses that size, and computes nothing else there
            continue


def _is_plain(conv: nn.Conv2d, probe_NCHW: Tensor, given_NCHW: Tensor) -> bool:
    try:
        return same(nn.Conv2d.forward(conv, probe_NCHW.clone()), given_NCHW)
    except RuntimeError:  # a kernel larger than the image, which a padding of its own makes room for
        return False


def _probe(shape: torch.Size) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float32)


def _takes_a_norm(conv: nn.Conv2d, probe_NCHW: Tensor) -> bool:
    """Whether scaling its weight and setting its bias do to the output what they do to a plain convolution's.

    A weight-standardised convolution undoes the scale; one that only pads in its own way does not.
    """
    generator = torch.Generator().manual_seed(0)
    scale_O11, shift_O11 = torch.randn(2, conv.out_channels, 1, 1, generator=generator, dtype=torch.float32)
    plain, normed = copied(conv), copied(conv)
    plain.bias = None
    normed.weight = nn.Parameter(conv.weight * scale_O11[..., None])
    normed.bias = nn.Parameter(shift_O11.flatten())
    expected = plain.forward(probe_NCHW.clone()) * scale_O11 + shift_O11
    return same(expected, normed.forward(probe_NCHW.clone()))


@torch.no_grad()
def same(expected: Tensor, given: object, within: float = SAME) -> bool:
    """Whether two tensors are equal but for a share of the largest number; infinities at the same places are."""
    if not isinstance(given, Tensor) or given.shape != expected.shape:
        return False
    if torch.equal(expected, given):  # usually, and quick
        return True
    finite = expected[expected.isfinite()]
    largest = float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(given, expected, rtol=0, atol=within * largest, equal_nan=True)

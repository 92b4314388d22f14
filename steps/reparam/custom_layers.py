"""Tests of what a layer of a custom class computes, run on a copy with random weights: zeros would hide much."""

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
from steps.tracing.randomness import fixed_draws

SAME = 1e-4  # relative, for float32 numbers around 1; a different function differs by 1e-2 and more
PROBE_SIDE = 8  # rows and columns
NO_OTHER_WEIGHT = "takes no other weight"
Reason = NewType("Reason", str)  # why a layer is not changed


@torch.no_grad()
def draw_numbers(model: nn.Module) -> None:
    """Set all parameters and norm statistics, in place, to random numbers like those after training.

    Every call draws the same numbers. Zeros would hide what a layer computes, and so would numbers that overflow.
    """
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_floating_point() and parameter.numel():
                is_weight = name == "weight" and isinstance(module, nn.Linear | _ConvNd)  # also with one output
                draw = _matrix if is_weight or parameter.numel() > max(parameter.shape, default=1) else _vector
                parameter.copy_(draw(name, parameter, generator))
        if isinstance(module, _BatchNorm):
            if module.weight is not None:
                module.weight.mul_(_normal(module.weight, generator).sign())
            if module.running_mean is not None and module.running_var is not None:
                module.running_mean.copy_(0.3 * _normal(module.running_mean, generator))
                module.running_var.copy_(_uniform(module.running_var, generator))


def _matrix(_: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    """Return numbers for a kernel or a matrix, scaled so that outputs are about as large as inputs."""
    return _normal(parameter, generator) / math.sqrt(parameter[0].numel())


def _vector(name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    """Return numbers for a bias, or for a scale; a scale is above zero, because a layer may take its root."""
    return 0.3 * _normal(parameter, generator) if name.endswith("bias") else _uniform(parameter, generator)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=torch.float32)


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return 0.5 + torch.rand(like.shape, generator=generator, dtype=torch.float32)


@torch.no_grad()
def is_norm_and_tail(norm: nn.Module, shape: torch.Size) -> bool:
    """Return whether a norm's module computes a batch norm and then its TAIL, in its mode, for this shape."""
    if type(norm) in PLAIN_NORMS:
        return True
    assert isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
    small = (*shape[:2], *(min(side, PROBE_SIDE) for side in shape[2:]))  # a norm reads no neighbouring pixels
    probe_NCHW = torch.randn(small, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    tested, reference = copied(norm), copied(norm)
    draw_numbers(tested)
    draw_numbers(reference)
    try:
        with fixed_draws():
            actual = tested.forward(probe_NCHW.clone())
        with fixed_draws():
            expected = apply_tail(reference, apply_in_its_mode(reference, probe_NCHW))
        return same(expected, actual)
    except Exception:  # a custom class may raise anything
        return False


@torch.no_grad()
def custom_rules(conv: nn.Conv2d, shape: torch.Size) -> Margins | Literal["nothing"] | Reason | None:
    """Return how a convolution of a custom class differs from a plain one, on images of this shape.

    "nothing": no difference. Margins: the convolution pads with zeros by the image's size, and these are the zeros
    for this shape. A Reason: a norm cannot be folded into the weight. None: the difference is unknown, but a norm
    can be folded into the weight.
    """
    probe_NCHW = _probe(shape)
    drawn = copied(conv)
    try:
        weight = torch.randn(conv.weight.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float32)
        drawn.weight = nn.Parameter(weight / weight[0].numel() ** 0.5)
        if not _takes_a_norm(drawn, probe_NCHW):
            return Reason(f"unsupported kernel: {type(conv).__name__} does not scale its output with its weight")
        pairs = [(probe_NCHW, drawn.forward(probe_NCHW.clone())), *_larger(drawn, shape)]
        if all(_is_plain(drawn, *pair) for pair in pairs):
            return "nothing"
        return same_margins(drawn, pairs)
    except Exception as fault:  # a custom class may raise anything
        name = type(conv).__name__
        return Reason(f"unsupported kernel: {name} {NO_OTHER_WEIGHT} ({type(fault).__name__})")


def _larger(conv: nn.Conv2d, shape: torch.Size) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield slightly larger images, not square, each with the convolution's output; skip sizes that it refuses.

    A padding that depends on the size may add nothing at one size. Among the next `stride` sizes it adds
    something.
    """
    *batch_and_channels, rows, columns = shape
    for more in range(1, max(geometry_of(conv).stride) + 1):
        probe_NCHW = _probe(torch.Size([*batch_and_channels, rows + more, columns + 2 * more]))
        try:
            yield probe_NCHW, conv.forward(probe_NCHW.clone())
        except Exception:  # the convolution refuses this size
            continue


def _is_plain(conv: nn.Conv2d, probe_NCHW: Tensor, output_NCHW: Tensor) -> bool:
    try:
        return same(nn.Conv2d.forward(conv, probe_NCHW.clone()), output_NCHW)
    except RuntimeError:  # the kernel is larger than the image; only the custom padding makes it fit
        return False


def _probe(shape: torch.Size) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float32)


def _takes_a_norm(conv: nn.Conv2d, probe_NCHW: Tensor) -> bool:
    """Return whether a scaled weight and a new bias change the output as in a plain convolution.

    A weight-standardised convolution undoes the scale. A convolution that only pads differently does not.
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
def same(expected: Tensor, actual: object, within: float = SAME) -> bool:
    """Return whether two tensors differ by at most `within` times the largest finite number.

    Infinities and NaN count as equal where both tensors have them in the same positions.
    """
    if not isinstance(actual, Tensor) or actual.shape != expected.shape:
        return False
    if torch.equal(expected, actual):  # the usual case, and fast
        return True
    finite = expected[expected.isfinite()]
    largest = float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(actual, expected, rtol=0, atol=within * largest, equal_nan=True)

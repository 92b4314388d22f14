"""Fold by probing: what an affine block does to unit impulses is its kernel, what it makes of zeros its bias.

It asks nothing of who wrote the block, nor how: one call a chunk of impulses, and the function itself answers.
Letters: N images, C channels, O output channels, I input channels of one group, K taps, H rows, W columns.
"""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from steps.errors import BadInput
from steps.reparam.geometry import Geometry, pad_once
from steps.reparam.kernels import Affine

Block = Callable[[Tensor], Tensor]
CHUNK = 256  # impulses in one call
EXACT = 1e-11  # float64 leaves 1e-15 usually; a block that is no convolution is off by 1e-3 and more


@torch.no_grad()
def probe(block: Block, geometry: Geometry, like: Tensor) -> Affine:
    """Return the weight_OIKK and bias_O of the convolution of this geometry that `block` computes.

    The block takes and returns images in float64 on the device of `like`, in eval mode. Raises BadInput where
    it is no such convolution: random images are convolved both ways afterwards.
    """
    rows, columns = (_taps(geometry, axis) for axis in (0, 1))
    zeros_1CHW = like.new_zeros((1, geometry.in_channels, rows.size, columns.size), dtype=torch.float64)
    weight_OIKK = like.new_zeros(
        (geometry.out_channels, geometry.in_channels // geometry.groups, *geometry.kernel), dtype=torch.float64
    )
    still_1OHW = block(zeros_1CHW)
    _refuse_other_shape(convolve(zeros_1CHW, geometry, (weight_OIKK, weight_OIKK[:, 0, 0, 0])), still_1OHW)
    bias_O = still_1OHW[0, :, rows.inside, columns.inside]
    for row, seen_rows in rows.seen.items():
        for column, seen_columns in columns.seen.items():
            for inputs, answers_NOHW in _answers(block, geometry, zeros_1CHW, row, column):
                moved_NOHW = answers_NOHW - still_1OHW
                for row_tap, out_row in seen_rows:
                    for column_tap, out_column in seen_columns:
                        weight_OIKK[:, inputs, row_tap, column_tap] = moved_NOHW[:, :, out_row, out_column].T
    _check(block, geometry, (weight_OIKK, bias_O))
    return weight_OIKK, bias_O


@torch.no_grad()
def probe_linear(block: Block, inputs: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight_OI and bias_O of the linear layer that `block`, of vectors_NC in float64, computes."""
    eye_CC = torch.eye(inputs, dtype=torch.float64, device=like.device)
    bias_O = block(torch.zeros_like(eye_CC[:1]))[0]
    weight_OI = (block(eye_CC) - bias_O).T
    vectors_NC = torch.randn(4, inputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vectors_NC = vectors_NC.to(like.device)
    _refuse_unequal(F.linear(vectors_NC, weight_OI, bias_O), block(vectors_NC), "a linear layer")
    return weight_OI, bias_O


class _Taps:
    """Along one axis: how large an image, where impulses go, and where each tap of the kernel then shows."""

    def __init__(self, size: int, inside: int, seen: dict[int, list[tuple[int, int]]]) -> None:
        self.size, self.inside, self.seen = size, inside, seen


def _taps(geometry: Geometry, axis: int) -> _Taps:
    """Return the least image on which every tap is seen by a window that reads no border, but zeros.

    An output at place q reads tap k at q * stride + k * dilation - padding; so one impulse shows every tap
    whose place leaves the same remainder by the stride, and `stride` neighbouring impulses show all.
    """
    kernel, stride, dilation = geometry.kernel[axis], geometry.stride[axis], geometry.dilation[axis]
    before, after = (geometry.pads[2], geometry.pads[3]) if axis == 0 else geometry.pads[:2]
    zeros_before, zeros_after = (before, after) if geometry.pad_mode == "zeros" else (0, 0)
    reach = (kernel - 1) * dilation
    first = -(-(max(0, reach - zeros_before) + before) // stride) * stride - before
    seen = {
        place: [(tap, (place + before - tap * dilation) // stride) for tap in taps]
        for place in range(first, first + stride)
        if (taps := [tap for tap in range(kernel) if (place + before - tap * dilation) % stride == 0])
    }
    # a border that reflects needs as much image
    size = max(first + stride + max(0, reach - zeros_after), before + 1, after + 1)
    return _Taps(size, (first + before) // stride, seen)


def _answers(
    block: Block, geometry: Geometry, zeros_1CHW: Tensor, row: int, column: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield the input channels of a group, and what the block answers to an impulse in each.

    All groups are asked at once: the channels of another group show in no output of this one.
    """
    inputs = geometry.in_channels // geometry.groups
    for first in range(0, inputs, CHUNK):
        channels = list(range(first, min(first + CHUNK, inputs)))
        impulses_NCHW = zeros_1CHW.repeat(len(channels), 1, 1, 1)
        for number, channel in enumerate(channels):
            impulses_NCHW[number, channel::inputs, row, column] = 1.0
        yield channels, block(impulses_NCHW)


def _check(block: Block, geometry: Geometry, affine: Affine) -> None:
    """Raise BadInput unless block and convolution agree on random images, borders included."""
    rows, columns = (_taps(geometry, axis).size for axis in (0, 1))
    generator = torch.Generator().manual_seed(0)
    shape = (2, geometry.in_channels, rows + geometry.stride[0], columns + 2)
    images_NCHW = torch.randn(shape, generator=generator, dtype=torch.float64).to(affine[0].device)
    _refuse_unequal(convolve(images_NCHW, geometry, affine), block(images_NCHW), "a convolution")


def convolve(images_NCHW: Tensor, geometry: Geometry, affine: Affine) -> Tensor:
    """Return what a convolution of this geometry, weight and bias makes of the images."""
    weight_OIKK, bias_O = affine
    padded_NCHW = F.pad(pad_once(images_NCHW, geometry), geometry.margins)
    return F.conv2d(padded_NCHW, weight_OIKK, bias_O, geometry.stride, 0, geometry.dilation, geometry.groups)


def largest_error(expected: Tensor, given: Tensor) -> float:
    """Return the largest absolute difference over the largest absolute value expected; infinite if not finite."""
    if expected.shape != given.shape:
        return math.inf
    if expected.numel() == 0:
        return 0.0
    wanted, found = expected.detach().double(), given.detach().double()
    difference, largest = float((wanted - found).abs().max()), float(wanted.abs().max())
    error = 0.0 if difference == 0 else difference / largest if largest > 0 else math.inf
    return error if error < math.inf else math.inf  # not a number is less than nothing


def _refuse_other_shape(expected: Tensor, given: Tensor) -> None:
    if expected.shape != given.shape:
        shapes = f"returns {tuple(given.shape)}, not {tuple(expected.shape)}"
        raise BadInput(f"the block is not a convolution of this geometry: it {shapes}.")


def _refuse_unequal(expected: Tensor, given: Tensor, what: str) -> None:
    error = largest_error(expected, given)
    if error > EXACT:
        raise BadInput(f"the block is not {what}: on random numbers it differs by {error:.2g} of the largest.")

"""Fold by probing: an affine block's outputs for unit impulses are its kernel, its output for zeros is its bias.

Probing only calls the block, one call per chunk of impulses. So it works for blocks of any library.
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
EXACT = 1e-11  # rounding in float64 gives about 1e-15; a block that is no convolution differs by 1e-3 and more


@torch.no_grad()
def probe(block: Block, geometry: Geometry, like: Tensor) -> Affine:
    """Return weight_OIKK and bias_O of the convolution of this geometry that `block` computes.

    The block takes and returns images in float64 on the device of `like`, in eval mode. Afterwards, random images
    go through the block and the convolution. Raises BadInput if the results differ: the block is no such
    convolution.
    """
    rows, columns = (_taps(geometry, axis) for axis in (0, 1))
    zeros_1CHW = like.new_zeros((1, geometry.in_channels, rows.size, columns.size), dtype=torch.float64)
    weight_OIKK = like.new_zeros(
        (geometry.out_channels, geometry.in_channels // geometry.groups, *geometry.kernel), dtype=torch.float64
    )
    zero_output_1OHW = block(zeros_1CHW)
    _refuse_other_shape(convolve(zeros_1CHW, geometry, (weight_OIKK, weight_OIKK[:, 0, 0, 0])), zero_output_1OHW)
    bias_O = zero_output_1OHW[0, :, rows.inside, columns.inside]
    for row, seen_rows in rows.seen.items():
        for column, seen_columns in columns.seen.items():
            for inputs, outputs_NOHW in _responses(block, geometry, zeros_1CHW, row, column):
                changes_NOHW = outputs_NOHW - zero_output_1OHW
                for row_tap, out_row in seen_rows:
                    for column_tap, out_column in seen_columns:
                        weight_OIKK[:, inputs, row_tap, column_tap] = changes_NOHW[:, :, out_row, out_column].T
    _check(block, geometry, (weight_OIKK, bias_O))
    return weight_OIKK, bias_O


@torch.no_grad()
def probe_linear(block: Block, inputs: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight_OI and bias_O of the linear layer that `block` computes on vectors_NC in float64."""
    eye_CC = torch.eye(inputs, dtype=torch.float64, device=like.device)
    bias_O = block(torch.zeros_like(eye_CC[:1]))[0]
    weight_OI = (block(eye_CC) - bias_O).T
    vectors_NC = torch.randn(4, inputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vectors_NC = vectors_NC.to(like.device)
    _refuse_unequal(F.linear(vectors_NC, weight_OI, bias_O), block(vectors_NC), "a linear layer")
    return weight_OI, bias_O


class _Taps:
    """For one axis: the image size, the impulse positions, and the output positions that show each kernel tap."""

    def __init__(self, size: int, inside: int, seen: dict[int, list[tuple[int, int]]]) -> None:
        self.size, self.inside, self.seen = size, inside, seen


def _taps(geometry: Geometry, axis: int) -> _Taps:
    """Return the smallest image that shows every tap in a window that reads no padding other than zeros.

    The output at position q reads with tap k the input at q * stride + k * dilation - padding. So one impulse
    shows the taps with one remainder modulo the stride, and `stride` adjacent impulses show all taps.
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
    # reflection padding needs an image larger than the padding
    size = max(first + stride + max(0, reach - zeros_after), before + 1, after + 1)
    return _Taps(size, (first + before) // stride, seen)


def _responses(
    block: Block, geometry: Geometry, zeros_1CHW: Tensor, row: int, column: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield some input channels of a group, and the block's outputs for an impulse in each of these channels.

    The impulse is set in all groups at once, because an output depends only on the channels of its own group.
    """
    inputs = geometry.in_channels // geometry.groups
    for first in range(0, inputs, CHUNK):
        channels = list(range(first, min(first + CHUNK, inputs)))
        impulses_NCHW = zeros_1CHW.repeat(len(channels), 1, 1, 1)
        for number, channel in enumerate(channels):
            impulses_NCHW[number, channel::inputs, row, column] = 1.0
        yield channels, block(impulses_NCHW)


def _check(block: Block, geometry: Geometry, affine: Affine) -> None:
    """Raise BadInput unless the block and the convolution agree on random images, including the borders."""
    rows, columns = (_taps(geometry, axis).size for axis in (0, 1))
    generator = torch.Generator().manual_seed(0)
    shape = (2, geometry.in_channels, rows + geometry.stride[0], columns + 2)
    images_NCHW = torch.randn(shape, generator=generator, dtype=torch.float64).to(affine[0].device)
    _refuse_unequal(convolve(images_NCHW, geometry, affine), block(images_NCHW), "a convolution")


def convolve(images_NCHW: Tensor, geometry: Geometry, affine: Affine) -> Tensor:
    """Return the convolution of the images with this geometry, weight and bias."""
    weight_OIKK, bias_O = affine
    padded_NCHW = F.pad(pad_once(images_NCHW, geometry), geometry.margins)
    return F.conv2d(padded_NCHW, weight_OIKK, bias_O, geometry.stride, 0, geometry.dilation, geometry.groups)


def largest_error(expected: Tensor, actual: Tensor) -> float:
    """Return the largest absolute difference over the largest absolute expected value; infinity if not finite."""
    if expected.shape != actual.shape:
        return math.inf
    if expected.numel() == 0:
        return 0.0
    expected_f64, actual_f64 = expected.detach().double(), actual.detach().double()
    difference, largest = float((expected_f64 - actual_f64).abs().max()), float(expected_f64.abs().max())
    error = 0.0 if difference == 0 else difference / largest if largest > 0 else math.inf
    return error if error < math.inf else math.inf  # NaN becomes infinity: NaN < inf is False


def _refuse_other_shape(expected: Tensor, actual: Tensor) -> None:
    if expected.shape != actual.shape:
        shapes = f"returns {tuple(actual.shape)}, not {tuple(expected.shape)}"
        raise BadInput(f"the block is not a convolution of this geometry: it {shapes}.")


def _refuse_unequal(expected: Tensor, actual: Tensor, kind: str) -> None:
    error = largest_error(expected, actual)
    if error > EXACT:
        raise BadInput(
            f"the block is not {kind}: on random numbers its output differs by {error:.2g} of the largest output."
        )

"""The geometry of one convolution, and the padding that a smaller kernel inside its window needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PadMode = Literal["zeros", "reflect", "replicate", "circular"]
Margins = tuple[int, int, int, int]  # left, right, top, bottom, as F.pad takes them; negative crops


@dataclass(frozen=True)
class Geometry:
    """A Conv2d without its weights. Pairs are (rows, columns)."""

    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    pads: Margins
    pad_mode: PadMode

    @property
    def centre(self) -> tuple[int, int]:
        """The middle tap (row, column); for an even kernel size, the tap before the middle."""
        return (self.kernel[0] - 1) // 2, (self.kernel[1] - 1) // 2

    @property
    def margins(self) -> Margins:
        """The zeros to add around an input after `pad_once`."""
        return self.pads if self.pad_mode == "zeros" else (0, 0, 0, 0)


def geometry_of(conv: nn.Conv2d, zeros_seen: Margins | None = None) -> Geometry:
    """Return the geometry of a convolution; its padding may be numbers, 'same' or 'valid'.

    `zeros_seen` are the margins of zeros that a convolution with a custom padding was observed to add.
    """
    return Geometry(
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        kernel=_pair(conv.kernel_size),
        stride=_pair(conv.stride),
        dilation=_pair(conv.dilation),
        groups=conv.groups,
        pads=zeros_seen or _pads(conv),
        pad_mode="zeros" if zeros_seen else conv.padding_mode,
    )


def _pads(conv: nn.Conv2d) -> Margins:
    """Return the margins that torch's forward uses, also where code changed them after the layer was made."""
    if conv.padding_mode != "zeros":
        left, right, top, bottom = conv._reversed_padding_repeated_twice
        return left, right, top, bottom
    if conv.padding == "valid":
        return 0, 0, 0, 0
    if conv.padding != "same":
        rows, columns = _pair(conv.padding)
        return columns, columns, rows, rows
    rows, columns = (
        dilation * (kernel - 1)
        for kernel, dilation in zip(_pair(conv.kernel_size), _pair(conv.dilation), strict=True)
    )
    return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2


def same_margins(conv: nn.Conv2d, pairs: Sequence[tuple[Tensor, Tensor]]) -> Margins | None:
    """Return the zeros that a convolution with a custom padding adds to the first input, or None if no rule fits.

    `pairs` are inputs of several sizes, each with the convolution's output. Two rules are tried. TensorFlow's SAME
    (timm's Conv2dSame) computes the zeros from each input's size, as in `zeros_for`. A fixed padding adds to every
    input the zeros that SAME computes for the first input (efficientnet_lite_pytorch).
    """
    by_size = [zeros_for(geometry_of(conv), input_NCHW) for input_NCHW, _ in pairs]
    rules = by_size, by_size[:1] * len(pairs)
    if any(all(_adds(margins, conv, *pair) for margins, pair in zip(rule, pairs, strict=True)) for rule in rules):
        return by_size[0]
    return None


def _adds(margins: Margins, conv: nn.Conv2d, input_NCHW: Tensor, output_NCHW: Tensor) -> bool:
    padded_NCHW = F.pad(input_NCHW, margins)
    actual = F.conv2d(padded_NCHW, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)
    return actual.shape == output_NCHW.shape and bool(torch.allclose(actual, output_NCHW, rtol=1e-4, atol=1e-4))


def zeros_for(geometry: Geometry, input_NCHW: Tensor) -> Margins:
    """Return the zeros that TensorFlow's SAME adds to an input, enough for ceil(size / stride) outputs.

    If the number of zeros is odd, the additional zero goes to the right or to the bottom.
    """
    rows, columns = (
        max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
        for size, stride, kernel, dilation in zip(
            input_NCHW.shape[2:], geometry.stride, geometry.kernel, geometry.dilation, strict=True
        )
    )
    return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2


def pad_once(input_NCHW: Tensor, geometry: Geometry) -> Tensor:
    """Return the input with the convolution's padding, but without zeros: each branch adds its zeros itself."""
    if geometry.pad_mode == "zeros":
        return input_NCHW
    return F.pad(input_NCHW, geometry.pads, mode=geometry.pad_mode)


def window_margins(geometry: Geometry, kernel: tuple[int, int], offset: tuple[int, int]) -> Margins:
    """Return the margins, after `pad_once`, of a kernel at `offset` inside the convolution's window.

    A kernel that begins o taps inside the window reads its input o * dilation pixels later than the window.
    """
    left, right, top, bottom = geometry.margins
    before = [tap * dilation for tap, dilation in zip(offset, geometry.dilation, strict=True)]
    after = [
        (whole - tap - part) * dilation
        for whole, tap, part, dilation in zip(geometry.kernel, offset, kernel, geometry.dilation, strict=True)
    ]
    return left - before[1], right - after[1], top - before[0], bottom - after[0]


def split_margins(margins: Margins) -> tuple[Margins, tuple[int, int]]:
    """Return the margins to apply before a convolution, and the convolution's own padding (rows, columns)."""
    left, right, top, bottom = margins
    columns = max(0, min(left, right))
    rows = max(0, min(top, bottom))
    return (left - columns, right - columns, top - rows, bottom - rows), (rows, columns)


def apply_margins(input_NCHW: Tensor, margins: Margins) -> Tensor:
    """Return the input with zeros added, or pixels cropped, on each side."""
    left, right, top, bottom = margins
    height, width = input_NCHW.shape[2:]
    cropped = input_NCHW[:, :, max(0, -top) : height - max(0, -bottom), max(0, -left) : width - max(0, -right)]
    added = [max(0, margin) for margin in margins]
    return F.pad(cropped, added) if any(added) else cropped


def _pair(value: Any) -> tuple[int, int]:
    """Return (rows, columns); code that changes a layer after it was made may set one number."""
    rows, columns = (value, value) if isinstance(value, int) else value
    return rows, columns

"""The shape of one convolution, and where a smaller kernel inside its window finds its input."""

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
        """The middle tap; of an even kernel the one before the middle."""
        return (self.kernel[0] - 1) // 2, (self.kernel[1] - 1) // 2

    @property
    def margins(self) -> Margins:
        """What is still to be added around an input that passed `pad_once`."""
        return self.pads if self.pad_mode == "zeros" else (0, 0, 0, 0)


def geometry_of(conv: nn.Conv2d, zeros_seen: Margins | None = None) -> Geometry:
    """Return the geometry of a convolution, padding given as numbers or as 'same' or 'valid'.

    `zeros_seen` are the margins of zeros that a convolution with a padding of its own was seen to add.
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
    """Return the margins that torch's own forward takes, also where they were set after the layer was made."""
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


def same_margins(conv: nn.Conv2d, seen: Sequence[tuple[Tensor, Tensor]]) -> Margins | None:
    """Return the zeros that a convolution with a padding of its own adds to the first of these inputs, or None.

    `seen` are inputs of several sizes, each with its output: whether the convolution pads like that shows in
    these. The rule is TensorFlow's SAME (timm's Conv2dSame and its kin): as many zeros as the output's size needs,
    the odd one after; or as many as that is for the first input, whatever the size (efficientnet_lite_pytorch's).
    """
    by_size = [zeros_for(geometry_of(conv), input_NCHW) for input_NCHW, _ in seen]
    rules = by_size, by_size[:1] * len(seen)
    if any(all(_adds(margins, conv, *one) for margins, one in zip(rule, seen, strict=True)) for rule in rules):
        return by_size[0]
    return None


def _adds(margins: Margins, conv: nn.Conv2d, input_NCHW: Tensor, output_NCHW: Tensor) -> bool:
    padded_NCHW = F.pad(input_NCHW, margins)
    given = F.conv2d(padded_NCHW, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)
    return given.shape == output_NCHW.shape and bool(torch.allclose(given, output_NCHW, rtol=1e-4, atol=1e-4))


def zeros_for(geometry: Geometry, input_NCHW: Tensor) -> Margins:
    """Return the zeros that TensorFlow's SAME adds to an input: ceil(size / stride) outputs, the odd one after."""
    rows, columns = (
        max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
        for size, stride, kernel, dilation in zip(
            input_NCHW.shape[2:], geometry.stride, geometry.kernel, geometry.dilation, strict=True
        )
    )
    return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2


def pad_once(input_NCHW: Tensor, geometry: Geometry) -> Tensor:
    """Return the input with the convolution's own border; zeros are left to each branch's convolution."""
    if geometry.pad_mode == "zeros":
        return input_NCHW
    return F.pad(input_NCHW, geometry.pads, mode=geometry.pad_mode)


def window_margins(geometry: Geometry, kernel: tuple[int, int], offset: tuple[int, int]) -> Margins:
    """Return the margins, after `pad_once`, of a kernel at `offset` inside the convolution's window.

    A kernel that begins o taps later reads its input o * dilation pixels later, and ends as much earlier.
    """
    left, right, top, bottom = geometry.margins
    before = [place * dilation for place, dilation in zip(offset, geometry.dilation, strict=True)]
    after = [
        (whole - place - part) * dilation
        for whole, place, part, dilation in zip(geometry.kernel, offset, kernel, geometry.dilation, strict=True)
    ]
    return left - before[1], right - after[1], top - before[0], bottom - after[0]


def split_margins(margins: Margins) -> tuple[Margins, tuple[int, int]]:
    """Return margins to apply beforehand, and the padding (rows, columns) that a convolution can do itself."""
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
    """Return (rows, columns); what is set on a layer after it was made may be one number."""
    rows, columns = (value, value) if isinstance(value, int) else value
    return rows, columns

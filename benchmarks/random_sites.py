"""Random convolutions, their images, and numbers as after training: for fold_sites and the tests of reparam."""

import math
import random
import warnings

import torch
from torch import Tensor, nn

from steps.reparam.geometry import PadMode, geometry_of

PAD_MODES: tuple[PadMode, ...] = ("zeros", "reflect", "replicate", "circular")


class Site(nn.Module):
    """One convolution and its norm."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv: nn.Module = conv
        self.norm = nn.BatchNorm2d(conv.out_channels, eps=1e-3)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return the normed convolution."""
        normed: Tensor = self.norm(self.conv(image_NCHW))
        return normed


def drawn_conv(draw: random.Random) -> nn.Conv2d:
    """Return a convolution in float64: any kernel, stride, dilation, groups, padding, padding mode, bias."""
    groups = draw.choice([1, 1, 2, 4])
    inputs = groups * draw.choice([1, 1, 2, 3])
    outputs = draw.choice([inputs, groups * draw.randint(1, 3)])
    kernel, dilation, stride = ((draw.randint(1, most), draw.randint(1, most)) for most in (5, 3, 3))
    padding: tuple[int, int] | str = (draw.randint(0, 4), draw.randint(0, 4))
    if draw.random() < 0.2:
        padding, stride = "same", (1, 1)
    torch.manual_seed(draw.getrandbits(32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's word on padding 'same' of an even kernel
        return nn.Conv2d(
            inputs,
            outputs,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            bias=draw.random() < 0.5,
            padding_mode=draw.choice(PAD_MODES),
            dtype=torch.float64,
        )


def image_for(conv: nn.Conv2d, more: tuple[int, int]) -> Tensor:
    """Return two images, larger by `more` than the least that the window, and a border that reflects, allow."""
    geometry = geometry_of(conv)
    height, width = (
        max((kernel - 1) * dilation + 1, max(pads) + 1) + extra
        for kernel, dilation, pads, extra in zip(
            geometry.kernel, geometry.dilation, (geometry.pads[2:], geometry.pads[:2]), more, strict=True
        )
    )
    return torch.randn(2, conv.in_channels, height, width, dtype=torch.float64)


@torch.no_grad()
def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter and statistic a number as after training, none at its start, and set eval mode.

    What begins at zero or one (a branch's 1x1, a scale) would otherwise be left out of every comparison.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator).to(like)

    def uniform(like: Tensor, least: float, most: float) -> Tensor:
        return least + (most - least) * torch.rand(like.shape, generator=generator).to(like)

    for parameter in model.parameters():
        inputs = math.prod(parameter.shape[1:])
        parameter.add_(0.3 * normal(parameter) / inputs**0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.copy_(0.3 * normal(module.running_mean))
            module.running_var.copy_(uniform(module.running_var, 0.1, 2.3))
            if module.weight is not None:
                module.weight.copy_(uniform(module.weight, 0.5, 1.5) * normal(module.weight).sign())
            if module.bias is not None:
                module.bias.copy_(0.3 * normal(module.bias))
    return model.eval()

"""Small networks and random numbers that the tests of reparam share."""

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from steps.reparam.bare import BareIdentityBranch, BarePointBranch
from steps.reparam.geometry import Geometry, geometry_of

PAD_MODES = ("zeros", "reflect", "replicate", "circular")


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give norms, and branches without one, numbers as after training, none at its default, and set eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BarePointBranch | BareIdentityBranch):
                (numbers,) = module.parameters()
                numbers.copy_(torch.randn(numbers.shape, generator=generator))
            if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))
                module.running_var.copy_(0.3 + 2 * torch.rand(module.num_features, generator=generator))
                if module.weight is not None:
                    module.weight.copy_(0.5 + torch.rand(module.num_features, generator=generator))
                    module.bias.copy_(0.3 * torch.randn(module.num_features, generator=generator))
    return model.eval()


class SmallNet(nn.Module):
    """A stem, a depthwise site, a residual sum, a convolution without norm; registered in a misleading order."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_b = nn.BatchNorm2d(8)
        self.norm_a = nn.BatchNorm2d(8)
        self.conv_a = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.conv_b = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.alone = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return logits."""
        first = self.norm_a(self.conv_a(image_NCHW)).relu()
        second = first + self.norm_b(self.conv_b(first))
        logits: Tensor = self.head(self.alone(second.relu()).mean((2, 3)))
        return logits


class Site(nn.Module):
    """One convolution and its norm."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return the normed convolution."""
        normed: Tensor = self.norm(self.conv(image_NCHW))
        return normed


@st.composite
def convs(draw: st.DrawFn) -> nn.Conv2d:
    """Draw a convolution in float64: any kernel, stride, dilation, groups, padding, padding mode, bias."""
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    per_group = draw(st.integers(1, 3))
    inputs = groups * per_group
    outputs = draw(st.sampled_from([inputs, groups * draw(st.integers(1, 3))]))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding: tuple[int, int] | str = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    if draw(st.integers(0, 4)) == 0:
        padding, stride = "same", (1, 1)
    torch.manual_seed(draw(st.integers(0, 2**31)))
    return nn.Conv2d(
        inputs,
        outputs,
        kernel,
        stride=stride,
        dilation=dilation,
        groups=groups,
        padding=padding,
        padding_mode=draw(st.sampled_from(PAD_MODES)),
        bias=draw(st.booleans()),
        dtype=torch.float64,
    )


def image_for(conv: nn.Conv2d) -> Tensor:
    """Return images large enough for the convolution's window and for reflecting its border."""
    geometry: Geometry = geometry_of(conv)
    height, width = (
        max((kernel - 1) * dilation + 2, 2 * max(pads) + 1, 7)
        for kernel, dilation, pads in zip(
            geometry.kernel, geometry.dilation, (geometry.pads[2:], geometry.pads[:2]), strict=True
        )
    )
    return torch.randn(2, conv.in_channels, height, width + 1, dtype=torch.float64)

"""Networks with the properties that public folds forget, as they are after training."""

import torch
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.squeeze_excite import SqueezeExcite
from timm.models import byobnet, fastvit
from torch import Tensor, nn

from steps.reparam.expand import Mode, expand
from tests.reparam.networks import randomise


class Forgettable(nn.Module):
    """Bias, eps, dilation, padding mode, groups, an activation in a norm, SE, an even kernel, a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_of_even = nn.BatchNorm2d(8)  # registered in a misleading order
        self.norm_of_stem = nn.BatchNorm2d(8, eps=1e-3)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2, padding_mode="reflect", bias=False)
        self.norm_of_dilated = BatchNormAct2d(8)
        self.grouped = nn.Conv2d(8, 8, (5, 3), padding=(2, 1), groups=2, bias=False)
        self.norm_of_grouped = nn.BatchNorm2d(8)
        self.squeeze = SqueezeExcite(8, rd_ratio=0.5)
        self.even = nn.Conv2d(8, 8, (2, 4), stride=2, bias=False)
        self.head = nn.Linear(8, 4)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return logits."""
        first = self.norm_of_stem(self.stem(image_NCHW)).relu()
        second = first + self.norm_of_grouped(self.grouped(self.norm_of_dilated(self.dilated(first))))
        third = self.norm_of_even(self.even(self.squeeze(second)))
        logits: Tensor = self.head(third.relu().mean((2, 3)))
        return logits


class Shared(nn.Module):
    """One convolution with two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.one, self.other = nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return both normed outputs."""
        both: Tensor = self.one(self.conv(image_NCHW)) + self.other(self.conv(image_NCHW.flip(3)))
        return both


def library_network() -> nn.Module:
    """Return blocks from timm: with squeeze-and-excitation, with an identity branch, with a layer scale."""
    layers = byobnet.LayerFn(attn=SqueezeExcite)
    return nn.Sequential(
        byobnet.MobileOneBlock(3, 8, 3, stride=2, num_conv_branches=2, layers=layers),
        byobnet.RepVggBlock(8, 8, 3),
        fastvit.RepMixer(8, layer_scale_init_value=0.5),
    )


def expanded(block: str, mode: Mode = "branch") -> nn.Module:
    """Return the forgettable network as it is after training, in float64."""
    torch.manual_seed(0)
    model = Forgettable()
    expand(model, block, init="standard", mode=mode)
    return randomise(model).double()


def plain_network() -> nn.Module:
    """Return the forgettable network without expansion."""
    torch.manual_seed(0)
    return randomise(Forgettable()).double()


def library() -> nn.Module:
    """Return timm's blocks as they are after training."""
    torch.manual_seed(0)
    return randomise(library_network()).double()


def shared() -> nn.Module:
    """Return the network with the shared convolution."""
    torch.manual_seed(0)
    return randomise(Shared()).double()

"""The plain bodies of MobileOne (Vasu et al., CVPR 2023, tables 2 and 3): depthwise 3x3 and pointwise pairs.

Expanded with `mobileone` blocks they are the MobileOne networks. Letters: N images, C channels, H and W pixels,
K classes.
"""

from collections import OrderedDict
from typing import NamedTuple

from torch import Tensor, nn

from steps.models.layers import conv_norm_act

WIDTHS, DEPTHS = (64, 128, 256, 512), (2, 8, 10, 1)  # of the stages after the stem; each stage halves the size
SQUEEZE = 16  # channels per channel of the squeeze-and-excitation layers


class Variant(NamedTuple):
    """The multipliers of the widths, and the number of pairs with squeeze-and-excitation at each stage's end."""

    multipliers: tuple[float, float, float, float]
    squeezed: tuple[int, int, int, int] = (0, 0, 0, 0)


PAPER: dict[str, Variant] = {
    "mobileone_s0_plain": Variant((0.75, 1.0, 1.0, 2.0)),
    "mobileone_s1_plain": Variant((1.5, 1.5, 2.0, 2.5)),
    "mobileone_s2_plain": Variant((1.5, 2.0, 2.5, 4.0)),
    "mobileone_s3_plain": Variant((2.0, 2.5, 3.0, 4.0)),
    "mobileone_s4_plain": Variant((3.0, 3.5, 3.5, 4.0), (0, 0, 5, 1)),
}


class MobileOnePlain(nn.Module):
    """A dense stem, stages of depthwise and pointwise convolutions, one linear layer on the pooled features."""

    def __init__(self, class_num: int, variant: Variant) -> None:
        super().__init__()
        widths = [int(width * factor) for width, factor in zip(WIDTHS, variant.multipliers, strict=True)]
        inputs = min(64, widths[0])
        self.body = nn.Sequential()
        self.body.add_module("stem", conv_norm_act(3, inputs, 3, stride=2))
        for number, (width, depth, squeezed) in enumerate(zip(widths, DEPTHS, variant.squeezed, strict=True), 1):
            stage = nn.Sequential()
            for position in range(depth):
                pair = _pair(inputs, width, stride=2 if position == 0 else 1)
                if position >= depth - squeezed:
                    pair = OrderedDict((name, _squeezed(layers)) for name, layers in pair.items())
                stage.append(nn.Sequential(OrderedDict[str, nn.Module](pair)))
                inputs = width
            self.body.add_module(f"stage{number}", stage)
        self.head = nn.Linear(inputs, class_num)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return logits_NK."""
        features_NCHW: Tensor = self.body(image_NCHW)
        logits_NK: Tensor = self.head(features_NCHW.mean((2, 3)))
        return logits_NK


def mobileone_plain(name: str, class_num: int) -> MobileOnePlain:
    """Return the body of the paper's network of this name."""
    return MobileOnePlain(class_num, PAPER[name])


def _pair(inputs: int, outputs: int, stride: int) -> OrderedDict[str, nn.Sequential]:
    depthwise = conv_norm_act(inputs, inputs, 3, stride, groups=inputs)
    return OrderedDict(depthwise=depthwise, pointwise=conv_norm_act(inputs, outputs, 1))


def _squeezed(layers: nn.Sequential) -> nn.Sequential:
    """Return the layers with squeeze-and-excitation between the norm and the activation."""
    from torchvision.ops import SqueezeExcitation  # this import takes a second, and most variants do not need it

    conv, norm, act = layers
    assert isinstance(norm, nn.BatchNorm2d)
    channels = norm.num_features
    squeeze = SqueezeExcitation(channels, channels // SQUEEZE)
    return nn.Sequential(OrderedDict(conv=conv, norm=norm, squeeze=squeeze, act=act))

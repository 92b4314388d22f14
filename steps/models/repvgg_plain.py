"""The plain bodies of RepVGG (Ding et al., CVPR 2021, tables 2 and 3): 3x3 convolutions, batch norms, ReLUs.

Expanded with `repvgg` blocks they are the paper's RepVGG networks. Letters: N images, C channels, H and W pixels,
K classes.
"""

from typing import NamedTuple

from torch import Tensor, nn

from steps.models.layers import conv_norm_act


class Stage(NamedTuple):
    """`depth` layers of `width` channels; the first layer has `stride`."""

    width: int
    depth: int
    stride: int = 2


class RepVggPlain(nn.Module):
    """A stack of convolutions, and one linear layer on the pooled features."""

    def __init__(self, class_num: int, stages: tuple[Stage, ...], groups_of_every_second: int = 1) -> None:
        super().__init__()
        inputs, layer = 3, 0
        self.body = nn.Sequential()
        for number, stage in enumerate(stages):
            layers = nn.Sequential()
            for position in range(stage.depth):
                groups = groups_of_every_second if layer % 2 == 0 and layer > 0 else 1
                stride = stage.stride if position == 0 else 1
                layers.append(conv_norm_act(inputs, stage.width, 3, stride, groups))
                inputs, layer = stage.width, layer + 1
            self.body.add_module("stem" if number == 0 else f"stage{number}", layers)
        self.head = nn.Linear(inputs, class_num)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return logits_NK."""
        features_NCHW: Tensor = self.body(image_NCHW)
        logits_NK: Tensor = self.head(features_NCHW.mean((2, 3)))
        return logits_NK


# The depths of A and B, and the paper's multipliers a (stages 1 to 3) and b (stage 4) of widths 64, 128, 256, 512.
_A, _B = (2, 4, 14, 1), (4, 6, 16, 1)
PAPER: dict[str, tuple[tuple[int, int, int, int], float, float, int]] = {
    "repvgg_a0_plain": (_A, 0.75, 2.5, 1),
    "repvgg_a1_plain": (_A, 1.0, 2.5, 1),
    "repvgg_a2_plain": (_A, 1.5, 2.75, 1),
    "repvgg_b0_plain": (_B, 1.0, 2.5, 1),
    "repvgg_b1_plain": (_B, 2.0, 4.0, 1),
    "repvgg_b1g2_plain": (_B, 2.0, 4.0, 2),
    "repvgg_b1g4_plain": (_B, 2.0, 4.0, 4),
    "repvgg_b2_plain": (_B, 2.5, 5.0, 1),
    "repvgg_b2g4_plain": (_B, 2.5, 5.0, 4),
    "repvgg_b3_plain": (_B, 3.0, 5.0, 1),
    "repvgg_b3g4_plain": (_B, 3.0, 5.0, 4),
}


def repvgg_plain(name: str, class_num: int) -> RepVggPlain:
    """Return the body of the paper's network of this name."""
    depths, a, b, groups = PAPER[name]
    widths = (int(64 * a), int(128 * a), int(256 * a), int(512 * b))
    stem = Stage(min(64, widths[0]), 1)
    stages = tuple(Stage(width, depth) for width, depth in zip(widths, depths, strict=True))
    return RepVggPlain(class_num, (stem, *stages), groups)


def repvgg_nano(class_num: int) -> RepVggPlain:
    """Return a small network of the same kind, for images of 28 to 64 pixels."""
    return RepVggPlain(class_num, (Stage(32, 1), Stage(32, 2, stride=1), Stage(64, 2), Stage(128, 2)))

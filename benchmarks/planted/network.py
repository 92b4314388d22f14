"""A small network that holds what a line can get wrong: an eps of its own, an attention, a resize."""

from timm.layers.squeeze_excite import SqueezeExcite
from torch import Tensor, nn

ARCH = "benchmarks.planted.network:forgettable"
COMPILED = "benchmarks.planted.network:compilable"


class Forgettable(nn.Module):
    """Takes images_NCHW of any size, returns logits_NK."""

    def __init__(self, class_num: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16, eps=1e-2)
        self.wide = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.wide_norm = nn.BatchNorm2d(32)
        self.squeeze = SqueezeExcite(32, rd_ratio=0.25)
        self.deep = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.deep_norm = nn.BatchNorm2d(32)
        self.last = nn.Conv2d(32, 48, 3, stride=2, padding=1, bias=False)
        self.last_norm = nn.BatchNorm2d(48)
        self.act = nn.ReLU()
        self.larger: nn.Module = nn.Upsample(scale_factor=1.5, mode="bilinear")
        self.head = nn.Linear(48, class_num)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return logits."""
        first_NCHW = self.act(self.stem_norm(self.stem(images_NCHW)))
        second_NCHW = self.squeeze(self.act(self.wide_norm(self.wide(first_NCHW))))
        third_NCHW = second_NCHW + self.act(self.deep_norm(self.deep(second_NCHW)))
        fourth_NCHW = self.act(self.last_norm(self.last(self.larger(third_NCHW))))
        logits_NK: Tensor = self.head(fourth_NCHW.mean((2, 3)))
        return logits_NK


def forgettable(class_num: int) -> nn.Module:
    """Return the network with fresh weights, as `train.arch` would have it made."""
    return Forgettable(class_num)


def compilable(class_num: int) -> nn.Module:
    """Return it without its resize, for which AOTInductor has no counterpart."""
    network = Forgettable(class_num)
    network.larger = nn.Identity()
    return network

"""A small artifact that looks trained, and a user's own network, for the tests of models, fuse and export."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from steps.models.architectures import create
from steps.models.files import ProbeImages, save_model
from steps.reparam.expand import Mode, expand
from steps.reports.card import Card, Expansion, Preprocessing
from tests.reparam.networks import randomise

SIZE = 16
NAMES = ("ant", "bee", "cat", "dog")
HOW = Preprocessing(size=SIZE, resize=SIZE, interpolation="bilinear", mean=(0.5, 0.45, 0.4), std=(0.25, 0.2, 0.3))


class Own(nn.Module):
    """A user's own network."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, num_classes)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.norm(self.conv(image_NCHW)).relu().mean((2, 3)))
        return logits


def wrong_head(class_num: int) -> nn.Module:
    """Return a network whose head does not fit."""
    return Own(class_num + 1)


def no_network(class_num: int) -> int:
    """Return something that is no network."""
    return class_num


def no_class_num() -> None:
    """Accept no number of classes; this function must never be called."""
    raise AssertionError("a callable that takes no class_num was called")


def probes(number: int = 3) -> ProbeImages:
    """Return a few images of noise."""
    images = np.random.default_rng(0).integers(0, 256, (number, SIZE, SIZE, 3), dtype=np.uint8)
    return ProbeImages(images, tuple(f"{n}.png" for n in range(number)), tuple(range(number)))


def write_trained(
    folder: Path, block: str | None = "repvgg", arch: str = "repvgg_nano", mode: Mode = "branch"
) -> Card:
    """Write a network as train leaves it, with norms far from their defaults; return its card."""
    torch.manual_seed(0)
    network = create(arch, len(NAMES), SIZE)
    if block is not None:
        expand(network, block, init="standard", mode=mode)
    card = Card(
        form="train",
        arch=arch,
        class_num=len(NAMES),
        class_names=NAMES,
        preprocessing=HOW,
        expansion=None if block is None else Expansion(block=block, where="all", mode=mode),
        files={},
        artifact="",
    )
    return save_model(folder, randomise(network), card, probes())


class LeakyNorm(nn.BatchNorm2d):
    """A norm with an activation inside, which neither its name nor an attribute shows."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        """Return the norm's output after the activation."""
        return nn.functional.leaky_relu(super().forward(input), 0.1)


class OwnNorm(Own):
    """A user's own network with two convolutions: the first one's norm can be folded, the second's cannot."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.second = nn.Conv2d(8, 8, 3, bias=False)
        self.leaky = LeakyNorm(8)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return logits."""
        first = self.norm(self.conv(image_NCHW)).relu()
        logits: Tensor = self.head(self.leaky(self.second(first)).mean((2, 3)))
        return logits


class Casting(Own):
    """A user's own network that computes its logits in float32 for weights of any precision."""

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.norm(self.conv(image_NCHW)).relu().mean((2, 3)).float())
        return logits


class SumOfTwo(nn.Module):
    """A user's own block that folds itself; its network calls the block by keyword, with a number as scale."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 8, 3, padding=1)
        self.point: nn.Conv2d | None = nn.Conv2d(3, 8, 1)

    def forward(self, features: Tensor, scale: float) -> Tensor:
        """Return the scaled sum."""
        summed: Tensor = self.wide(features) * scale
        return summed if self.point is None else summed + self.point(features) * scale

    def fuse(self) -> None:
        """Become one convolution."""
        if self.point is not None:
            assert self.wide.bias is not None and self.point.bias is not None
            self.wide.weight.data += nn.functional.pad(self.point.weight.data, (1, 1, 1, 1))
            self.wide.bias.data += self.point.bias.data
            self.point = None


class OwnBlock(nn.Module):
    """A user's own network for a fixed image size, with the block SumOfTwo."""

    def __init__(self, num_classes: int, size: int) -> None:
        super().__init__()
        self.block = SumOfTwo()
        self.head = nn.Linear(8 * size * size, num_classes)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.block(features=image_NCHW, scale=2.0).flatten(1))
        return logits

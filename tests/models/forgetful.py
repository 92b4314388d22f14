"""Networks that keep state outside their state dict, each in a different way, given by import path."""

import torch
from torch import Tensor, nn


class Forgetful(nn.Module):
    """A small classifier whose features pass through `mix` before the head."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, num_classes)

    def mix(self, features_NC: Tensor) -> Tensor:
        """Return the features, changed by the state that the network keeps."""
        return features_NC

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.mix(self.norm(self.conv(image_NCHW)).relu().mean((2, 3))))
        return logits


class RandomMask(Forgetful):
    """A mask that each constructor call draws anew."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("mask", torch.rand(8, generator=new_generator()), persistent=False)

    def mix(self, features_NC: Tensor) -> Tensor:
        """Return the features multiplied by the mask."""
        return features_NC * self.get_buffer("mask")


class ListedOrder(Forgetful):
    """A permutation in a Python list."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.order = torch.randperm(8, generator=new_generator()).tolist()

    def mix(self, features_NC: Tensor) -> Tensor:
        """Return the features in another order."""
        return features_NC[:, self.order]


class Annealed(Forgetful):
    """A Python number that training changes."""

    temperature = 1.0

    def mix(self, features_NC: Tensor) -> Tensor:
        """Return the features, scaled by a number that grows."""
        if self.training:
            self.temperature *= 1.5
        return features_NC * self.temperature


def new_generator() -> torch.Generator:
    """Return a generator that the training's seed does not reach."""
    generator = torch.Generator()
    generator.seed()
    return generator

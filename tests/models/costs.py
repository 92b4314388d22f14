"""Functions as networks, and an image, small enough to compute the cost by hand."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

FLOAT = 4  # bytes
SIDE = 16
PIXELS = SIDE * SIDE


class Call(nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        """Return the function's result for the images."""
        return self.function(images)


def image(channels: int = 8, side: int = SIDE) -> Tensor:
    return torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(0))

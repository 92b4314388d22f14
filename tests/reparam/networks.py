"""Small networks and random numbers that the tests of reparam share."""

from hypothesis import strategies as st
from torch import Tensor, nn

from benchmarks import random_sites
from benchmarks.random_sites import Site as Site
from benchmarks.random_sites import drawn_conv
from benchmarks.random_sites import randomise as randomise


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


def convs() -> st.SearchStrategy[nn.Conv2d]:
    """Draw a convolution in float64 with any kernel, stride, dilation, groups, padding, padding mode and bias."""
    return st.randoms(use_true_random=False).map(drawn_conv)


def image_for(conv: nn.Conv2d) -> Tensor:
    """Return images that give several outputs along each axis, so that a batch has statistics."""
    return random_sites.image_for(conv, more=(5, 6))


def synchronised(model: nn.Module) -> nn.Module:
    """Return the network as it is prepared for training on several GPUs."""
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return converted

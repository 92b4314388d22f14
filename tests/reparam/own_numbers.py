"""Networks whose second site has additional or shared parameters, neutral at first: no output shows them."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tests.reparam.own_networks import Own


class NormWithAGain(nn.BatchNorm2d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        return super().forward(input) * self.gain


class LowRank(nn.Conv2d):
    """As in LoRA: a product is added to the weight, and one of its factors starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, bias=False)
        self.down = nn.Parameter(torch.randn(2, channels * 9))
        self.up = nn.Parameter(torch.zeros(channels, 2))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        weight = self.weight + (self.up @ self.down).reshape(self.weight.shape)
        features: Tensor = self._conv_forward(input, weight, self.bias)
        return features


class Masked(nn.Conv2d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, bias=False)
        self.mask = torch.ones_like(self.weight)  # an attribute, not a buffer

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        features: Tensor = self._conv_forward(input, self.weight * self.mask, self.bias)
        return features


class Exponential(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.exp()

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight.clamp(min=1e-3).log()


class WithAGain(Own):
    def __init__(self) -> None:
        super().__init__()
        self.norm = NormWithAGain(8)


class OfLowRank(Own):
    def __init__(self) -> None:
        super().__init__()
        self.conv = LowRank(8)


class WithAMask(Own):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Masked(8)


class ParametrizedNorm(Own):
    def __init__(self) -> None:
        super().__init__()
        parametrize.register_parametrization(self.norm, "weight", Exponential())


class TiedGamma(Own):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.LayerNorm(8)
        self.spare.weight = self.norm.weight


class TiedStatistics(Own):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Module()
        self.spare.register_buffer("running_mean", self.norm.running_mean)


class TiedMemory(Own):
    """Two parameters share their memory, as after `b.weight = nn.Parameter(a.weight.data)`."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(72, 8)
        self.spare.weight = nn.Parameter(self.conv.weight.data.flatten(1))


class OverlappingMemory(Own):
    """A smaller layer's weights are the last weights of a larger layer, and start at a different address."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(72, 2)
        self.spare.weight = nn.Parameter(self.conv.weight.data[6:].flatten(1))


class HookedWeight(Own):
    def __init__(self) -> None:
        super().__init__()
        self.conv.weight.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]


OWN_NUMBERS: dict[type[Own], str] = {
    WithAGain: "NormWithAGain has additional tensors: gain",
    OfLowRank: "LowRank has additional tensors: down, up",
    WithAMask: "Masked has additional tensors: mask",
    ParametrizedNorm: "its weight is computed by a parametrization",
    TiedGamma: "its tensors belong to another layer",
    TiedStatistics: "its tensors belong to another layer",
    OverlappingMemory: "its tensors belong to another layer",
    TiedMemory: "its tensors belong to another layer",
    HookedWeight: "hooks are registered on its tensors",
}

"""Networks where a single pass shows little: they choose among norms, keep results, or have a replaced method."""

import types

import torch
from torch import Tensor, nn

from tests.reparam.own_networks import Own


class Domains(nn.Module):
    """A convolution with a norm for each domain; an attribute chooses the norm."""

    def __init__(self, other: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.other = other
        self.elsewhere = False

    def forward(self, features: Tensor) -> Tensor:
        """Return the features, normed by the domain's norm."""
        convolved = self.conv(features)
        normed: Tensor = self.other(convolved) if self.elsewhere else self.norm(convolved)
        return normed


class OfTwoDomains(Own):
    def __init__(self) -> None:
        super().__init__()
        self.part = Domains(nn.BatchNorm2d(8))
        del self.conv, self.norm

    def body(self, features: Tensor) -> Tensor:
        return self.part(features)  # type: ignore[no-any-return]


class OfTwoKindsOfNorm(OfTwoDomains):
    def __init__(self) -> None:
        super().__init__()
        self.part = Domains(nn.Sequential(nn.GroupNorm(2, 8), nn.ReLU()))


class ChosenByChance(Own):
    """In training, chance chooses one of three norms, so that a pass shows only one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))

    def body(self, features: Tensor) -> Tensor:
        drawn = int(torch.randint(3, ())) if self.training else 0
        return (self.norm, *self.norms)[drawn](self.conv(features))  # type: ignore[no-any-return]


class KeptAsAnAttribute(Own):
    def body(self, features: Tensor) -> Tensor:
        self.kept = self.conv(features)
        return self.norm(self.kept)  # type: ignore[no-any-return]


class KeptInAList(Own):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []

    def body(self, features: Tensor) -> Tensor:
        self.kept[:] = [self.conv(features)]
        return self.norm(self.kept[0])  # type: ignore[no-any-return]


def slightly_more(norm: nn.BatchNorm2d, features: Tensor) -> Tensor:
    return nn.BatchNorm2d.forward(norm, features) * 1.004


class ReplacedForward(Own):
    def __init__(self) -> None:
        super().__init__()
        self.norm.forward = types.MethodType(slightly_more, self.norm)  # type: ignore[method-assign]


class ChosenByANumber(Own):
    """The value of a parameter chooses the path; randomly drawn values would choose the other path."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(-100.0))

    def body(self, features: Tensor) -> Tensor:
        convolved = self.conv(features)
        normed: Tensor = self.norm(convolved)
        return normed if self.alpha > 0 else normed + convolved


class NeedsGradients(Own):
    """In training the network hooks a tensor, which fails without gradients, and uses the output twice."""

    def body(self, features: Tensor) -> Tensor:
        convolved = self.conv(features)
        normed: Tensor = self.norm(convolved)
        if self.training:
            normed = normed + convolved
            normed.register_hook(torch.clone)  # type: ignore[no-untyped-call]
        return normed


class FrozenNorm(Own):
    """The norm keeps the statistics of its weights, as in fine-tuned detectors."""

    def train(self, mode: bool = True) -> "FrozenNorm":
        """Set the training mode for all parts except the norm."""
        super().train(mode)
        self.norm.eval()
        return self


OWN_CHOICES: dict[type[Own], str] = {
    OfTwoDomains: "the network may use part.other instead of its norm",
    OfTwoKindsOfNorm: "the network may use part.other.0 instead of its norm",
    ChosenByChance: "in training it is called 1 times, its norm 0 times",
    KeptAsAnAttribute: "the network, which keeps it",
    KeptInAList: "the network, which keeps it",
    ReplacedForward: "its forward was replaced",
    ChosenByANumber: "with the network's own weights its output is also used by aten.add",
    NeedsGradients: "in training its output is also used by aten.add",
    FrozenNorm: "in training its norm stays in eval mode",
}


class AnotherBranchInTraining(Own):
    """A second convolution with a norm of the same width, which no pass in eval mode reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.aside, self.aside_norm = nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8)

    def body(self, features: Tensor) -> Tensor:
        normed = super().body(features)
        return normed + self.aside_norm(self.aside(features)) if self.training else normed


class UnreachedElsewhere(OfTwoDomains):
    """A norm that no pass reaches has a different width, or belongs to the module of another convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Domains(nn.BatchNorm2d(4))
        self.head_of_another_task = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))

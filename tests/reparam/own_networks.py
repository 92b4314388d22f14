"""Networks as users write them: each has a usual site, and a second site with something unusual."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune


class Own(nn.Module):
    """Two sites, the first of which is usual; each network below changes the second."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 4)

    def body(self, features: Tensor) -> Tensor:
        """Return the output of the second site."""
        normed: Tensor = self.norm(self.conv(features))
        return normed

    def forward(self, image: Tensor) -> Any:
        features = self.body(self.stem_norm(self.stem(image)).relu())
        return self.head(features.mean((2, 3)))


class LeakyNorm(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        return F.leaky_relu(super().forward(input), 0.1)


class TrainsOtherwise(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        normed = super().forward(input)
        return normed.tanh() if self.training else normed


class PadsBefore(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        features: Tensor = self._conv_forward(F.pad(input, (2, 0, 2, 0)), self.weight, self.bias)
        return features


class NormWithAnActivation(Own):
    def __init__(self) -> None:
        super().__init__()
        self.norm = LeakyNorm(8)


class NormThatStartsAtZero(NormWithAnActivation):
    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.norm.weight)


class NormThatTrainsOtherwise(Own):
    def __init__(self) -> None:
        super().__init__()
        self.norm = TrainsOtherwise(8)


class OwnPadding(Own):
    def __init__(self) -> None:
        super().__init__()
        self.conv = PadsBefore(8, 8, 3, bias=False)


class HookOnTheNorm(Own):
    def __init__(self) -> None:
        super().__init__()
        self.norm.register_forward_hook(lambda *given: given[2] * 2)


class HookOnTheConvolution(Own):
    def __init__(self) -> None:
        super().__init__()
        self.conv.register_forward_hook(lambda *given: given[2] * 2)


class NormUnderTwoNames(Own):
    def __init__(self) -> None:
        super().__init__()
        self.alias = self.norm

    def body(self, features: Tensor) -> Tensor:
        return self.alias(self.conv(features))  # type: ignore[no-any-return]


class LayersInAList(Own):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [self.conv, self.norm]

    def body(self, features: Tensor) -> Tensor:
        for layer in self.layers:
            features = layer(features)
        return features


class NormInAList(Own):
    def __init__(self) -> None:
        super().__init__()
        self.norms = [self.norm]

    def body(self, features: Tensor) -> Tensor:
        return self.norms[0](self.conv(features))  # type: ignore[no-any-return]


class WeightReadAgain(Own):
    def body(self, features: Tensor) -> Tensor:
        return super().body(features) + F.conv2d(features, self.conv.weight, padding=1)


class GammaReadAgain(Own):
    def body(self, features: Tensor) -> Tensor:
        return super().body(features) * self.norm.weight.reshape(1, -1, 1, 1)


class AttributeRead(Own):
    def body(self, features: Tensor) -> Tensor:
        return super().body(features).reshape(-1, self.conv.out_channels, *features.shape[2:])


class KindAsked(Own):
    def body(self, features: Tensor) -> Tensor:
        return super().body(features) if isinstance(self.conv, nn.Conv2d) else features


class DropoutBetween(Own):
    def body(self, features: Tensor) -> Tensor:
        return self.norm(self.drop(self.conv(features)))  # type: ignore[no-any-return]


class AuxiliaryHead(Own):
    def forward(self, image: Tensor) -> Any:
        features = self.conv(self.stem_norm(self.stem(image)).relu())
        logits = self.head(self.norm(features).mean((2, 3)))
        return (logits, features.mean((2, 3))) if self.training else logits


class WeightNormed(Own):
    def __init__(self) -> None:
        super().__init__()
        parametrizations.weight_norm(self.conv)


class SpectralNormed(Own):
    def __init__(self) -> None:
        super().__init__()
        parametrizations.spectral_norm(self.conv)


class Pruned(Own):
    def __init__(self) -> None:
        super().__init__()
        prune.random_unstructured(self.conv, "weight", amount=0.5)  # type: ignore[no-untyped-call]


class Frozen(Own):
    def __init__(self) -> None:
        super().__init__()
        self.conv.requires_grad_(False)


class Transposed(Own):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(8, 8, 3, padding=1)  # type: ignore[assignment]


REASONS: dict[type[Own], str] = {
    NormWithAnActivation: "computes something else",
    NormThatStartsAtZero: "computes something else",
    NormThatTrainsOtherwise: "in training its norm",
    OwnPadding: "in an unknown way",
    HookOnTheNorm: "hooks",
    HookOnTheConvolution: "hooks",
    NormUnderTwoNames: "shared",
    LayersInAList: "under another name",
    NormInAList: "keep the norm under another name",
    WeightReadAgain: "also read by aten.convolution",
    GammaReadAgain: "also read by",
    AttributeRead: "the network reads conv.out_channels",
    KindAsked: "does not reach|under another name",
    DropoutBetween: "in training there is another operation between",
    AuxiliaryHead: "in training its output is also used by",
    WeightNormed: "parametrization",
    SpectralNormed: "parametrization",
    Pruned: "hooks",
    Frozen: "frozen",
    Transposed: "ConvTranspose2d",
}


class CalledByKeyword(Own):
    def body(self, features: Tensor) -> Tensor:
        return self.norm(input=self.conv(input=features))  # type: ignore[no-any-return]


class PartUnderTwoNames(Own):
    """The container of the layers is registered under two names; the layers themselves are not."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(self.conv, self.norm)
        self.parts = nn.ModuleList([self.part])
        del self.conv, self.norm

    def body(self, features: Tensor) -> Tensor:
        return self.parts[0](features)  # type: ignore[no-any-return]

"""Blocks that fold themselves are checked even if the network calls them by a method other than forward."""

import pytest
import timm
import torch
from torch import Tensor, nn

from steps.errors import BadInput
from steps.reparam.certify import WHOLE, certify, exceeds
from steps.reparam.fold import fold
from steps.reparam.kernels import follow_by_norm
from steps.reparam.library_blocks import library_blocks
from steps.reparam.norms import scale_shift
from tests.reparam.networks import randomise


class FoldsItself(nn.Module):
    """A block that a network may call by a method other than its forward."""

    def __init__(self, dilation_of_the_folded: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=2, dilation=2, bias=False), nn.BatchNorm2d(8)
        self.dilation_of_the_folded = dilation_of_the_folded

    def features(self, image: Tensor) -> Tensor:
        features: Tensor = self.norm(self.conv(image))
        return features

    def forward(self, image: Tensor) -> Tensor:
        return self.features(image).mean((2, 3))

    def switch_to_deploy(self) -> None:
        weight_OIKK, bias_O = follow_by_norm(self.conv.weight, torch.zeros(8), *scale_shift(self.norm))
        self.conv = nn.Conv2d(3, 8, 3, padding=2, dilation=2)
        self.conv.padding = self.conv.dilation = (self.dilation_of_the_folded,) * 2
        self.conv.weight.data, self.conv.bias.data = weight_OIKK, bias_O  # type: ignore[union-attr]
        self.norm = nn.Identity()  # type: ignore[assignment]


class Around(nn.Module):
    """Call the method `way` of the inner module."""

    def __init__(self, inside: nn.Module, way: str) -> None:
        super().__init__()
        self.inside, self.way = inside, way

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = getattr(self.inside, self.way)(image)
        return features


def test_a_backbone_whose_forward_is_not_called_is_judged_by_the_blocks_inside_it() -> None:
    backbone = timm.create_model("repvit_m0_9", num_classes=0)
    model = randomise(Around(backbone, "forward_features")).double()
    assert library_blocks(model) == ["inside"]
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    plain = fold(model, image)
    assert norms(plain.get_submodule("inside.stages")) == []
    rows = certify(model, plain, image, 0, {"fp64": 1e-9})
    assert not exceeds(rows[0]) and {row.site for row in rows} > {"inside.stages.0.blocks.0.token_mixer", WHOLE}


@pytest.mark.parametrize("way", ["features", "__call__"])
def test_a_block_that_is_reached_by_any_method_is_judged(way: str) -> None:
    right, wrong = (randomise(Around(FoldsItself(dilation), way)).double() for dilation in (2, 1))
    image = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    plain = fold(right, image)
    assert norms(plain) == [] and not exceeds(certify(right, plain, image, 0, {"fp64": 1e-9})[0])
    message = {"features": "calls another method of inside .* than its forward", "__call__": "another function"}
    with pytest.raises(BadInput, match=rf"^fold: .*{message[way]}"):
        fold(wrong, image)


def norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]

"""A copy of a network shares nothing with the network, or there is no copy: every plan is tried on copies."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from steps.errors import BadInput
from steps.reparam.expand import plan_expansion
from steps.tracing.copies import copied


class ReturnsItself(nn.Sequential):
    """A part whose copy is the part itself."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "ReturnsItself":
        return self


class SharesItsWeight(nn.Conv2d):
    """A layer whose copy is a new layer with the same weight tensor."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharesItsWeight":
        new = SharesItsWeight(self.in_channels, self.out_channels, 3, padding=1, bias=False)
        new.weight = self.weight
        return new


class KeepsATensor(nn.Identity):
    """A layer that shares a plain tensor (not a buffer) with its copy."""

    table = torch.ones(3)

    def __init__(self) -> None:
        super().__init__()
        self.kept = {"table": self.table}

    def __deepcopy__(self, memo: dict[int, Any]) -> "KeepsATensor":
        return KeepsATensor()


def network(part: nn.Module) -> nn.Module:
    return nn.Sequential(part, nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


SHARING: dict[str, Callable[[], nn.Module]] = {
    "a part that is its own copy": lambda: ReturnsItself(nn.Conv2d(3, 8, 3, padding=1, bias=False)),
    "a layer around the old numbers": lambda: SharesItsWeight(3, 8, 3, padding=1, bias=False),
    "a plain tensor": lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), KeepsATensor()),
}


@pytest.mark.parametrize("kind", SHARING)
def test_a_copy_that_shares_with_its_original_is_refused_and_the_network_stays_as_it_was(kind: str) -> None:
    torch.manual_seed(0)
    model = network(SHARING[kind]())
    images = torch.randn(2, 3, 8, 8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    answer = model.eval()(images)
    with pytest.raises(BadInput, match="cannot be copied: the copy and the original share the"):
        plan_expansion(model, "acb")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(model(images), answer)


def test_a_plain_network_with_tied_weights_is_copied() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    duplicate = copied(model)
    assert duplicate[1].weight is duplicate[0].weight and duplicate[0].weight is not model[0].weight

"""Changes that users make to an expanded network before fold: each refusal names the block."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import FrozenBatchNorm2d

from steps.errors import BadInput
from steps.models.architectures import create
from steps.reparam.expand import MultiBranchConv, expand
from steps.reparam.fold import fold

EXAMPLE = torch.zeros(1, 3, 32, 32)


def expanded(block: str) -> nn.Module:
    torch.manual_seed(0)
    network = create("repvgg_nano", 3, 32).eval()
    expand(network, block, "all", example_NCHW=EXAMPLE)
    return network


def frozen(norm: nn.BatchNorm2d) -> nn.Module:
    module: nn.Module = FrozenBatchNorm2d(norm.num_features)
    return module


def untracked(norm: nn.BatchNorm2d) -> nn.Module:
    return nn.BatchNorm2d(norm.num_features, track_running_stats=False).eval()


NORMS: dict[str, Callable[[nn.BatchNorm2d], nn.Module]] = {
    "FrozenBatchNorm2d": frozen,
    "GroupNorm": lambda norm: nn.GroupNorm(1, norm.num_features),
    "InstanceNorm2d": lambda norm: nn.InstanceNorm2d(norm.num_features, affine=True),
    "Identity": lambda _: nn.Identity(),
    "BatchNorm without statistics": lambda norm: nn.BatchNorm2d(
        norm.num_features, track_running_stats=False
    ).eval(),
}


@pytest.mark.parametrize("block", ["acb", "dbb", "mobileone", "repvgg", "qarepvgg"])
@pytest.mark.parametrize("kind", NORMS)
def test_a_block_with_other_norms_is_refused_by_name(block: str, kind: str) -> None:
    network = expanded(block)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, NORMS[kind](child))
    with pytest.raises(BadInput, match=r"fold: the block at \S+ was changed after expand"):
        fold(network, EXAMPLE)


def first_block(network: nn.Module) -> MultiBranchConv:
    return next(module for module in network.modules() if isinstance(module, MultiBranchConv))


def test_an_added_branch_is_refused() -> None:
    network = expanded("acb")
    branches = first_block(network).get_submodule("branches")
    assert isinstance(branches, nn.ModuleDict)
    branches["mine"] = nn.Sequential(nn.Conv2d(3, 8, 1))
    with pytest.raises(BadInput, match=r"branches\.mine is a Sequential"):
        fold(network, EXAMPLE)


def test_a_branch_that_torch_fused_is_refused() -> None:
    network = expanded("acb")
    branches = first_block(network).get_submodule("branches")
    assert isinstance(branches, nn.ModuleDict)
    name, branch = next(iter(branches.items()))
    conv = next(module for module in branch.modules() if isinstance(module, nn.Conv2d))
    norm = next(module for module in branch.modules() if isinstance(module, nn.BatchNorm2d))
    branches[name] = fuse_conv_bn_eval(conv, norm)
    with pytest.raises(BadInput, match="was changed after expand"):
        fold(network, EXAMPLE)

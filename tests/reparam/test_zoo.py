"""Samples of what benchmarks/fold_zoo.py runs over whole zoos, and benchmarks/fold_sites.py over thousands."""

from collections.abc import Iterator

import pytest
import torch

from benchmarks import fold_sites, fold_zoo
from steps.reparam.branches import BLOCKS

ODD = (
    "timm:cs3darknet_focus_s",  # an activation inside its norms
    "timm:tf_efficientnet_lite0",  # padding that depends on the image
    "torchvision:shufflenet_v2_x0_5",  # channels shuffled
    pytest.param("timm:ghostnet_100", marks=pytest.mark.slow),  # inputs joined with outputs
    pytest.param("timm:hardcorenas_d", marks=pytest.mark.slow),  # squeeze-and-excitation
    pytest.param("timm:inception_v3", marks=pytest.mark.slow),  # four ways side by side
)


@pytest.fixture(autouse=True)
def default_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_network_comes_back_as_it_was(name: str) -> None:
    result = fold_zoo.tried(name)
    assert not result.wrong and not result.skipped
    assert result.sites > 0 and result.error is not None and result.error <= fold_zoo.BOUND


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("timm:vit_tiny_patch16_224", "no convolution is followed by a batch norm"),
        ("timm:resnetv2_50x1_bit", "unsupported kernel: StdConv2d"),
        ("torchvision:squeezenet1_1", "no convolution is followed by a batch norm"),
        ("timm:convnext_xlarge", "over 60 million parameters"),
    ],
)
def test_what_cannot_be_expanded_is_skipped_with_its_reason(name: str, reason: str) -> None:
    result = fold_zoo.tried(name)
    assert reason in result.skipped and not result.wrong


def test_random_sites_of_every_block_fold_within_the_bound() -> None:
    found = list(fold_sites.folded_sites(60, seed=1))
    assert {site.block for site in found} == set(BLOCKS)
    for site in found:
        assert max(site.errors.values()) <= fold_sites.BOUND, site


def test_the_list_has_every_network_once_and_shards_share_it() -> None:
    names = fold_zoo.by_family()
    shards = [set(fold_zoo.in_shard(names, f"{number}/3")) for number in range(3)]
    assert len(names) == len(set(names)) == sum(map(len, shards)) == len(set.union(*shards))

"""Samples of benchmarks/fold_zoo.py (which tests whole zoos) and benchmarks/fold_sites.py (thousands of sites)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from benchmarks import fold_sites, fold_zoo, zoo_networks, zoo_way
from steps.reparam.branches import BLOCKS, KernelBranch
from steps.reparam.expand import expand

ODD = (
    "timm:cs3darknet_focus_s",  # an activation inside its norms
    "timm:tf_efficientnet_lite0",  # padding that depends on the image
    "torchvision:shufflenet_v2_x0_5",  # shuffled channels
    pytest.param("torchvision:lraspp_mobilenet_v3_large", marks=pytest.mark.slow),  # scores per pixel, named
    pytest.param("timm:ghostnet_100", marks=pytest.mark.slow),  # inputs concatenated with outputs
    pytest.param("timm:hardcorenas_d", marks=pytest.mark.slow),  # squeeze-and-excitation
    pytest.param("timm:inception_v3", marks=pytest.mark.slow),  # four parallel branches
    pytest.param("timm:repvgg_a0", marks=pytest.mark.slow),  # the library's blocks
)


@pytest.fixture(autouse=True)
def default_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_network_comes_back_as_it_was(name: str) -> None:
    result = zoo_way.tried(name)
    assert not result.wrong and not result.skipped
    assert result.handed_over > 0 and result.sites + result.library_blocks > 0
    assert result.error is not None and result.error <= zoo_way.BOUND


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("timm:vit_tiny_patch16_224", "no batch norm takes its output"),
        ("timm:resnetv2_50x1_bit", "unsupported kernel: StdConv2d"),
        ("torchvision:squeezenet1_1", "no batch norm takes its output"),
        ("timm:convnext_xlarge", "over 60 million parameters"),
        ("torchvision:r3d_18", "it takes or gives something else than images: video"),
    ],
)
def test_what_cannot_be_expanded_is_skipped_with_its_reason(name: str, reason: str) -> None:
    result = zoo_way.tried(name)
    assert reason in result.skipped and not result.wrong


class Small(nn.Module):
    """A site, followed by a part that a test plants."""

    def __init__(self, after: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.after = after
        self.head = nn.Linear(4, zoo_networks.CLASSES)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.after(self.norm(self.conv(image_NCHW))).mean((2, 3)))
        return logits


class NoTraining(nn.Module):
    """A layer that cannot train."""

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Refuse in training mode."""
        if self.training:
            raise RuntimeError("the library's own fault")
        return image_NCHW


def small(monkeypatch: pytest.MonkeyPatch, after: nn.Module) -> zoo_way.Result:
    """Return the result for a network with one site, in place of the named network."""
    for module in (zoo_networks, zoo_way):
        monkeypatch.setattr(module, "made", lambda *_: Small(after))
    return zoo_way.tried("timm:resnet18")


def test_a_network_that_cannot_train_without_our_blocks_either_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    result = small(monkeypatch, NoTraining())
    assert "RuntimeError: the library's own fault" in result.skipped and not result.wrong
    assert result.handed_over == 1


def _raise(*_: Any) -> Tensor:
    raise RuntimeError("a fault of ours")


def _no_number(branch: Any, padded_NCHW: Tensor) -> Tensor:
    normed: Tensor = branch.norm(branch.conv(padded_NCHW))
    return torch.nan * normed


@pytest.mark.parametrize(
    ("fault", "message"),
    [(_raise, "a fault of ours"), (_no_number, "computes something else")],
    ids=["raises", "nan"],
)
def test_what_fails_with_our_blocks_alone_is_wrong(
    monkeypatch: pytest.MonkeyPatch, fault: Any, message: str
) -> None:
    monkeypatch.setattr(zoo_way, "drawn_for", lambda _: ("repvgg", "standard", "branch"))
    monkeypatch.setattr(KernelBranch, "forward", fault)
    result = small(monkeypatch, nn.ReLU())
    assert message in result.wrong and not result.skipped


def test_an_exact_expansion_that_moves_the_outputs_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def loud(network: nn.Module, block: str, init: Any, mode: Any, image_NCHW: Tensor) -> Any:
        return expand(network, block, init="standard", mode=mode, example_NCHW=image_NCHW)

    monkeypatch.setattr(zoo_way, "drawn_for", lambda _: ("repvgg", "exact", "branch"))
    assert not small(monkeypatch, nn.ReLU()).wrong
    monkeypatch.setattr(zoo_way, "_expand", loud)
    assert "expanded exactly it differs by" in small(monkeypatch, nn.ReLU()).wrong


@pytest.mark.parametrize(
    ("fault", "message"), [(_raise, "a fault of ours"), (_no_number, "outputs are not finite")]
)
def test_what_fails_in_the_step_of_training_alone_is_wrong(fault: Any, message: str) -> None:
    network = Small(nn.ReLU())
    expand(network, "acb", init="standard")
    batch_NCHW = torch.randn(4, 3, 8, 8)
    assert zoo_way._fault_of_a_step(network, batch_NCHW) == ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KernelBranch, "forward", fault)
        assert message in zoo_way._fault_of_a_step(network.float(), batch_NCHW)


def test_a_forgotten_norm_and_outputs_that_nobody_compared_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(zoo_way, "absorb_norms", lambda plain, _: plain)
        patch.setattr(zoo_way, "norms_left", lambda *_: {})
        assert "absorb_norms forgot 1: ['norm']" in small(monkeypatch, nn.ReLU()).wrong
    monkeypatch.setattr(zoo_way, "tensors_of", lambda _: [])
    network = Small(nn.ReLU())
    image_NCHW = torch.zeros(1, 3, 8, 8)
    assert zoo_way._error(network, image_NCHW, network, image_NCHW) is None


def test_one_whose_rounding_alone_would_break_the_bound_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = []

    def through(name: str, images: int) -> zoo_way.Result:
        looks.append(images)
        return zoo_way.Result(name, wrong="off" if images == zoo_way.BATCH else "", sensitivity=sensitivity)

    monkeypatch.setattr(zoo_way, "_through", through)
    sensitivity = 2e-9
    assert not zoo_way.tried("timm:resnet18").wrong and looks == [zoo_way.BATCH, zoo_way.MORE]
    sensitivity = 1e-13
    assert zoo_way.tried("timm:resnet18").wrong and looks[2:] == [zoo_way.BATCH]


def test_a_moved_image_differs_by_a_last_place() -> None:
    image_NCHW = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    moved = (zoo_way._moved(image_NCHW) - image_NCHW).abs() / image_NCHW.abs()
    assert 0.5 < float((moved > 0).double().mean()) < 0.8 and 1e-16 < float(moved.max()) < 5e-16


def test_a_network_whose_process_dies_is_wrong_and_the_next_one_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo_way, "tried", lambda name: os._exit(7) if name == "dies" else zoo_way.Result(name))
    assert zoo_way.try_in_own_process("dies").wrong == "its process ended with 7"
    assert zoo_way.try_in_own_process("lives").wrong == ""


def test_too_few_folded_of_those_that_could_be_falls_short() -> None:
    some = [zoo_way.Result(str(number), handed_over=3, error=0.0) for number in range(9)]
    figures = fold_zoo.figures([*some, zoo_way.Result("lost", handed_over=3, skipped="by us")], 10)
    assert [figure.name for figure in figures if not figure.holds] == [
        "of those with a convolution before a norm, folded"
    ]
    assert all(figure.holds for figure in fold_zoo.figures([*some, zoo_way.Result("vit", skipped="none")], 10))


def test_a_norm_is_handed_over_to_where_it_takes_the_very_output() -> None:
    assert zoo_networks.handed_over(timm.create_model("resnet18"), torch.zeros(1, 3, 64, 64)) == 20
    assert zoo_networks.handed_over(Small(nn.ReLU()), torch.zeros(1, 3, 8, 8)) == 1


def test_a_new_block_moves_no_draw() -> None:
    assert zoo_way.BLOCKS == ("repvgg", "acb", "dbb", "mobileone") and set(zoo_way.BLOCKS) <= BLOCKS.keys()
    assert zoo_way.drawn_for("torchvision:efficientnet_b6")[0] == "dbb"


def test_random_sites_of_every_block_fold_within_the_bound() -> None:
    found = list(fold_sites.folded_sites(60, seed=1))
    assert {site.block for site in found} == set(BLOCKS)
    for site in found:
        assert max(site.errors.values()) <= fold_sites.BOUND, site


def test_the_list_has_every_network_once_and_shards_share_it() -> None:
    names = zoo_networks.by_family()
    shards = [set(zoo_networks.in_shard(names, f"{number}/3")) for number in range(3)]
    assert len(names) == len(set(names)) == sum(map(len, shards)) == len(set.union(*shards))


def test_a_convolution_that_does_not_run_by_itself_is_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any) -> Any:
        raise RuntimeError("a kernel larger than the image")

    monkeypatch.setattr("steps.reparam.custom_layers._takes_a_norm", refuses)
    assert "sites fail once expanded" in zoo_way.tried("timm:tf_efficientnet_lite0").wrong


def test_the_default_takes_a_sample_anew_and_only_the_whole_list_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tried: list[str] = []

    def try_in_own_process(name: str) -> zoo_way.Result:
        tried.append(name)
        return zoo_way.Result(name, handed_over=1, error=0.0)

    monkeypatch.setattr(fold_zoo, "KEPT", tmp_path)
    monkeypatch.setattr(fold_zoo, "by_family", lambda: ["one", "two"])
    monkeypatch.setattr(fold_zoo, "try_in_own_process", try_in_own_process)
    for flags in ([], [], ["--full"]):
        monkeypatch.setattr("sys.argv", ["fold_zoo", *flags])
        with pytest.raises(SystemExit, match="0"):
            fold_zoo.main()
    assert tried == ["one", "two"] * 2

"""Messages about a network before training: its head, its bottleneck, and class ids without images."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from steps.errors import BadInput
from steps.models.normalised import normalised
from steps.reports.card import Expansion
from steps.training.network import NetworkSpec, TrainableNetwork, make_network, say_cost, warnings_of
from steps.weights.preprocessing import DEFAULTS


def made(
    class_num: int, bottleneck: int | None = None, arch: str = "repvgg_nano", size: int = 16
) -> TrainableNetwork:
    expansion = Expansion(block="repvgg", where="all", mode="branch") if arch == "repvgg_nano" else None
    preprocessing = DEFAULTS.model_copy(update={"size": size, "resize": size})
    recipe = NetworkSpec(arch, class_num, preprocessing, None, 0.95, bottleneck, expansion, "standard")
    return make_network(recipe, 0, torch.device("cpu"))


def test_a_head_larger_than_the_network_points_to_the_bottleneck(capsys: pytest.CaptureFixture[str]) -> None:
    say_cost(made(20_000), 16, 20_000, 0)
    message = capsys.readouterr().err
    assert "2,580,000 of them in the last layer (head)" in message
    assert "train.bottleneck can make it smaller" in message
    say_cost(made(10), 16, 10, 0)
    assert "bottleneck" not in capsys.readouterr().err


def test_the_head_is_said_with_and_without_its_bottleneck(capsys: pytest.CaptureFixture[str]) -> None:
    network = made(20_000, bottleneck=8)
    assert (network.head, network.head_without_bottleneck) == (128 * 8 + 8 + 9 * 20_000, 2_580_000)
    say_cost(network, 16, 20_000, 5)
    message = capsys.readouterr().err
    assert "without its bottleneck the last layer would have 2,580,000 parameters" in message
    assert "5 of 20000 class ids have no training image and cost 45 parameters" in message


def test_a_bottleneck_leaves_the_bodys_own_weights_as_they_are_drawn() -> None:
    with_one, without = made(10, bottleneck=4).network.state_dict(), made(10).network.state_dict()
    shared = {key for key in with_one if "branches.full.conv" in key}
    assert len(shared) == 7 and all(torch.equal(with_one[key], without[key]) for key in shared)


def test_only_a_vision_transformer_is_warned_of_few_images() -> None:
    assert warnings_of(made(3), 10) == ()
    assert len(warnings_of(made(3, arch="timm:vit_tiny_patch16_224", size=32), 10)) == 1


def test_weights_that_are_not_there_are_bad_input(tmp_path: Path) -> None:
    recipe = NetworkSpec("repvgg_nano", 3, DEFAULTS, tmp_path / "none.pt", 0.95, None, None, "exact")
    with pytest.raises(BadInput, match=r"train\.weights: .*none\.pt is not there"):
        make_network(recipe, 0, torch.device("cpu"))


def test_a_network_that_fuse_could_not_prove_is_refused_before_it_trains() -> None:
    with pytest.raises(
        BadInput, match=r"Casting does not compute in float64.*write \.to\(self\.fc\.weight\.dtype\)"
    ):
        made(3, arch="tests.models.artifacts:Casting")


def test_a_network_with_more_outputs_in_training_is_told_what_would_be_right() -> None:
    class WithAnAuxiliaryHead(nn.Module):
        def forward(self, images_NCHW: Tensor) -> Tensor | tuple[Tensor, Tensor]:
            logits_NK = images_NCHW.mean((2, 3))
            return (logits_NK, logits_NK) if self.training else logits_NK

    network = normalised(WithAnAuxiliaryHead(), DEFAULTS)
    images_NHWC_u8 = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    assert network.eval()(images_NHWC_u8).shape == (2, 3)
    with pytest.raises(
        BadInput, match="WithAnAuxiliaryHead returns a tuple in training; it must return only its logits"
    ):
        network.train()(images_NHWC_u8)

"""A bottleneck makes the head small, for every kind of head, and is stored with the model."""

from pathlib import Path

import pytest
import torch
from torch import nn

from steps.errors import BadInput
from steps.models.architectures import create
from steps.models.files import load_model, save_model
from steps.models.heads import add_bottleneck, class_parameters, head_name, head_names, head_parameters
from steps.reparam.expand import expand
from steps.reparam.fold import absorb_norms, fold
from steps.weights.loading import load_weights
from tests.models.artifacts import SIZE, Own, probes, write_trained
from tests.reparam.networks import randomise

ARCHS = {
    "repvgg_nano": (128, "head"),
    "mobileone_s0_plain": (1024, "head"),
    "cifar_quick": (64, "head"),
    "timm:resnet18": (512, "fc"),
    "timm:mobilenetv3_small_050": (1024, "classifier"),
    "timm:vit_tiny_patch16_224": (192, "head"),
    "torchvision:resnet18": (512, "fc"),
    "torchvision:mobilenet_v3_small": (1024, "classifier.3"),
    "torchvision:squeezenet1_1": (512, "classifier.1"),
    "tests.models.artifacts:Own": (8, "head"),
}


@pytest.mark.parametrize("arch", ARCHS)
def test_the_head_costs_what_the_width_says_and_the_network_still_runs(arch: str) -> None:
    features, name = ARCHS[arch]
    network = create(arch, 100, 32)
    assert head_parameters(network) == features * 100 + 100
    add_bottleneck(network, 3)
    assert head_name(network) == name
    assert head_parameters(network) == (features * 3 + 3) + (3 * 100 + 100)
    assert class_parameters(network, 100) == 3 + 1
    assert network.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 100)


def test_each_of_several_heads_is_counted() -> None:
    network = create("timm:deit_tiny_distilled_patch16_224", 5, 32)
    assert head_names(network) == ("head", "head_dist")
    assert head_parameters(network) == 2 * (192 * 5 + 5)
    assert class_parameters(network, 5) == 2 * (192 + 1)


class HeadFirst(nn.Module):
    """Create the head before all other layers, including the linear layers of squeeze-and-excitation."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.conv = nn.Conv2d(3, 8, 3)
        self.squeeze, self.excite = nn.Linear(8, 2), nn.Linear(2, 8)

    def forward(self, image_NCHW: torch.Tensor) -> torch.Tensor:
        features = self.conv(image_NCHW)
        gates_NC11 = self.excite(self.squeeze(features.mean((2, 3))).relu()).sigmoid()[..., None, None]
        pooled = (features * gates_NC11).mean((2, 3), keepdim=not isinstance(self.head, nn.Linear))
        return self.head(pooled).flatten(1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("head", [nn.Linear(8, 8), nn.Conv2d(8, 8, 1)], ids=["linear", "convolution"])
def test_the_head_is_what_an_image_comes_to_last_whenever_it_was_made(head: nn.Module) -> None:
    network = HeadFirst(head)
    assert head_name(network) == "head"
    add_bottleneck(network, 3)
    assert head_name(network) == "head" and type(network.excite) is nn.Linear


class ReadHead(HeadFirst):
    """With `cosine` the head's weight is read but never called; otherwise a temperature is called last."""

    def __init__(self, cosine: bool) -> None:
        super().__init__(nn.Linear(8, 5, bias=False))
        self.temperature, self.cosine = nn.Linear(8, 1), cosine

    def forward(self, image_NCHW: torch.Tensor) -> torch.Tensor:
        features_NF = self.excite(self.squeeze(self.conv(image_NCHW).mean((2, 3))))
        if self.cosine:
            return nn.functional.linear(features_NF, nn.functional.normalize(self.head.get_parameter("weight")))
        logits_NK: torch.Tensor = self.head(features_NF)
        warmth_N1: torch.Tensor = self.temperature(features_NF).sigmoid()
        return logits_NK * warmth_N1


@pytest.mark.parametrize("cosine", [True, False])
def test_the_head_is_as_wide_as_the_output_whatever_is_called_last(cosine: bool) -> None:
    assert head_name(ReadHead(cosine)) == "head"


def test_a_weight_that_is_computed_hides_no_head() -> None:
    first = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3))
    assert head_name(nn.Sequential(first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))) == "3"


def test_the_logits_have_no_more_rank_than_the_bottleneck_is_wide() -> None:
    network = randomise(create("repvgg_nano", 20, 16))
    add_bottleneck(network, 3)
    with torch.no_grad():
        logits_NK = network.double()(torch.randn(40, 3, 16, 16, dtype=torch.float64))
    assert torch.linalg.matrix_rank(logits_NK - logits_NK.mean(0), rtol=1e-9) == 3  # in float64


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 5, 3)), "Conv2d '0'"),
        (nn.Sequential(nn.Flatten()), "no last layer"),
        (create("timm:deit_tiny_distilled_patch16_224", 5, 32), "several last layers"),
    ],
    ids=["a 3x3 convolution", "none", "two heads"],
)
def test_where_no_bottleneck_fits_the_error_says_what_is_there(network: nn.Module, message: str) -> None:
    with pytest.raises(BadInput, match=f"{message}.*Set train.bottleneck to null"):
        add_bottleneck(network, 4)


def test_it_is_rebuilt_from_the_card_in_each_form(tmp_path: Path) -> None:
    card = write_trained(tmp_path / "plain").model_copy(update={"bottleneck": 5})
    network = create(card.arch, card.class_num, SIZE).eval()
    add_bottleneck(network, 5)
    expand(network, "repvgg", init="standard")
    save_model(tmp_path / "trained", randomise(network), card, probes())
    loaded, _ = load_model(tmp_path / "trained")
    fused = card.model_copy(update={"form": "fuse", "fused": True, "expansion": None})
    save_model(tmp_path / "fused", absorb_norms(fold(loaded)), fused, probes())
    image = torch.randn(2, 3, SIZE, SIZE)
    expected = network(image)
    assert torch.equal(loaded(image), expected)
    torch.testing.assert_close(load_model(tmp_path / "fused")[0](image), expected, rtol=1e-4, atol=1e-5)


def test_weights_with_a_plain_head_leave_a_bottleneck_fresh_and_weights_with_one_fill_it(tmp_path: Path) -> None:
    torch.save(Own(4).state_dict(), tmp_path / "plain.pt")
    network = Own(4)
    add_bottleneck(network, 2)
    coverage = load_weights(network, tmp_path / "plain.pt", 1.0)
    assert coverage.head_replaced and (coverage.coverage, coverage.used) == (1.0, 1.0)
    torch.save(network.state_dict(), tmp_path / "narrow.pt")
    again = Own(4)
    add_bottleneck(again, 2)
    assert not load_weights(again, tmp_path / "narrow.pt", 1.0).head_replaced
    assert torch.equal(again.state_dict()["head.narrow.weight"], network.state_dict()["head.narrow.weight"])

"""The cost card's figures equal hand computation on small networks and published values on known networks."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from steps.errors import BadInput
from steps.models.architectures import create
from steps.models.cost import both_forms, cost_of, weight_file_bytes
from steps.models.files import WEIGHTS
from steps.reparam.expand import expand
from tests.models.artifacts import write_trained
from tests.models.costs import PIXELS, Call, image


def tokens(number: int = 5, width: int = 6) -> Tensor:
    return torch.rand(1, number, width, generator=torch.Generator().manual_seed(0))


def attention_by_parts(tokens_NLE: Tensor) -> Tensor:
    scores = (tokens_NLE @ tokens_NLE.transpose(1, 2)) * tokens_NLE.shape[2] ** -0.5
    mixed_NLE: Tensor = scores.softmax(-1) @ tokens_NLE
    return mixed_NLE


def attention_fused(tokens_NLE: Tensor) -> Tensor:
    heads = tokens_NLE.unsqueeze(1)
    return F.scaled_dot_product_attention(heads, heads, heads)


# Per output: n products and n - 1 additions (requirements T5), and one more addition if there is a bias.
SUMS: dict[str, tuple[nn.Module, Tensor, int]] = {
    "3x3": (nn.Conv2d(8, 12, 3, padding=1, bias=False), image(), 12 * PIXELS * (2 * 8 * 9 - 1)),
    "3x3 with bias": (nn.Conv2d(8, 12, 3, padding=1), image(), 12 * PIXELS * 2 * 8 * 9),
    "1x1": (nn.Conv2d(8, 12, 1, bias=False), image(), 12 * PIXELS * (2 * 8 - 1)),
    "1x5": (nn.Conv2d(8, 12, (1, 5), bias=False), image(), 12 * 16 * 12 * (2 * 8 * 5 - 1)),
    "grouped": (nn.Conv2d(8, 12, 3, padding=1, groups=4, bias=False), image(), 12 * PIXELS * (2 * 2 * 9 - 1)),
    "depthwise": (nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), image(), 8 * PIXELS * (2 * 9 - 1)),
    "depthwise 1x1": (nn.Conv2d(8, 8, 1, groups=8, bias=False), image(), 8 * PIXELS),
    "strided": (nn.Conv2d(8, 12, 3, 2, 1, bias=False), image(), 12 * 8 * 8 * (2 * 8 * 9 - 1)),
    "dilated": (nn.Conv2d(8, 12, 3, dilation=2, bias=False), image(), 12 * 12 * 12 * (2 * 8 * 9 - 1)),
    "linear": (nn.Linear(6, 7, bias=False), tokens(1), 7 * (2 * 6 - 1)),
    "linear with bias": (nn.Linear(6, 7), tokens(1), 7 * 2 * 6),
    "linear on tokens": (nn.Linear(6, 7), tokens(5), 5 * 7 * 2 * 6),
    "matrix product": (Call(lambda x: x @ x.transpose(1, 2)), tokens(), 5 * 5 * (2 * 6 - 1)),
    # scores 5 x 5 (11 each), their scaling (1) and softmax (5), then 5 x 6 sums over 5 (9 each)
    "attention": (Call(attention_by_parts), tokens(), 25 * 11 + 25 * 6 + 30 * 9),
    "batch norm": (nn.BatchNorm2d(8), image(), 2 * 8 * PIXELS),
    "batch norm without statistics": (nn.BatchNorm2d(8, track_running_stats=False), image(), 7 * 8 * PIXELS),
    "instance norm": (nn.InstanceNorm2d(8), image(), 5 * 8 * PIXELS),
    "instance norm with gamma": (nn.InstanceNorm2d(8, affine=True), image(), 7 * 8 * PIXELS),
    "instance norm with statistics": (nn.InstanceNorm2d(8, track_running_stats=True), image(), 2 * 8 * PIXELS),
    "layer norm": (nn.LayerNorm(6), tokens(), 7 * 30),
    "layer norm without gamma": (nn.LayerNorm(6, elementwise_affine=False), tokens(), 5 * 30),
    "group norm": (nn.GroupNorm(2, 8), image(), 7 * 8 * PIXELS),
    "activation": (nn.SiLU(), image(), 8 * PIXELS),
    "activation in place": (nn.Sequential(nn.Identity(), nn.Hardswish(inplace=True)), image(), 8 * PIXELS),
    "sum of two": (Call(lambda x: x + x), image(), 8 * PIXELS),
    "max pooling": (nn.MaxPool2d(2), image(), 8 * 8 * 8 * 3),
    "average pooling": (nn.AvgPool2d((2, 4)), image(), 8 * 8 * 4 * 8),
    "global average": (nn.AdaptiveAvgPool2d(1), image(), 8 * PIXELS),
    "views and copies": (Call(lambda x: torch.cat([x.flatten(1), x.flatten(1)])), image(), 0),
}


@pytest.mark.parametrize("name", SUMS)
def test_flops_are_those_of_a_pencil(name: str) -> None:
    network, example, expected = SUMS[name]
    cost = cost_of(network, example)
    assert cost.flops == sum(cost.flops_by_kind.values()) == expected
    assert cost.uncounted == ()


def test_attention_costs_the_same_whole_or_in_parts() -> None:
    whole, parts = cost_of(Call(attention_fused), tokens()), cost_of(Call(attention_by_parts), tokens())
    assert (whole.flops, whole.multiply_adds) == (parts.flops, parts.multiply_adds)
    assert whole.multiply_adds == 2 * 5 * 5 * 6
    mask_LS = torch.zeros(5, 5)
    masked = cost_of(Call(lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None], mask_LS)), tokens())
    assert masked.flops == whole.flops + 5 * 5


def test_an_operator_without_a_formula_is_named_not_guessed() -> None:
    cost = cost_of(Call(lambda x: torch.fft.fft2(x).real), image())
    assert [name for name in cost.uncounted if "fft" in name]
    assert cost.flops == 0


def test_a_batch_costs_what_one_image_costs() -> None:
    network = nn.Conv2d(8, 8, 3)
    assert cost_of(network, image().repeat(5, 1, 1, 1)) == cost_of(network, image())


def test_grouping_lowers_parameters_and_flops_and_raises_bytes_per_flop() -> None:
    dense, grouped = (cost_of(nn.Conv2d(64, 64, 3, groups=groups, bias=False), image(64)) for groups in (1, 8))
    assert grouped.parameters == dense.parameters / 8
    assert grouped.flops < dense.flops / 7
    assert grouped.memory_access_bytes / grouped.flops > dense.memory_access_bytes / dense.flops


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "densenet121",
        "mobilenet_v3_large",
        "regnet_y_400mf",
        "swin_t",
        pytest.param("resnet50", marks=pytest.mark.slow),
        pytest.param("vit_b_16", marks=pytest.mark.slow),
    ],
)
def test_multiply_adds_and_parameters_are_those_that_torchvision_publishes(name: str) -> None:
    published = torchvision.models.get_model_weights(name).DEFAULT.meta
    cost = cost_of(create(f"torchvision:{name}", 1000, 224), torch.zeros(1, 3, 224, 224))
    assert cost.parameters == published["num_params"]
    assert cost.multiply_adds / 1e9 == pytest.approx(published["_ops"], abs=0.001)  # published to three decimals
    assert cost.uncounted == ()


# Parameters (M) and multiply-adds (G), trained and deployed, from mmpretrain's table of the authors' networks.
REPVGG = {
    "repvgg_a0_plain": ((9.11, 1.52), (8.31, 1.36)),
    "repvgg_a1_plain": ((14.09, 2.64), (12.79, 2.37)),
}


@pytest.mark.parametrize("arch", ["repvgg_a0_plain", pytest.param("repvgg_a1_plain", marks=pytest.mark.slow)])
def test_repvgg_has_its_published_size_in_both_forms(arch: str) -> None:
    forms = both_forms(arch, 1000, 224, "repvgg")
    for form, (millions, billions) in zip(("trained", "plain"), REPVGG[arch], strict=True):
        cost = cost_of(forms[form], torch.zeros(1, 3, 224, 224))  # type: ignore[index]
        assert cost.parameters / 1e6 == pytest.approx(millions, abs=0.006)
        # Their counter also counts norms, biases and ReLUs (up to 0.5 %), and they round.
        assert cost.multiply_adds / 1e9 == pytest.approx(billions, rel=0.007)
        assert cost.head == "head" and cost.head_parameters == 1280 * 1000 + 1000


def test_the_network_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5))
    network[1].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    cost_of(network, image(3))
    assert [module.training for module in network] == [True, False, True]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_weight_file_has_the_size_that_is_said(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("trained")
    card = write_trained(folder)
    network = create(card.arch, card.class_num, card.preprocessing.size)
    expand(network, "repvgg")
    assert weight_file_bytes(network) == (folder / WEIGHTS).stat().st_size


def test_both_forms_of_a_network_of_one_size_with_blocks_of_its_own() -> None:
    forms = both_forms("tests.models.artifacts:OwnBlock", 5, 20, None)
    sizes = {name: cost_of(form, torch.zeros(1, 3, 20, 20)).parameters for name, form in forms.items()}
    assert sizes["trained"] - sizes["plain"] == 3 * 8 + 8  # the 1x1 branch


def test_an_image_that_the_network_does_not_take_is_one_sentence() -> None:
    with pytest.raises(BadInput, match="torchvision:vgg11 takes no image of 16 pixels"):
        both_forms("torchvision:vgg11", 10, 16, None)
    with pytest.raises(BadInput, match="no forward pass of Conv2d on an input of shape"):
        cost_of(nn.Conv2d(3, 3, 3), image(4))


@pytest.mark.parametrize("arch", ["mobilenetv3_small_100", "efficientnet_b0", "fastvit_t8", "convnext_atto"])
def test_every_operator_of_usual_networks_has_a_formula(arch: str) -> None:
    cost = cost_of(create(arch, 10, 224), torch.zeros(1, 3, 224, 224))
    assert cost.uncounted == ()

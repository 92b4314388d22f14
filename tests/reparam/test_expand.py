"""Convolutions and norms are paired by data flow; a convolution that cannot be expanded stays, with its reason."""

import pytest
import torch
from torch import Tensor, nn

from steps.errors import BadInput
from steps.reparam.expand import MultiBranchConv, expand, plan_expansion
from steps.reparam.pairing import pair_convs_with_norms
from tests.reparam.networks import SmallNet


class Flow(nn.Module):
    """Three channels to eight; each network below changes the steps after the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)


class UsedTwice(Flow):
    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.conv(image)) + self.norm(self.conv(image + 1))  # type: ignore[no-any-return]


class ReadElsewhere(Flow):
    def forward(self, image: Tensor) -> Tensor:
        features = self.conv(image)
        return self.norm(features) + features.sigmoid()  # type: ignore[no-any-return]


class ReturnedToo(Flow):
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.conv(image)
        return features, self.norm(features)


class ReluBetween(Flow):
    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.conv(image).relu())  # type: ignore[no-any-return]


class TwoNorms(Flow):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.BatchNorm2d(8)

    def forward(self, image: Tensor) -> Tensor:
        features = self.conv(image)
        return self.norm(features) + self.other(features)  # type: ignore[no-any-return]


class TiedWeight(Flow):
    def __init__(self) -> None:
        super().__init__()
        self.twin = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.twin.weight = self.conv.weight

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.conv(image)) + self.twin(image)  # type: ignore[no-any-return]


class GroupNormed(Flow):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 8)  # type: ignore[assignment]

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.conv(image))  # type: ignore[no-any-return]


class NoStatistics(Flow):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8, track_running_stats=False)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.conv(image))  # type: ignore[no-any-return]


class NotAffine(Flow):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8, affine=False)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.conv(image))  # type: ignore[no-any-return]


class Doubling(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        doubled: Tensor = 2 * super().forward(input)
        return doubled


class OwnNorm(Flow):
    def __init__(self) -> None:
        super().__init__()
        self.norm = Doubling(8)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.conv(image))  # type: ignore[no-any-return]


class Standardised(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        features: Tensor = self._conv_forward(input, self.weight - self.weight.mean(), self.bias)
        return features


class OwnConv(Flow):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Standardised(3, 8, 3, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.conv(image))  # type: ignore[no-any-return]


class OneNormForTwo(Flow):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.conv(image)) + self.norm(self.other(image))  # type: ignore[no-any-return]


class NotReached(Flow):
    def forward(self, image: Tensor) -> Tensor:
        return image


SKIPPED = {
    UsedTwice: "shared",
    ReadElsewhere: "also used by",
    ReturnedToo: "the network's output",
    ReluBetween: "no batch norm",
    TwoNorms: "also used by",
    TiedWeight: "shared",
    GroupNormed: "no batch norm",
    NoStatistics: "no running statistics",
    NotAffine: "bias",
    OwnNorm: "computes something else",
    OwnConv: "unsupported kernel",
    OneNormForTwo: "shared",
    NotReached: "does not reach",
}


@pytest.mark.parametrize("network", SKIPPED, ids=lambda network: network.__name__)
def test_what_cannot_be_expanded_is_skipped_with_its_reason(network: type[Flow]) -> None:
    model = network()
    plan = plan_expansion(model, "repvgg")
    assert not plan.expanded
    assert SKIPPED[network] in (plan.sites[0].skipped or "")
    with pytest.raises(BadInput, match="no site"):
        expand(model, "repvgg")
    assert not isinstance(model.get_submodule("conv"), MultiBranchConv)


def test_pairs_follow_the_data_not_the_order_of_registration() -> None:
    pairing = pair_convs_with_norms(SmallNet())
    assert pairing.norm_of == {"conv_a": "norm_a", "conv_b": "norm_b"}
    assert list(pairing.lone_convs) == ["alone"]


def test_the_plan_names_every_convolution_and_leaves_the_network_alone() -> None:
    model = SmallNet()
    before = list(model.state_dict())
    plan = plan_expansion(model, "acb")
    assert [site.site for site in plan.sites] == ["conv_a", "conv_b", "alone"]
    assert plan.lines()[0] == "conv_a: full + row + column"
    assert plan.lines()[2].startswith("alone: skipped, ")
    assert list(model.state_dict()) == before


@pytest.mark.parametrize(("where", "sites"), [("all", 2), ("3x3", 2), ("conv_b", 1), ("*_a", 1)])
def test_where_chooses_sites_by_kernel_size_or_name(where: str, sites: int) -> None:
    assert len(expand(SmallNet(), "repvgg", where).expanded) == sites


def test_a_where_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(BadInput, match="not in '7x7'"):
        expand(SmallNet(), "repvgg", where="7x7")


@pytest.mark.parametrize("padding", [2, (2, 2), "same"], ids=str)
def test_a_layer_changed_after_it_was_made_is_taken_as_it_computes(padding: int | tuple[int, int] | str) -> None:
    model = SmallNet()
    model.conv_a.padding = padding  # type: ignore[assignment]
    model.conv_a.dilation = (2, 2)
    assert expand(model, "dbb", where="conv_a").expanded, "an expansion is verified before it is kept"


def test_a_norm_of_fewer_channels_than_it_was_made_with_costs_its_site() -> None:
    model = SmallNet()
    for layer in (model.norm_a, model.conv_a):
        layer.weight = nn.Parameter(layer.weight[:6])
    model.norm_a.bias = nn.Parameter(model.norm_a.bias[:6])
    for name in ("running_mean", "running_var"):
        setattr(model.norm_a, name, getattr(model.norm_a, name)[:6])
    pruned = nn.Sequential(model.conv_a, model.norm_a)
    assert "cannot be replaced" in (plan_expansion(pruned, "acb").sites[0].skipped or "")


def test_unknown_names_are_errors_that_say_what_there_is() -> None:
    with pytest.raises(BadInput, match="Did you mean 'repvgg'"):
        expand(SmallNet(), "repvg")
    with pytest.raises(BadInput, match="'sideways' is no mode"):
        expand(SmallNet(), "repvgg", mode="sideways")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="'hot' is no init"):
        expand(SmallNet(), "repvgg", init="hot")  # type: ignore[arg-type]


def test_a_network_is_not_expanded_twice() -> None:
    model = SmallNet()
    expand(model, "repvgg")
    with pytest.raises(BadInput, match="expanded already"):
        expand(model, "acb")


def test_exact_keeps_the_function_in_training_mode_too() -> None:
    torch.manual_seed(0)
    model, image = SmallNet().train(), torch.randn(4, 3, 16, 16)
    before = model(image)
    expand(model, "dbb", init="exact")
    torch.testing.assert_close(model(image), before, rtol=0, atol=0)


def test_standard_lets_new_branches_speak_at_once() -> None:
    torch.manual_seed(0)
    model, image = SmallNet().eval(), torch.randn(4, 3, 16, 16)
    before = model(image)
    expand(model, "repvgg", init="standard")
    assert not torch.allclose(model(image), before, atol=1e-3)


def test_a_network_that_takes_no_image_says_so() -> None:
    class Picky(Flow):
        def forward(self, image: Tensor) -> Tensor:
            raise ValueError(f"I take 17 pixels, not {image.shape[2]}")

    with pytest.raises(BadInput, match="I take 17 pixels"):
        plan_expansion(Picky(), "repvgg")

"""A user's own network is expanded correctly, or left unchanged with a reason, before any training."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from steps.errors import BadInput
from steps.reparam.branches import BLOCKS, KernelBranch
from steps.reparam.certify import certify, exceeds, relative_error
from steps.reparam.expand import MODES, Init, Mode, expand, plan_expansion
from steps.reparam.fold import absorb_norms, fold, norms_left
from steps.reparam.verify import BROKEN
from steps.tracing.copies import copied
from tests.reparam.networks import randomise
from tests.reparam.own_choices import OWN_CHOICES
from tests.reparam.own_networks import REASONS as OF_NETWORKS
from tests.reparam.own_networks import CalledByKeyword, Own, PartUnderTwoNames
from tests.reparam.own_numbers import OWN_NUMBERS

BOUND = 1e-5  # float32, for a few layers
REASONS = {**OF_NETWORKS, **OWN_NUMBERS, **OWN_CHOICES}


EXAMPLES = {"zeros": torch.zeros(1, 3, 16, 16), "random": torch.randn(1, 3, 16, 16)}


@pytest.mark.parametrize("network", REASONS, ids=lambda network: network.__name__)
def test_a_site_is_skipped_with_its_reason_and_the_others_are_expanded(network: type[Own]) -> None:
    model = network()
    plans = {name: plan_expansion(model, "repvgg", example_NCHW=example) for name, example in EXAMPLES.items()}
    assert plans["zeros"] == plans["random"], "an example gives a shape and nothing else"
    stem, site = plans["zeros"].sites
    assert stem.skipped is None and stem.branches
    assert any(reason in (site.skipped or "") for reason in REASONS[network].split("|")), site.skipped


@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@pytest.mark.parametrize("network", REASONS, ids=lambda network: network.__name__)
def test_exactly_expanded_it_is_the_same_network_in_both_modes(network: type[Own], training: bool) -> None:
    torch.manual_seed(0)
    plain = randomise(network())
    wide = copied(plain)
    expand(wide, "acb", init="exact")
    image = torch.randn(4, 3, 16, 16)
    returned = []
    for model in (plain.train(training), wide.train(training)):
        torch.manual_seed(1)
        returned.append(model(image))
    torch.testing.assert_close(returned[1], returned[0])


@pytest.mark.parametrize("network", REASONS, ids=lambda network: network.__name__)
def test_without_the_norms_that_can_go_it_is_the_same_network(network: type[Own]) -> None:
    torch.manual_seed(0)
    model, image = randomise(network()), torch.randn(2, 3, 16, 16)
    absorbed = absorb_norms(model)
    error = relative_error(model(image), absorbed(image))
    assert error is not None and error <= BOUND
    assert "stem_norm.weight" not in absorbed.state_dict()
    fresh = absorb_norms(network().eval(), torch.zeros(1, 3, 16, 16))
    assert list(fresh.state_dict()) == list(absorbed.state_dict())
    left = {name for name, module in absorbed.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert {absorbed.get_submodule(name) for name in norms_left(absorbed)} == {
        absorbed.get_submodule(name) for name in left
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("network", [CalledByKeyword, PartUnderTwoNames])
def test_another_way_of_calling_a_site_is_no_obstacle(network: type[Own], mode: Mode) -> None:
    torch.manual_seed(0)
    model, image = network(), torch.randn(2, 3, 16, 16)
    assert len(expand(model, "repvgg", init="standard", mode=mode).expanded) == 2
    randomise(model).double()
    plain = absorb_norms(fold(model))
    assert not norms_left(plain)
    assert not exceeds(certify(model, plain, image, 0, {"fp64": 1e-12})[0])
    network().load_state_dict(fold(model).state_dict(), strict=True)


def test_numbers_side_by_side_in_one_buffer_are_not_shared() -> None:
    model = Own()
    parameters = [model.get_parameter(name) for name in ("stem.weight", "conv.weight", "norm.weight")]
    buffer = torch.cat([parameter.detach().flatten() for parameter in parameters])
    parts = torch.split(buffer, [parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.data = part.view_as(parameter)
    assert len(plan_expansion(model, "repvgg").expanded) == 2


def test_numbers_row_by_row_in_one_kernel_are_not_shared() -> None:
    model = Own()
    kernel = torch.randn(8, 16, 3, 3)
    model.conv.weight.data, model.spare = kernel[:, :8], nn.Conv2d(8, 8, 3)
    model.spare.weight.data = kernel[:, 8:]
    assert len(plan_expansion(model, "repvgg").expanded) == 2
    model.spare.weight.data = kernel[:, 7:15]
    assert len(plan_expansion(model, "repvgg").expanded) == 1


@pytest.mark.parametrize("block", BLOCKS)
def test_planning_draws_nothing_and_changes_nothing(block: str) -> None:
    model = Own()
    drawn, before = torch.get_rng_state(), copy.deepcopy(model.state_dict())
    plan_expansion(model, block)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert model.training and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_plan_does_not_depend_on_weights() -> None:
    zero, broken = Own(), Own()
    for parameter in zero.parameters():
        nn.init.zeros_(parameter)
    broken.head.bias.data.fill_(torch.nan)
    assert plan_expansion(zero, "dbb") == plan_expansion(broken, "dbb") == plan_expansion(Own(), "dbb")


def bug(_: KernelBranch, padded_NCHW: Tensor) -> Tensor:
    raise RuntimeError(f"a bug at {len(padded_NCHW)} images")


def a_little_more(branch: KernelBranch, padded_NCHW: Tensor) -> Tensor:
    """Return a thousandth more in eval mode, which is more than any float32 rounding."""
    normed: Tensor = branch.norm(branch.conv(padded_NCHW))
    return normed if branch.training else normed * 1.001


@pytest.mark.parametrize(
    "wrong", [bug, lambda branch, padded: branch.norm(branch.conv(padded)) + 1, a_little_more]
)
def test_a_fault_of_our_own_is_told_from_one_of_the_network(
    monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., Tensor]
) -> None:
    monkeypatch.setattr(KernelBranch, "forward", wrong)
    skipped = [site.skipped or "" for site in plan_expansion(Own(), "repvgg").sites]
    assert all(reason.startswith(BROKEN) for reason in skipped)


class Unrunnable(Own):
    """Fail without the second convolution, with an error that names no site."""

    def body(self, features: Tensor) -> Tensor:
        if not isinstance(self.conv, nn.Conv2d):
            raise ValueError("no convolution")
        return super().body(features)


def test_where_no_site_can_be_blamed_the_one_at_fault_is_found() -> None:
    stem, site = plan_expansion(Unrunnable(), "repvgg").sites
    assert stem.skipped is None
    assert site.skipped == "the network does not run without it: ValueError: no convolution"


def test_what_has_no_numbers_yet_is_refused_in_one_sentence() -> None:
    with torch.device("meta"):
        model = Own()
    with pytest.raises(BadInput, match=r"stem\.weight has no values"):
        plan_expansion(model, "repvgg")
    lazy = Own()
    lazy.conv = nn.LazyConv2d(8, 3)
    with pytest.raises(BadInput, match=r"conv\.weight has no shape yet; run one image through"):
        plan_expansion(lazy, "repvgg")
    lazy(torch.zeros(2, 3, 16, 16))
    assert len(plan_expansion(lazy, "repvgg").expanded) == 2


def test_an_image_that_the_network_does_not_take_is_one_sentence() -> None:
    with pytest.raises(BadInput, match=r"Own takes no image of 5x16x16: .*channels"):
        plan_expansion(Own(), "repvgg", example_NCHW=torch.zeros(1, 5, 16, 16))


def test_a_norm_that_is_held_in_eval_mode_stays_so() -> None:
    model = Own()
    model.norm.eval()
    stem, site = expand(model, "repvgg").sites
    assert stem.skipped is None and "its norm is frozen" in (site.skipped or "")
    assert not model.norm.training


@pytest.mark.parametrize("init", get_args(Init))
@pytest.mark.parametrize("block", BLOCKS)
def test_a_norm_keeps_its_precision_beside_a_coarser_convolution(block: str, init: Init) -> None:
    torch.manual_seed(0)
    model, images = randomise(Own()).half(), torch.randn(2, 3, 16, 16).half()
    model.norm.float()
    with torch.no_grad():
        model.get_buffer("norm.running_var").mul_(2e5)  # more than half precision can hold
        model.get_parameter("norm.weight").mul_(450)
    before, returned = {key: value.dtype for key, value in model.state_dict().items()}, model(images)
    assert len(expand(model, block, init=init, example_NCHW=images).expanded) == 2
    folded = fold(model)
    assert {key: value.dtype for key, value in folded.state_dict().items()} == before
    expected = returned if init == "exact" else model(images)
    for network in (model, folded):
        error = relative_error(expected, network(images))
        assert error is not None and error <= 0.01  # a few roundings to half precision


def test_networks_that_were_expanded_apart_fold_together() -> None:
    class Joined(nn.Module):
        def __init__(self, one: nn.Module, other: nn.Module) -> None:
            super().__init__()
            self.one, self.other = one, other

        def forward(self, image: Tensor) -> Tensor:
            both: Tensor = self.one(image) + self.other(image)
            return both

    torch.manual_seed(0)
    one, other = Own(), Own()
    expand(one, "repvgg", init="standard")
    expand(other, "acb", init="standard")
    joined, image = randomise(Joined(one, other)).double(), torch.randn(2, 3, 16, 16)
    plain = fold(joined)
    Joined(Own(), Own()).load_state_dict(plain.state_dict(), strict=True)
    rows = certify(joined, plain, image, 0, {"fp64": 1e-12})
    assert not exceeds(rows[0])
    assert {row.site for row in rows} >= {"one.stem", "one.conv", "other.stem", "other.conv"}


@pytest.mark.parametrize("mode", MODES)
def test_parts_of_expanded_networks_fold_as_what_they_are(mode: Mode) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)

        def forward(self, image: Tensor) -> Tensor:
            features: Tensor = self.norm(self.conv(image))
            return features.relu()

    torch.manual_seed(0)
    wholes = [nn.Sequential() for _ in range(2)]
    for whole in wholes:
        whole.add_module("encoder", Encoder())
        expand(whole, "acb", init="standard", mode=mode)
    student = randomise(wholes[0]).get_submodule("encoder")
    other = randomise(wholes[1]).get_submodule("encoder")
    joined = nn.Sequential(student, other, copy.deepcopy(other)).double().eval()
    with torch.no_grad():
        for number in joined[2].parameters():
            number.add_(0.1)
    plain, image = fold(joined), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    nn.Sequential(Encoder(), Encoder(), Encoder()).load_state_dict(plain.state_dict(), strict=True)
    error = relative_error(joined(image), plain(image))
    assert error is not None and error <= 1e-12


def test_a_block_without_its_norms_place_is_refused() -> None:
    model = Own()
    expand(model, "acb")
    with pytest.raises(BadInput, match="conv was expanded as conv, and the replacement of its norm is not in"):
        fold(nn.Sequential(OrderedDict(conv=model.conv)).eval())

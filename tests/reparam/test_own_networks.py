"""A user's own network is expanded rightly or left as it is, with a reason, before any training."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from steps.errors import BadInput
from steps.reparam.branches import BLOCKS, KernelBranch
from steps.reparam.certify import certify, exceeds, relative_error
from steps.reparam.copies import copied
from steps.reparam.expand import MODES, Mode, expand, plan_expansion
from steps.reparam.fold import absorb_norms, fold, norms_left
from steps.reparam.verify import BROKEN
from tests.reparam.networks import randomise

BOUND = 1e-5  # float32, a few layers


class Own(nn.Module):
    """Two sites, of which the first is as usual; each network below does something with the second."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 4)

    def body(self, features: Tensor) -> Tensor:
        """Return what the second site makes."""
        normed: Tensor = self.norm(self.conv(features))
        return normed

    def forward(self, image: Tensor) -> Any:
        features = self.body(self.stem_norm(self.stem(image)).relu())
        return self.head(features.mean((2, 3)))


class LeakyNorm(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        return F.leaky_relu(super().forward(input), 0.1)


class TrainsOtherwise(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        normed = super().forward(input)
        return normed.tanh() if self.training else normed


class PadsBefore(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        features: Tensor = self._conv_forward(F.pad(input, (2, 0, 2, 0)), self.weight, self.bias)
        return features


class NormWithAnActivation(Own):
    def __init__(self) -> None:
        super().__init__()
        self.norm = LeakyNorm(8)


class NormThatStartsAtZero(NormWithAnActivation):
    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.norm.weight)


class NormThatTrainsOtherwise(Own):
    def __init__(self) -> None:
        super().__init__()
        self.norm = TrainsOtherwise(8)


class OwnPadding(Own):
    def __init__(self) -> None:
        super().__init__()
        self.conv = PadsBefore(8, 8, 3, bias=False)


class HookOnTheNorm(Own):
    def __init__(self) -> None:
        super().__init__()
        self.norm.register_forward_hook(lambda *given: given[2] * 2)


class HookOnTheConvolution(Own):
    def __init__(self) -> None:
        super().__init__()
        self.conv.register_forward_hook(lambda *given: given[2] * 2)


class NormUnderTwoNames(Own):
    def __init__(self) -> None:
        super().__init__()
        self.alias = self.norm

    def body(self, features: Tensor) -> Tensor:
        return self.alias(self.conv(features))  # type: ignore[no-any-return]


class LayersInAList(Own):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [self.conv, self.norm]

    def body(self, features: Tensor) -> Tensor:
        for layer in self.layers:
            features = layer(features)
        return features


class NormInAList(Own):
    def __init__(self) -> None:
        super().__init__()
        self.norms = [self.norm]

    def body(self, features: Tensor) -> Tensor:
        return self.norms[0](self.conv(features))  # type: ignore[no-any-return]


class WeightReadAgain(Own):
    def body(self, features: Tensor) -> Tensor:
        return super().body(features) + F.conv2d(features, self.conv.weight, padding=1)


class GammaReadAgain(Own):
    def body(self, features: Tensor) -> Tensor:
        return super().body(features) * self.norm.weight.reshape(1, -1, 1, 1)


class AttributeRead(Own):
    def body(self, features: Tensor) -> Tensor:
        return super().body(features).reshape(-1, self.conv.out_channels, *features.shape[2:])


class KindAsked(Own):
    def body(self, features: Tensor) -> Tensor:
        return super().body(features) if isinstance(self.conv, nn.Conv2d) else features


class DropoutBetween(Own):
    def body(self, features: Tensor) -> Tensor:
        return self.norm(self.drop(self.conv(features)))  # type: ignore[no-any-return]


class AuxiliaryHead(Own):
    def forward(self, image: Tensor) -> Any:
        features = self.conv(self.stem_norm(self.stem(image)).relu())
        logits = self.head(self.norm(features).mean((2, 3)))
        return (logits, features.mean((2, 3))) if self.training else logits


class WeightNormed(Own):
    def __init__(self) -> None:
        super().__init__()
        parametrizations.weight_norm(self.conv)


class SpectralNormed(Own):
    def __init__(self) -> None:
        super().__init__()
        parametrizations.spectral_norm(self.conv)


class Pruned(Own):
    def __init__(self) -> None:
        super().__init__()
        prune.random_unstructured(self.conv, "weight", amount=0.5)  # type: ignore[no-untyped-call]


class Frozen(Own):
    def __init__(self) -> None:
        super().__init__()
        self.conv.requires_grad_(False)


class Transposed(Own):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(8, 8, 3, padding=1)  # type: ignore[assignment]


REASONS: dict[type[Own], str] = {
    NormWithAnActivation: "computes something else",
    NormThatStartsAtZero: "computes something else",
    NormThatTrainsOtherwise: "in training its norm",
    OwnPadding: "rules of its own",
    HookOnTheNorm: "hooks",
    HookOnTheConvolution: "hooks",
    NormUnderTwoNames: "shared",
    LayersInAList: "under another name",
    NormInAList: "its norm under another name",
    WeightReadAgain: "also read by aten.convolution",
    GammaReadAgain: "also read by",
    AttributeRead: "the network reads conv.out_channels",
    KindAsked: "does not reach|under another name",
    DropoutBetween: "in training something stands between",
    AuxiliaryHead: "in training its output is also used by",
    WeightNormed: "parametrization",
    SpectralNormed: "parametrization",
    Pruned: "hooks",
    Frozen: "frozen",
    Transposed: "ConvTranspose2d",
}
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


class CalledByKeyword(Own):
    def body(self, features: Tensor) -> Tensor:
        return self.norm(input=self.conv(input=features))  # type: ignore[no-any-return]


class PartUnderTwoNames(Own):
    """Not the layers stand at two places, but the part that holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(self.conv, self.norm)
        self.parts = nn.ModuleList([self.part])
        del self.conv, self.norm

    def body(self, features: Tensor) -> Tensor:
        return self.parts[0](features)  # type: ignore[no-any-return]


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


@pytest.mark.parametrize("wrong", [bug, lambda branch, padded: branch.norm(branch.conv(padded)) + 1])
def test_a_fault_of_our_own_is_told_from_one_of_the_network(
    monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., Tensor]
) -> None:
    monkeypatch.setattr(KernelBranch, "forward", wrong)
    skipped = [site.skipped or "" for site in plan_expansion(Own(), "repvgg").sites]
    assert all(reason.startswith(BROKEN) for reason in skipped)


class Unrunnable(Own):
    """Fails without its second convolution, in a way that blames no site."""

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
    with pytest.raises(BadInput, match=r"stem\.weight has no numbers"):
        plan_expansion(model, "repvgg")
    lazy = Own()
    lazy.conv = nn.LazyConv2d(8, 3)
    with pytest.raises(BadInput, match=r"conv\.weight has no shape yet; let one image through"):
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


def test_a_norm_keeps_its_precision_beside_a_coarser_convolution() -> None:
    model = randomise(Own()).half()
    model.norm.float()
    before = {key: value.dtype for key, value in model.state_dict().items()}
    expand(model, "dbb", init="standard", example_NCHW=torch.zeros(1, 3, 16, 16))
    assert {key: value.dtype for key, value in fold(model).state_dict().items()} == before


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

"""What one pass does not show: norms chosen by an attribute, and parts that only other passes use."""

import random
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from steps.errors import BadInput
from steps.reparam.branches import BLOCKS
from steps.reparam.certify import relative_error
from steps.reparam.expand import MODES, Mode, expand, plan_expansion
from steps.reparam.fold import absorb_norms, fold
from steps.reparam.plan import ExpansionPlan
from steps.tracing.copies import copied
from steps.tracing.randomness import fixed_draws, generator_states
from tests.reparam.networks import SmallNet, randomise
from tests.reparam.own_choices import (
    AnotherBranchInTraining,
    Domains,
    OfTwoDomains,
    OfTwoKindsOfNorm,
    UnreachedElsewhere,
)
from tests.reparam.own_networks import Own


@pytest.mark.parametrize("network", [OfTwoDomains, OfTwoKindsOfNorm])
def test_the_norm_that_is_chosen_later_still_follows_its_convolution(network: type[OfTwoDomains]) -> None:
    torch.manual_seed(0)
    plain, image = randomise(network()), torch.randn(2, 3, 16, 16)
    wide = copied(plain)
    expand(wide, "acb", example_NCHW=image)
    absorbed = absorb_norms(plain, image)
    for model in (plain, wide, absorbed):
        part = model.get_submodule("part")
        assert isinstance(part, Domains)
        part.elsewhere = True
    for changed in (wide, absorbed):
        torch.testing.assert_close(changed.eval()(image), plain(image))


@pytest.mark.parametrize("network", [AnotherBranchInTraining, UnreachedElsewhere])
def test_a_norm_that_can_be_no_other_ones_rival_costs_no_site(network: type[Own]) -> None:
    plan = plan_expansion(network(), "acb", example_NCHW=torch.zeros(1, 3, 16, 16))
    skipped = {site.site: site.skipped for site in plan.sites if site.skipped}
    assert all(reason == "the forward pass does not reach it" for reason in skipped.values()), skipped
    assert len(plan.expanded) == 2
    absorbed = absorb_norms(network().eval(), torch.zeros(1, 3, 16, 16))
    assert "stem_norm.weight" not in absorbed.state_dict()


def ring() -> list[object]:
    """Return a list that contains itself."""
    made: list[object] = []
    made.append(made)
    return made


@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: float(torch.rand(()))])
def test_what_is_drawn_is_drawn_alike_and_seen_and_the_generator_is_left_alone(draw: Callable[[], float]) -> None:
    before, drawn = generator_states(), []
    for seed in (0, 0, 1):
        with fixed_draws(seed):
            undrawn = generator_states()
            drawn.append(draw())
            assert generator_states() != undrawn
    assert drawn[0] == drawn[1] != drawn[2] and generator_states() == before


def test_a_network_that_draws_from_numpy_has_one_plan() -> None:
    class DropsItsSite(Own):
        def body(self, features: torch.Tensor) -> torch.Tensor:
            if self.training and np.random.rand() < 0.5:
                return features
            return features + super().body(features).relu()

    plans = []
    for seed in range(4):
        np.random.seed(seed)
        plans.append(plan_expansion(DropsItsSite(), "acb", example_NCHW=torch.zeros(1, 3, 16, 16)))
    assert all(plan == plans[0] for plan in plans) and len(plans[0].expanded) == 2


def test_a_network_of_two_inputs_is_told_what_would_be_right() -> None:
    class Two(SmallNet):
        def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(image * mask)

    class ByName(SmallNet):
        def forward(self, *, image: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(image)

    for network, takes in ((Two(), "image, mask"), (ByName(), "image=")):
        for example in (None, torch.zeros(1, 3, 16, 16)):
            with pytest.raises(BadInput, match=f"one positional tensor of images, and its forward takes {takes};"):
                plan_expansion(network, "acb", example_NCHW=example)


def test_the_size_of_the_weights_changes_no_plan() -> None:
    class Doubled(SmallNet):
        """The change to the convolution's input is visible only while the numbers are finite."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(8, 1, 1))
            del self.norm_a  # unused in the forward pass

        def forward(self, image_NCHW: torch.Tensor) -> torch.Tensor:
            features = self.conv_a(image_NCHW)
            for _ in range(8):
                features = self.alone(features) * self.scale
            doubled = features * 2 if isinstance(self.norm_b, nn.BatchNorm2d) else features
            return self.head(self.norm_b(self.conv_b(doubled)).mean((2, 3)))  # type: ignore[no-any-return]

    def plan(number: str, factor: float) -> ExpansionPlan:
        torch.manual_seed(0)
        network = Doubled()
        network.get_parameter(number).data *= factor
        return plan_expansion(network, "acb")

    expected = plan("scale", 1.0)
    assert "replacing it" in (expected.sites[1].skipped or "")
    assert plan("scale", 1e8) == plan("alone.weight", 1e8) == expected


@pytest.mark.parametrize("shape", [(), (16,), (3, 1, 1), (1, 3, 1, 1)])
def test_a_scale_of_any_shape_is_drawn_above_zero(shape: tuple[int, ...]) -> None:
    class OfARoot(Own):
        def __init__(self) -> None:
            super().__init__()
            self.sigma = nn.Parameter(torch.ones(shape))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = super().forward(image.abs() ** self.sigma.sqrt())
            return features

    assert len(plan_expansion(OfARoot(), "acb", example_NCHW=torch.zeros(1, 3, 16, 16)).expanded) == 2


@pytest.mark.parametrize("score", [nn.Linear(1024, 1), nn.Conv2d(1024, 1, 1)], ids=["linear", "convolution"])
def test_a_layer_of_one_output_is_drawn_as_one_of_many(score: nn.Module) -> None:
    """Drawn as a scale (all positive), the layer gave 1,000 times its input, whose exponential is infinite."""

    class Scored(Own):
        def __init__(self) -> None:
            super().__init__()
            self.score = score

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            repeated = image.mean(1, keepdim=True).abs().repeat(1, 1024, 1, 1) * 10
            given = (
                repeated.mean((2, 3)) if isinstance(self.score, nn.Linear) else repeated.mean((2, 3), keepdim=True)
            )
            features: torch.Tensor = super().forward(image * self.score(given).exp().view(-1, 1, 1, 1))
            return features

    assert len(plan_expansion(Scored(), "acb", example_NCHW=torch.zeros(1, 3, 16, 16)).expanded) == 2


@pytest.mark.parametrize("kept", [threading.Lock(), (number for number in range(3)), ring()], ids=type)
def test_what_cannot_be_copied_is_one_sentence(kept: object) -> None:
    network = SmallNet()
    network.kept = kept  # type: ignore[assignment]
    with pytest.raises(BadInput, match=r"SmallNet cannot be copied: \w+Error, .*must be copyable"):
        plan_expansion(network, "acb")


def test_the_network_inside_a_distributed_one_is_asked_for() -> None:
    class Distributed(nn.parallel.DistributedDataParallel):
        def __init__(self) -> None:  # the refusal needs no process group
            nn.Module.__init__(self)
            self.module = SmallNet()

    with pytest.raises(BadInput, match=r"pass the network inside, its \.module"):
        plan_expansion(Distributed(), "acb")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_compiled_network_is_refused() -> None:
    image = torch.zeros(1, 3, 16, 16)
    traced = torch.jit.trace(SmallNet().eval(), image)  # type: ignore[no-untyped-call]
    for compiled in (traced, torch.jit.script(SmallNet().eval())):
        assert isinstance(compiled, nn.Module)
        for look in (lambda model: plan_expansion(model, "acb"), absorb_norms):
            with pytest.raises(BadInput, match=r"was compiled by torch\.jit"):
                look(compiled)


def test_torchs_default_of_another_precision_changes_no_plan() -> None:
    import timm

    def plan() -> object:
        torch.manual_seed(0)
        return plan_expansion(timm.create_model("tf_mobilenetv3_small_minimal_100"), "repvgg")

    expected = plan()
    torch.set_default_dtype(torch.float64)
    try:
        assert plan() == expected
        assert expand(SmallNet().float(), "acb").expanded
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_network_laid_out_channels_last_stays_so() -> None:
    model = SmallNet().to(memory_format=torch.channels_last)
    expand(model, "acb")
    weights = {
        name: number for name, number in model.named_parameters() if number.dim() == 4 and number[0, 0].numel() > 1
    }
    laid = {name: number.is_contiguous(memory_format=torch.channels_last) for name, number in weights.items()}
    assert len(laid) == 7 and all(laid.values()), laid


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block", BLOCKS)
def test_a_norm_without_a_bias_leaves_it_to_the_convolution(block: str, mode: Mode) -> None:
    torch.manual_seed(0)
    model = SmallNet()
    model.norm_a, model.norm_b = (nn.BatchNorm2d(8, bias=False) for _ in range(2))
    keys = list(model.state_dict())
    first, other, _ = expand(model, block, init="standard", mode=mode).sites
    assert first.skipped == "neither the convolution nor its norm has a bias to fold into"
    assert other.site == "conv_b" and other.skipped is None
    randomise(model).double()
    image = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    plain = fold(model)
    assert list(plain.state_dict()) == keys
    for folded in (plain, absorb_norms(plain)):
        error = relative_error(model(image), folded(image))
        assert error is not None and error <= 1e-12


def test_a_feature_extractor_is_folded_in_its_mode() -> None:
    torch.manual_seed(0)
    extractor = create_feature_extractor(torchvision.models.resnet18(num_classes=5).eval(), ["layer2", "fc"])
    assert copied(extractor.train()).training and not copied(extractor.eval()).training
    expand(extractor, "acb", init="standard")
    randomise(extractor).double()
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    plain = fold(extractor)
    assert not any(module.training for module in plain.modules())
    for name, expected in extractor(image).items():
        error = relative_error(expected, plain(image)[name])
        assert error is not None and error <= 1e-11

"""A folded network has the original architecture; an absorbed network keeps no norm that can be removed."""

from collections.abc import Callable
from itertools import cycle

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils import prune, spectral_norm, weight_norm
from torchvision.ops import FrozenBatchNorm2d

from steps.errors import BadInput
from steps.reparam.branches import BLOCKS
from steps.reparam.certify import relative_error
from steps.reparam.expand import expand, plan_expansion
from steps.reparam.fold import FOLDABLE, absorb_norms, fold, norms_left
from tests.reparam.networks import SmallNet, randomise, synchronised

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "timm resnet18": lambda: timm.create_model("resnet18", num_classes=7),
    "timm mobilenetv3_small_050": lambda: timm.create_model("mobilenetv3_small_050", num_classes=7),
    "torchvision vgg11_bn": lambda: torchvision.models.vgg11_bn(num_classes=7).features,
    "torchvision resnet18": lambda: torchvision.models.resnet18(num_classes=7),
}
SPREAD = tuple(zip(cycle(NETWORKS), BLOCKS, strict=False))  # each block once; a benchmark runs all combinations


@pytest.mark.parametrize(("name", "block"), SPREAD)
def test_public_networks_fold_back_into_the_unmodified_architecture(name: str, block: str) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    model = randomise(NETWORKS[name]())
    expand(model, block)
    randomise(model).double()
    expected = model(image)
    folded = fold(model)
    original = NETWORKS[name]().double().eval()
    original.load_state_dict(folded.state_dict(), strict=True)
    for plain in (original, absorb_norms(folded)):
        error = relative_error(expected, plain(image))
        assert error is not None and error <= 1e-11  # float64; random weights magnify rounding over the depth
    assert norms_left(absorb_norms(folded)) == {}


@pytest.mark.parametrize("reweigh", [weight_norm, spectral_norm, prune.identity], ids=lambda how: how.__name__)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_are_made_anew_in_each_pass_are_refused(reweigh: Callable[..., nn.Module]) -> None:
    model = SmallNet()
    expand(model, "repvgg")
    conv = model.eval().get_submodule("conv_a.branches.full.conv")
    conv.register_forward_pre_hook(lambda *_: None)
    assert fold(model), "hooks of another kind may only look"
    reweigh(conv, "weight")
    with pytest.raises(BadInput, match=r"the weight of conv_a\.branches\.full\.conv is computed by \w+ before"):
        fold(model)


def test_fold_leaves_the_given_network_as_it_is() -> None:
    model = SmallNet()
    expand(model, "repvgg")
    randomise(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fold(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_bias_goes_where_the_architecture_has_room_for_it() -> None:
    model = SmallNet()
    expand(model, "acb")
    plain = fold(randomise(model))
    assert isinstance(plain, SmallNet)
    assert plain.conv_a.bias is None and plain.norm_a.bias.abs().sum() > 0
    assert plain.conv_b.bias is not None and plain.norm_b.bias.abs().sum() == 0
    for norm in (plain.norm_a, plain.norm_b):
        assert norm.running_mean is not None and norm.running_var is not None
        assert torch.equal(norm.weight, torch.ones(8)) and torch.equal(norm.running_mean, torch.zeros(8))
        torch.testing.assert_close(norm.running_var, torch.full((8,), 1 - norm.eps))


@pytest.mark.parametrize("refused", [fold, absorb_norms])
def test_training_mode_is_refused(refused: Callable[[nn.Module], nn.Module]) -> None:
    with pytest.raises(BadInput, match=r"training mode; call \.eval\(\)"):
        refused(SmallNet().train())


def test_absorbing_a_multi_branch_network_is_refused() -> None:
    model = SmallNet().eval()
    expand(model, "repvgg")
    with pytest.raises(BadInput, match="fold it first"):
        absorb_norms(model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_numbers_are_rounded_once_to_the_precision_they_had(dtype: torch.dtype) -> None:
    model = SmallNet()
    expand(model, "repvgg")
    rounded = randomise(model).to(dtype)
    exact = fold(copy_as(rounded, torch.float64)).state_dict()
    for key, value in fold(rounded).state_dict().items():
        wanted = exact[key].to(dtype) if value.is_floating_point() else exact[key]
        assert torch.equal(value, wanted), key


def test_synchronised_norms_fold_and_stay_synchronised() -> None:
    model = synchronised(SmallNet())
    expand(model, "acb")
    randomise(model).double()
    image = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    plain = fold(model)
    error = relative_error(model(image), plain(image))
    assert error is not None and error <= 1e-12
    assert isinstance(plain.get_submodule("norm_a"), nn.SyncBatchNorm)


def test_branches_made_synchronised_after_expanding_fold_too() -> None:
    model = SmallNet()
    expand(model, "repvgg")
    wide = randomise(synchronised(model)).double()
    image = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    error = relative_error(wide(image), fold(wide)(image))
    assert error is not None and error <= 1e-12


def test_a_fresh_absorbed_network_takes_the_saved_keys() -> None:
    model = SmallNet()
    expand(model, "repvgg")
    shipped = absorb_norms(fold(randomise(model)))
    fresh = absorb_norms(SmallNet().eval())
    fresh.load_state_dict(shipped.state_dict(), strict=True)
    image = torch.randn(2, 3, 16, 16)
    assert torch.equal(fresh(image), shipped(image))


def test_sites_are_found_under_a_wrapper() -> None:
    class Wrapped(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, image: Tensor) -> Tensor:
            logits: Tensor = self.net(image / 2)
            return logits

    model = SmallNet()
    expand(model, "repvgg")
    wrapped = randomise(Wrapped(model)).double()
    image = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    error = relative_error(wrapped(image), fold(wrapped)(image))
    assert error is not None and error <= 1e-12


def test_norms_that_must_stay_are_listed_with_their_reason() -> None:
    class NormFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, image: Tensor) -> Tensor:
            features: Tensor = self.conv(self.norm(image))
            return features

    assert norms_left(absorb_norms(NormFirst().eval())) == {"norm": "its input is no convolution's output"}


@pytest.mark.parametrize("model", [SmallNet(), absorb_norms(SmallNet().eval())], ids=["whole", "absorbed"])
def test_every_norm_that_is_still_there_is_listed(model: nn.Module) -> None:
    left = norms_left(model.eval())
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert left == dict.fromkeys(norms, FOLDABLE)


def test_layers_of_other_kinds_are_named_for_what_they_are() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), FrozenBatchNorm2d(4))
    image = torch.zeros(1, 3, 16, 16)
    plan = plan_expansion(model.eval(), "repvgg", example_NCHW=image)
    assert [site.site for site in plan.sites] == ["0", "2"]
    assert plan.sites[0].skipped == "unsupported kernel: ConvTranspose2d is no convolution of images"
    left = norms_left(model, image)
    assert "ConvTranspose2d" in left["1"] and left["3"] == "FrozenBatchNorm2d is no batch norm class of torch"


class PadsByItself(nn.Conv2d):
    """As timm's Conv2dSame with 3x3 and stride 2: the padding depends on the image."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        rows, columns = (max(0, (-(-size // 2) - 1) * 2 + 3 - size) for size in input.shape[2:])
        margins = columns // 2, columns - columns // 2, rows // 2, rows - rows // 2
        padded = nn.functional.pad(input, margins)
        features: Tensor = self._conv_forward(padded, self.weight, self.bias)
        return features


@pytest.mark.parametrize("bias", [False, True])
def test_a_norm_goes_into_a_convolution_that_only_pads_by_its_own_rule(bias: bool) -> None:
    net = SmallNet()
    net.conv_a = PadsByItself(3, 8, 3, stride=2, bias=bias)
    model, image = randomise(net).double(), torch.randn(2, 3, 17, 16, dtype=torch.float64)
    absorbed = absorb_norms(model)
    error = relative_error(model(image), absorbed(image))
    assert error is not None and error <= 1e-12
    assert norms_left(absorbed) == {}
    plan = plan_expansion(SmallNet(), "repvgg"), plan_expansion(net, "repvgg")
    assert [len(entry.expanded) for entry in plan] == [2, 2]  # TensorFlow's SAME: the branches pad in the same way


def test_a_network_that_was_run_with_gradients_and_keeps_what_it_computed_folds() -> None:
    class Caching(SmallNet):
        cached: Tensor | None = None

        def forward(self, image_NCHW: Tensor) -> Tensor:
            if self.cached is None:
                self.cached = self.head.bias * 2  # timm's attention caches its biases like this
            return super().forward(image_NCHW) + self.cached

    model = Caching()
    expand(model, "repvgg")
    randomise(model)
    image = torch.randn(1, 3, 16, 16)
    computed = model(image)
    assert computed.requires_grad
    error = relative_error(computed, fold(model)(image))
    assert error is not None and error <= 1e-5  # float32


def copy_as(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of the network in another precision."""
    twin = SmallNet()
    expand(twin, "repvgg")
    twin.load_state_dict(model.state_dict())
    twin.to(model.get_parameter("head.weight").dtype).load_state_dict(model.state_dict())
    return twin.to(dtype).eval()

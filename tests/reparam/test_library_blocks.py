"""Networks with library blocks use the library's inference form, in float64, and no part is dropped."""

from collections.abc import Callable

import pytest
import timm
import torch
from timm.layers.norm_act import convert_sync_batchnorm
from timm.models import byobnet, reparameterize_model
from torch import Tensor, nn

from steps.errors import BadInput
from steps.reparam.certify import WHOLE, certify, exceeds, relative_error
from steps.reparam.expand import expand
from steps.reparam.fold import absorb_norms, fold, norms_left
from steps.reparam.library_blocks import library_blocks, library_form
from steps.reparam.library_fold import fold_library_blocks
from steps.reports.certificate import CertifiedPrecision
from tests.models.artifacts import OwnBlock
from tests.reparam.forgettable import library, library_network
from tests.reparam.networks import SmallNet, randomise

SLOW = (
    *("repvgg_a0", "mobileone_s0", "repvit_m0_9", "ghostnetv3_050", "nextvit_small", "iformer_t", "shvit_s1"),
    *("efficientvim_m1", "tiny_vit_5m_224", "levit_128s", "efficientvit_m0"),
)
FAMILIES = (
    *("fastvit_t8", "repghostnet_050", "lcnetv2_base"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
)
BOUND_TO_224 = ("levit_128s", "efficientvit_m0")
NORMS_LEFT = {"nextvit_small": 1}  # its last norm follows no convolution


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return randomise(timm.create_model(name, num_classes=5))


def size_of(name: str) -> int:
    return 224 if name in BOUND_TO_224 else 64


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_loads_into_its_librarys_inference_form_and_is_the_same(name: str) -> None:
    model, image = made(name).double(), torch.randn(2, 3, size_of(name), size_of(name), dtype=torch.float64)
    plain = fold(model, image)
    form = reparameterize_model(timm.create_model(name, num_classes=5).eval()).double()
    form.load_state_dict(plain.state_dict(), strict=True)
    absorbed = absorb_norms(plain, image)
    with torch.no_grad():
        for folded in (plain, form, absorbed):
            error = relative_error(model(image), folded(image))
            assert error is not None and error <= 1e-12  # float64, over the whole depth
    left = norms_left(absorbed, image)
    assert len(left) == NORMS_LEFT.get(name, 0) == len(norms(absorbed))


def test_a_users_own_block_that_is_called_by_keyword_is_folded() -> None:
    model, image = OwnBlock(4, 16).double().eval(), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    plain = fold(model, image)
    assert isinstance(model.block.point, nn.Conv2d) and plain.get_submodule("block")._modules["point"] is None
    error = relative_error(model(image), plain(image))
    assert error is not None and error <= 1e-12
    assert not exceeds(certify(model, plain, image.float(), 0, {"fp64": 1e-12})[0])


def test_the_librarys_own_numbers_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(block: nn.Module) -> tuple[Tensor, Tensor]:
        weight = block.get_parameter("conv_kxk.0.conv.weight")
        return torch.zeros_like(weight), weight.new_zeros(len(weight))

    monkeypatch.setattr(byobnet.MobileOneBlock, "_get_kernel_bias", forgetful)
    model, image = library(), torch.randn(1, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        error = relative_error(model(image), fold(model, image)(image))
    assert error is not None and error <= 1e-12


def test_a_form_that_is_another_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = byobnet.MobileOneBlock.reparameterize

    def without_activation(block: byobnet.MobileOneBlock) -> None:
        whole(block)  # type: ignore[no-untyped-call]
        block.act = nn.Identity()

    monkeypatch.setattr(byobnet.MobileOneBlock, "reparameterize", without_activation)
    with pytest.raises(BadInput, match=r"gives 0 \(MobileOneBlock\) computes another function"):
        fold(library())


def test_blocks_inside_which_a_network_was_expanded_fold_twice() -> None:
    model = library_network()
    expand(model, "acb", where="3x3", example_NCHW=torch.randn(1, 3, 16, 16))
    randomise(model).double()
    image = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    form = reparameterize_model(library_network()).double().eval()
    form.load_state_dict(fold(model).state_dict(), strict=True)
    with torch.no_grad():
        error = relative_error(model(image), form(image))
    assert error is not None and error <= 1e-12


def test_every_block_is_certified_by_its_path() -> None:
    bounds: dict[CertifiedPrecision, float] = {"fp64": 1e-12, "fp32": 1e-4}
    model, images = library(), torch.randn(2, 3, 16, 16)
    plain = absorb_norms(fold(model))
    rows = certify(model, plain, images, seed=0, bounds=bounds)
    assert not any(exceeds(row) for row in rows)
    assert {row.site for row in rows} == {*library_blocks(model), WHOLE} == {"0", "1", "2", WHOLE}
    with torch.no_grad():
        plain.get_parameter("1.reparam_conv.bias")[3] += 0.01
    caught = {row.site for row in certify(model, plain, images, seed=0, bounds=bounds) if exceeds(row)}
    assert caught == {"1", WHOLE}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_numbers_are_rounded_once_to_the_precision_they_had(dtype: torch.dtype) -> None:
    model = library().to(dtype)
    exact = fold(library().to(dtype).double()).state_dict()
    for key, value in fold(model).state_dict().items():
        wanted = exact[key].to(dtype) if value.is_floating_point() else exact[key]
        assert torch.equal(value, wanted), key


@pytest.mark.parametrize("synchronise", [nn.SyncBatchNorm.convert_sync_batchnorm, convert_sync_batchnorm])
def test_blocks_with_synchronised_norms_fold(synchronise: Callable[[nn.Module], nn.Module]) -> None:
    model, image = synchronise(library()), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    with torch.no_grad():
        error = relative_error(model(image), fold(model)(image))
    assert error is not None and error <= 1e-12


def test_a_method_that_only_has_the_name_is_not_called() -> None:
    class Pyramid(SmallNet):
        def fuse(self, fine: Tensor, coarse: Tensor) -> Tensor:
            return fine + coarse

    model = nn.Sequential(Pyramid(), nn.Identity()).eval()
    assert library_blocks(model) == [] and library_form(model) is model


def test_a_users_own_block_folds_by_its_own_method() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = (nn.Sequential(nn.Conv2d(3, 4, k), nn.BatchNorm2d(4)) for k in (3, 1))
            self.act = nn.SiLU()
            self.plain: nn.Conv2d | None = None

        def forward(self, image: Tensor) -> Tensor:
            if self.plain is not None:
                return self.act(self.plain(image))  # type: ignore[no-any-return]
            return self.act(self.one(image) + self.other(image[:, :, 1:-1, 1:-1]))  # type: ignore[no-any-return]

        def switch_to_deploy(self) -> None:
            self.plain = nn.Conv2d(3, 4, 3)  # probing finds its numbers
            del self.one, self.other

    model = randomise(nn.Sequential(Twice(), nn.Conv2d(4, 4, 1))).double()
    image = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    plain = fold(model)
    error = relative_error(model(image), plain(image))
    assert error is not None and error <= 1e-12 and norms(plain) == []


def test_a_block_whose_own_method_fails_is_one_sentence() -> None:
    class Unready(nn.Sequential):
        def fuse(self) -> None:
            raise RuntimeError("call prepare() first")

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Unready(nn.BatchNorm2d(4))).eval()
    with pytest.raises(
        BadInput, match=r"^1 \(Unready\) has a fold method .* fails: RuntimeError: call prepare\(\) first"
    ):
        fold(model)


def test_a_network_without_such_blocks_is_left_alone() -> None:
    model = SmallNet().eval()
    assert library_blocks(model) == [] and library_form(model) is model
    assert fold_library_blocks(model) is model


def norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def test_a_method_that_breaks_the_network_is_one_sentence() -> None:
    class Broken(nn.Sequential):
        def reparameterize(self) -> None:
            self.register_module("0", None)

        def forward(self, image: Tensor) -> Tensor:
            return self.get_submodule("0")(image)  # type: ignore[no-any-return]

    model = nn.Sequential(Broken(nn.Conv2d(3, 4, 3))).eval()
    with pytest.raises(
        BadInput, match=r"does not run in the form that the methods of Broken give it: AttributeError"
    ):
        fold(model)
    with pytest.raises(RuntimeError, match="channels"):
        fold(model, torch.zeros(1, 5, 8, 8))  # the image causes this error


def test_a_network_with_a_precision_of_its_own_is_one_sentence() -> None:
    class Casting(nn.Sequential):
        def forward(self, image: Tensor) -> Tensor:
            return self[1](self[0](image).float())  # type: ignore[no-any-return]

    with pytest.raises(BadInput, match="Casting does not compute in float64"):
        fold(Casting(library_network(), nn.Conv2d(8, 4, 1)).eval())


def test_a_block_that_the_example_does_not_reach_is_refused() -> None:
    class AtLargeSizes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.always, self.block = nn.Conv2d(3, 3, 3), library()

        def forward(self, image: Tensor) -> Tensor:
            features = self.always(image)
            return self.block(features) if image.shape[-1] > 16 else features  # type: ignore[no-any-return]

    model = randomise(AtLargeSizes()).double()
    with pytest.raises(
        BadInput, match=r"of 3x16x16 does not reach block\.0 \(MobileOneBlock\), so its folded form"
    ):
        fold(model, torch.randn(1, 3, 16, 16))
    image = torch.randn(2, 3, 24, 24, dtype=torch.float64)
    error = relative_error(model(image), fold(model, image)(image))
    assert error is not None and error <= 1e-12

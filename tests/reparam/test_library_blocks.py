"""Networks with blocks of their own take their library's inference form, in float64, with nothing dropped."""

import pytest
import timm
import torch
from timm.models import byobnet, reparameterize_model
from torch import Tensor, nn

from steps.errors import BadInput
from steps.reparam import library_blocks as room
from steps.reparam.certify import certify as certified
from steps.reparam.certify import exceeds, relative_error
from steps.reparam.expand import expand
from steps.reparam.fold import absorb_norms, fold, norms_left
from steps.reparam.library_blocks import library_blocks, library_form
from tests.reparam.networks import SmallNet, randomise

FAMILIES = ("fastvit_t8", "repghostnet_050", "lcnetv2_base", "repvit_m0_9", "efficientvim_m1", "mobileone_s0")
SLOW = ("repvgg_a0", "ghostnetv3_050", "levit_128s", "nextvit_small", "shvit_s1", "iformer_t", "efficientvit_m0")
EVERY = (*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW))
BOUND_TO_224 = ("levit_128s", "efficientvit_m0")
NORMS_LEFT = {"nextvit_small": 1}  # its last norm follows no convolution


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return randomise(timm.create_model(name, num_classes=5))


def size_of(name: str) -> int:
    return 224 if name in BOUND_TO_224 else 64


@pytest.mark.parametrize("name", EVERY)
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


def test_every_new_layer_is_found_by_probing(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(block: nn.Module) -> tuple[Tensor, Tensor]:
        weight = block.get_parameter("conv_kxk.0.conv.weight")
        return torch.zeros_like(weight), weight.new_zeros(len(weight))

    monkeypatch.setattr(byobnet.MobileOneBlock, "_get_kernel_bias", forgetful)
    model, image = made("mobileone_s0").double(), torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        error = relative_error(model(image), fold(model, image)(image))
    assert error is not None and error <= 1e-12


def test_a_form_that_is_another_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = byobnet.MobileOneBlock.reparameterize

    def without_activation(block: byobnet.MobileOneBlock) -> None:
        whole(block)  # type: ignore[no-untyped-call]
        block.act = nn.Identity()

    monkeypatch.setattr(byobnet.MobileOneBlock, "reparameterize", without_activation)
    with pytest.raises(BadInput, match=r"stem \(MobileOneBlock\) is another function"):
        fold(made("mobileone_s0"))


def test_blocks_inside_which_a_network_was_expanded_fold_twice() -> None:
    model = timm.create_model("fastvit_t8", num_classes=5)
    expand(model, "acb", where="3x3")
    randomise(model).double()
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    plain = fold(model, image)
    form = reparameterize_model(timm.create_model("fastvit_t8", num_classes=5)).double().eval()
    form.load_state_dict(plain.state_dict(), strict=True)
    with torch.no_grad():
        error = relative_error(model(image), form(image))
    assert error is not None and error <= 1e-12


def test_every_block_is_certified_by_its_path() -> None:
    model, images = made("mobileone_s0"), torch.randn(2, 3, 64, 64)
    plain = absorb_norms(fold(model.double()))
    rows = certified(model, plain, images, seed=0, bounds={"fp64": 1e-12, "fp32": 1e-4})
    assert not any(exceeds(row) for row in rows)
    assert set(library_blocks(model)) < {row.site for row in rows}
    with torch.no_grad():
        plain.get_parameter("stages.1.0.reparam_conv.bias")[3] += 0.01
    worst = certified(model, plain, images, seed=0, bounds={"fp64": 1e-12, "fp32": 1e-4})[0]
    assert worst.site == "stages.1.0" and exceeds(worst)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_numbers_are_rounded_once_to_the_precision_they_had(dtype: torch.dtype) -> None:
    model = made("repghostnet_050").to(dtype)
    exact = fold(made("repghostnet_050").to(dtype).double()).state_dict()
    for key, value in fold(model).state_dict().items():
        wanted = exact[key].to(dtype) if value.is_floating_point() else exact[key]
        assert torch.equal(value, wanted), key


def test_a_network_without_such_blocks_is_left_alone() -> None:
    model = SmallNet().eval()
    assert library_blocks(model) == [] and library_form(model) is model
    assert room.fold_library_blocks(model) is model


def norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]

"""Whole networks in online mode: they fold, are certified, train under autocast and can be pickled."""

import io
import pickle
from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn

from steps.reparam.branches import BLOCKS
from steps.reparam.certify import WHOLE, certify, exceeds, relative_error
from steps.reparam.expand import MultiBranchConv, expand
from steps.reparam.fold import fold
from tests.reparam.networks import Site, SmallNet, randomise, synchronised

EXACT = 1e-12  # float64 error of sums of this length, with margin: 1e-15 is usual


@pytest.mark.parametrize(("name", "block"), [("resnet18", "acb"), ("mobilenetv3_small_050", "mobileone")])
def test_public_networks_fold_back_into_the_unmodified_architecture(name: str, block: str) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    model = timm.create_model(name, num_classes=7)
    expand(model, block, init="standard", mode="online")
    folded = fold(randomise(model).double())
    original = timm.create_model(name, num_classes=7).double().eval()
    original.load_state_dict(folded.state_dict(), strict=True)
    error = relative_error(model(image), original(image))
    assert error is not None and error <= EXACT


@pytest.mark.parametrize("prepare", [synchronised, lambda model: model], ids=["synchronised", "plain"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_numbers_are_rounded_once_to_the_precision_they_had(
    prepare: Callable[[nn.Module], nn.Module], dtype: torch.dtype
) -> None:
    model = prepare(SmallNet())
    expand(model, "repvgg", init="standard", mode="online")
    rounded = randomise(model).to(dtype)
    folded, exact = fold(rounded).state_dict(), fold(rounded.double()).state_dict()
    for key, value in folded.items():
        wanted = exact[key].to(dtype) if value.is_floating_point() else exact[key]
        assert torch.equal(value, wanted), key


def test_a_certificate_holds_for_the_fold_and_not_for_one_that_lost_a_part() -> None:
    torch.manual_seed(0)
    model, images = SmallNet(), torch.randn(3, 3, 20, 20)
    expand(model, "dbb", init="standard", mode="online")
    plain = fold(randomise(model).double())
    bounds = {"fp64": EXACT, "fp32": 1e-5}
    rows = certify(model.float(), plain, images, seed=0, bounds=bounds)  # type: ignore[arg-type]
    assert not any(exceeds(row) for row in rows)
    assert {row.site for row in rows} == {"conv_a", "conv_b", WHOLE}
    block = model.get_submodule("conv_b")
    assert isinstance(block, MultiBranchConv)
    nn.init.zeros_(block.get_parameter("branches.online.parts.point_average.scale_O"))
    rows = certify(model, plain, images, seed=0, bounds=bounds)  # type: ignore[arg-type]
    assert {row.site for row in rows if exceeds(row)} == {"conv_b", WHOLE}


@pytest.mark.parametrize("block", BLOCKS)
def test_under_autocast_it_computes_in_half_and_learns_what_it_does_without(block: str) -> None:
    torch.manual_seed(0)
    site, image, weights = Site(nn.Conv2d(4, 4, 3, padding=1)), torch.randn(8, 4, 9, 9), torch.randn(8, 4, 9, 9)
    expand(site, block, init="standard", mode="online")
    seen: list[torch.dtype] = []
    site.train().get_submodule("conv.branches.online.norm").register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].dtype)
    )
    names = [name for name, _ in site.named_parameters() if not name.endswith("online.bias")]
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = (site(image) * weights).mean()
        found.append(torch.autograd.grad(loss, [site.get_parameter(name) for name in names]))
    assert seen == [torch.float32, torch.bfloat16]
    for name, exact, rounded in zip(names, *found, strict=True):
        error = relative_error(exact, rounded)
        assert rounded.dtype == torch.float32
        assert error is not None and error <= 0.03, name  # a few roundings of 2^-8


@pytest.mark.parametrize("block", BLOCKS)
def test_a_network_is_pickled_and_saved_whole(block: str) -> None:
    torch.manual_seed(0)
    model, image = SmallNet(), torch.randn(2, 3, 16, 16)
    expand(model, block, init="standard", mode="online")
    randomise(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for twin in (pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)):
        assert torch.equal(twin(image), model(image))
        assert torch.equal(fold(twin)(image), fold(model)(image))
        (twin.train()(image) ** 2).mean().backward()  # the backward pass works too

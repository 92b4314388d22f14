"""Online mode: the branches' kernels are summed before one convolution, and the result is the same."""

from functools import partial
from typing import Any, get_args

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor, nn

from benchmarks.reparam_cost import saved_bytes
from steps.reparam.branches import BLOCKS, BRANCHES, branches_for
from steps.reparam.certify import relative_error
from steps.reparam.dbb import PointAverageBranch
from steps.reparam.expand import Mode, expand
from steps.reparam.fold import absorb_norms, fold
from steps.reparam.geometry import apply_margins, geometry_of, pad_once
from steps.reparam.norms import norm_like, set_to_shift
from steps.reparam.online import OnlineBranch, Part
from steps.reparam.parts import PARTS
from tests.reparam.networks import Site, SmallNet, convs, image_for, randomise

# torch warns about the plain convolution too; the block does not cause the warning
pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
EXACT = 1e-12  # float64 error of sums of this length, with margin: 1e-15 is usual
SCALES = ("norm.weight", "factor_O")  # a bare 1x1 convolution has no scale
EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def online_site(block: str, conv: nn.Conv2d) -> Site | None:
    """Return the convolution's expanded site in float64 with random numbers; None if it has no branches."""
    if len(branches_for(block, geometry_of(conv))) == 1:
        return None
    site = Site(conv).double()
    expand(site, block, init="standard", mode="online", example_NCHW=image_for(conv))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in site.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return site


def branch_of(site: Site) -> OnlineBranch:
    branch = site.get_submodule("conv.branches.online")
    assert isinstance(branch, OnlineBranch)
    return branch


@pytest.mark.parametrize("block", BLOCKS)
@EXAMPLES
@given(conv=convs())
def test_a_site_folds_to_the_same_function_and_back_to_its_own_keys(block: str, conv: nn.Conv2d) -> None:
    image, keys = image_for(conv), list(Site(conv).state_dict())
    site = online_site(block, conv)
    if site is None:
        return
    randomise(site)
    plain = fold(site)
    assert list(plain.state_dict()) == keys
    for form in (plain, absorb_norms(plain, image)):
        error = relative_error(site(image), form(image))
        assert error is not None and error <= EXACT


@pytest.mark.parametrize("block", BLOCKS)
@EXAMPLES
@given(conv=convs())
def test_the_way_back_is_that_of_the_branches_one_by_one(block: str, conv: nn.Conv2d) -> None:
    site, image = online_site(block, conv), image_for(conv).requires_grad_()
    if site is None:
        return
    branch = branch_of(site.train())
    inputs = [image, *(number for name, number in site.named_parameters() if not name.endswith("norm.bias"))]
    outputs = site(image), branch.norm(one_by_one(branch, image))
    weights = torch.randn(outputs[0].shape, dtype=torch.float64)
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)
    given, wanted = (torch.autograd.grad((output * weights).sum(), inputs) for output in outputs)
    largest = max(float(gradient.abs().max()) for gradient in wanted)
    for one, other in zip(given, wanted, strict=True):  # zero for a bias before a norm: one scale for all
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10 * largest)


def one_by_one(branch: OnlineBranch, image_NCHW: Tensor) -> Tensor:
    """Return the sum of one convolution a branch, each with its kernel placed in the window, by autograd alone."""
    folding, geometry = branch.folding, branch.folding.geometry
    parts = folding.split(list(branch.parts.parameters()))
    padded_NCHW = apply_margins(pad_once(image_NCHW, geometry), geometry.margins)
    kernels: list[Tensor] = [branch.weight]
    for (rows, columns), (scale_O, *_), kernel in zip(folding.places, parts, folding.kernels(parts), strict=True):
        window = torch.zeros_like(branch.weight)
        window[:, :, rows, columns] = kernel * scale_O.reshape(-1, 1, 1, 1)
        kernels.append(window)
    outputs = [
        torch.conv2d(padded_NCHW, kernel, None, geometry.stride, 0, geometry.dilation, geometry.groups)
        for kernel in kernels
    ]
    total = torch.stack(outputs).sum(0)
    return total if branch.bias is None else total + branch.bias.reshape(1, -1, 1, 1)


def test_every_branch_has_a_part() -> None:
    assert PARTS.keys() == BRANCHES.keys()


@pytest.mark.parametrize("name", BRANCHES)
@EXAMPLES
@given(conv=convs())
def test_a_part_is_the_branch_of_its_name_with_norms_that_only_scale(name: str, conv: nn.Conv2d) -> None:
    geometry = geometry_of(conv)
    if not BRANCHES[name].fits(geometry):
        return
    branch = BRANCHES[name].make(geometry, norm_like(nn.BatchNorm2d(1)))
    assert isinstance(branch, nn.Module)
    part = Part(geometry, PARTS[name])
    for norm in (module for module in branch.modules() if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)):
        set_to_shift(norm.double(), torch.zeros(norm.num_features))
    with torch.no_grad():
        scale_O = next(
            (branch.get_parameter(key) for key in SCALES if key in dict(branch.named_parameters())), None
        )
        part.scale_O.fill_(1.0) if scale_O is None else scale_O.copy_(part.scale_O.normal_())
        weights = ("point",) if isinstance(branch, PointAverageBranch) else ("point", "conv")
        wanted = [child.get_parameter("weight") for key, child in branch.named_children() if key in weights]
        for given_weight, weight in zip(list(part.parameters())[1:], wanted, strict=True):
            given_weight.copy_(weight.normal_())
        expected = folded_by(branch)
        window = torch.zeros_like(expected)
        rows, columns = PARTS[name].place(geometry)
        kernel = PARTS[name].kernel(geometry, *part.double().parameters())
        window[:, :, rows, columns] = kernel * part.scale_O.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(window, expected, rtol=EXACT, atol=EXACT)


def folded_by(branch: Any) -> Tensor:
    weight_OIKK: Tensor = branch.double().folded()[0]
    return weight_OIKK


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("training", [True, False])
def test_exact_keeps_the_function_to_the_bit(block: str, training: bool) -> None:
    torch.manual_seed(0)
    model, image = randomise(SmallNet()).train(training), torch.randn(4, 3, 16, 16)
    before = model(image)
    expand(model, block, init="exact", mode="online")
    assert torch.equal(model(image), before)


@pytest.mark.parametrize("block", BLOCKS)
def test_standard_lets_new_branches_speak_and_learn_at_once(block: str) -> None:
    torch.manual_seed(0)
    site, image = Site(nn.Conv2d(4, 4, 3, padding=1)), torch.randn(4, 4, 8, 8)
    before = site(image)
    expand(site, block, init="standard", mode="online")
    (site.train()(image) ** 3).mean().backward()
    assert not torch.allclose(site(image), before, atol=1e-3)
    for name, parameter in site.named_parameters():
        assert parameter.grad is not None
        assert name.endswith("online.bias") or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("block", BLOCKS)
def test_exact_lets_every_new_branch_learn_from_the_second_step_on(block: str) -> None:
    torch.manual_seed(0)
    site, image = Site(nn.Conv2d(4, 4, 3, padding=1, bias=False)), torch.randn(4, 4, 8, 8)
    expand(site, block, init="exact", mode="online")
    optimizer = torch.optim.SGD(site.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (site.train()(image) ** 3).mean().backward()
        optimizer.step()
    for name, parameter in site.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("block", BLOCKS)
def test_a_step_keeps_no_more_for_its_way_back_than_the_plain_network(block: str) -> None:
    image = torch.randn(4, 3, 16, 16)
    forms: dict[Mode | None, nn.Module] = {mode: SmallNet() for mode in (None, *get_args(Mode))}
    for mode, model in forms.items():
        if mode is not None:
            expand(model, block, init="standard", mode=mode)
    kept = {mode: saved_bytes(model.train(), partial(model, image)) for mode, model in forms.items()}
    assert kept["online"] == kept[None] < kept["branch"]

"""Every block, on any convolution: folding keeps the function, and an exact expansion changes nothing at first."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn

from steps.reparam.branches import BLOCKS, branches_for
from steps.reparam.certify import relative_error
from steps.reparam.expand import MultiBranchConv, expand
from steps.reparam.fold import absorb_norms, fold
from steps.reparam.geometry import geometry_of
from steps.reparam.norms import SiteId
from tests.reparam.networks import Site, convs, image_for, randomise

# torch warns about the plain convolution too; the block does not cause the warning
pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
EXACT = 1e-12  # float64 error of sums of this length, with margin: 1e-15 is usual
EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("block", BLOCKS)
@EXAMPLES
@given(conv=convs())
def test_a_folded_block_computes_what_its_branches_compute(block: str, conv: nn.Conv2d) -> None:
    image = image_for(conv)
    names = branches_for(block, geometry_of(conv))
    sites = randomise(MultiBranchConv(SiteId("site"), conv, nn.BatchNorm2d(conv.out_channels), names).double())
    assert isinstance(sites, MultiBranchConv)
    weight, bias = sites.folded()
    folded = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        sites.geometry.kernel,
        stride=sites.geometry.stride,
        padding=conv.padding,  # type: ignore[arg-type]
        dilation=sites.geometry.dilation,
        groups=conv.groups,
        padding_mode=conv.padding_mode,
        dtype=torch.float64,
    )
    folded.load_state_dict({"weight": weight, "bias": bias})
    error = relative_error(sites(image), folded(image))
    assert error is not None and error <= EXACT


@pytest.mark.parametrize("block", BLOCKS)
@EXAMPLES
@given(conv=convs())
def test_expand_and_fold_come_back_to_the_same_network(block: str, conv: nn.Conv2d) -> None:
    site, image = randomise(Site(conv).double()), image_for(conv)
    names = branches_for(block, geometry_of(conv))
    if len(names) == 1:
        return
    before = site(image)
    expand(site, block, init="exact", example_NCHW=image)
    site.double()
    error = relative_error(before, site(image))
    # a norm before the sum and a norm after it round twice; a single norm rounds once
    assert error == 0.0 or (block == "qarepvgg" and error is not None and error <= EXACT)
    plain = fold(randomise(site))
    for form in (plain, absorb_norms(plain, image)):
        error = relative_error(site(image), form(image))
        assert error is not None and error <= EXACT


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_starts_with_the_branch_that_keeps_the_weights(block: str) -> None:
    entry = BLOCKS[block]
    assert entry.branches[0] == entry.at_1x1[0] == "full"
    assert len(entry.branches) > 1


@pytest.mark.parametrize("block", BLOCKS)
def test_every_branch_of_a_block_learns_from_the_first_step_on(block: str) -> None:
    torch.manual_seed(0)
    site = Site(nn.Conv2d(4, 4, 3, padding=1, bias=False))
    expand(site, block, init="exact")
    (site.train()(torch.randn(4, 4, 8, 8)) ** 3).mean().backward()
    assert isinstance(site.conv, nn.Module)
    for name, branch in site.conv.get_submodule("branches").named_children():
        gradients = [number.grad for number in branch.parameters() if number.grad is not None]
        assert max(float(gradient.abs().max()) for gradient in gradients) > 1e-4, name


@pytest.mark.parametrize("training", [True, False])
def test_a_norm_after_the_sum_begins_as_the_convolutions_own(training: bool) -> None:
    torch.manual_seed(0)
    site, image = Site(nn.Conv2d(4, 4, 3, padding=1)), torch.randn(8, 4, 9, 9)
    site.norm.eps = 1e-7  # eps has a double effect in training
    randomise(site).train(training).double()
    before = site(image.double())
    expand(site, "qarepvgg", init="exact")
    torch.testing.assert_close(site(image.double()), before, rtol=1e-5, atol=1e-5)


def test_qarepvgg_has_no_norm_in_its_point_and_identity_branches_and_one_after_the_sum() -> None:
    site = Site(nn.Conv2d(4, 4, 3, padding=1))
    expand(site, "qarepvgg", init="standard")
    assert [name for name, module in site.named_modules() if isinstance(module, nn.BatchNorm2d)] == [
        "conv.branches.full.norm",
        "conv.after",
    ]
    assert torch.equal(site.get_parameter("conv.branches.bare_identity.factor_O"), torch.ones(4))

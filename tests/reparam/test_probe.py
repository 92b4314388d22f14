"""A block's response to impulses is its kernel: the closed form and probing agree on every block."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor, nn

from steps.errors import BadInput
from steps.reparam.branches import BLOCKS, BRANCHES, branches_for
from steps.reparam.expand import MultiBranchConv
from steps.reparam.geometry import geometry_of
from steps.reparam.norms import SiteId
from steps.reparam.probe import convolve, largest_error, probe, probe_linear
from tests.reparam.networks import convs, image_for, randomise

# torch warns about the plain convolution too; the block does not cause the warning
pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
EXACT = 1e-12  # two orders of adding the same numbers in float64; 1e-14 is usual
EXAMPLES = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("block", BLOCKS)
@EXAMPLES
@given(conv=convs())
def test_closed_form_and_probing_agree_on_every_block(block: str, conv: nn.Conv2d) -> None:
    agree(conv, branches_for(block, geometry_of(conv)))


@pytest.mark.parametrize("branch", BRANCHES)
@EXAMPLES
@given(conv=convs())
def test_closed_form_and_probing_agree_on_every_branch(branch: str, conv: nn.Conv2d) -> None:
    if BRANCHES[branch].fits(geometry_of(conv)):
        agree(conv, (branch,))


@EXAMPLES
@given(conv=convs())
def test_a_convolution_is_given_back_as_it_is(conv: nn.Conv2d) -> None:
    weight, bias = probe(conv, geometry_of(conv), conv.weight)
    torch.testing.assert_close(weight, conv.weight.detach(), rtol=0, atol=1e-15)
    image = image_for(conv)
    assert largest_error(conv(image), convolve(image, geometry_of(conv), (weight, bias))) <= EXACT


def test_a_linear_layer_is_given_back_as_it_is() -> None:
    layer = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3)).double().eval()
    weight, bias = probe_linear(layer, 5, torch.zeros(1, dtype=torch.float64))
    vectors = torch.randn(4, 5, dtype=torch.float64)
    assert largest_error(layer(vectors), vectors @ weight.T + bias) <= EXACT


CONV = nn.Conv2d(4, 4, 3, padding=1, dtype=torch.float64)
NO_CONVOLUTIONS = {
    "an activation": nn.Sequential(CONV, nn.ReLU()),
    "a wider window": nn.Sequential(CONV, nn.AvgPool2d(3, 1, 1)),
    "another padding": nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(4, 4, 3, dtype=torch.float64)),
    "padding that is not counted": nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "another stride": nn.Conv2d(4, 4, 3, padding=1, stride=2, dtype=torch.float64),
    "a border without the first one's bias": nn.Sequential(nn.Conv2d(4, 4, 1, dtype=torch.float64), CONV),
    "a scale that depends on the image": nn.InstanceNorm2d(4, affine=True, dtype=torch.float64),
}


@pytest.mark.parametrize("what", NO_CONVOLUTIONS)
def test_what_is_no_convolution_of_this_geometry_is_refused(what: str) -> None:
    with pytest.raises(BadInput, match="is not a convolution"):
        probe(NO_CONVOLUTIONS[what].eval(), geometry_of(CONV), CONV.weight)


def test_groups_that_are_none_are_refused() -> None:
    grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
    with pytest.raises(BadInput, match="is not a convolution"):
        probe(CONV, geometry_of(grouped), CONV.weight)


def test_what_is_not_linear_is_refused() -> None:
    with pytest.raises(BadInput, match="is not a linear layer"):
        probe_linear(torch.relu, 3, torch.zeros(1, dtype=torch.float64))


def agree(conv: nn.Conv2d, names: tuple[str, ...]) -> None:
    """Assert that both methods find the same kernel and bias of these branches."""
    norm = nn.BatchNorm2d(conv.out_channels)
    site = randomise(MultiBranchConv(SiteId("site"), conv, norm, names).double())
    assert isinstance(site, MultiBranchConv)
    expected, given = site.folded(), probe(site, site.geometry, conv.weight)
    numbers: tuple[Tensor, Tensor]
    for numbers in zip(expected, given, strict=True):
        assert largest_error(*numbers) <= EXACT

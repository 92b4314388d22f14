"""Convolutions that pad by their input's size (TensorFlow's SAME) train as blocks, and get their padding back."""

import copy
from typing import Any

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from steps.errors import BadInput
from steps.reparam.branches import BLOCKS
from steps.reparam.certify import relative_error
from steps.reparam.expand import MODES, Mode, expand, plan_expansion
from steps.reparam.fold import fold
from tests.reparam.networks import Site, randomise

BOUND = 1e-12  # float64, a few hundred products a sum


@pytest.mark.parametrize("size", [15, 16])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block", BLOCKS)
def test_expanded_and_folded_it_is_the_same_function_on_images_of_the_examples_size(
    block: str, mode: Mode, size: int
) -> None:
    conv = Conv2dSame(4, 6, (3, 5), stride=2, bias=False)
    plain = randomise(Site(conv)).double()
    image_NCHW = torch.randn(2, 4, size, size, dtype=torch.float64)
    wide = copy.deepcopy(plain)
    expand(wide, block, init="standard", mode=mode, example_NCHW=image_NCHW)
    randomise(wide)
    folded = fold(wide, image_NCHW)
    assert type(folded.get_submodule("conv")) is Conv2dSame
    assert list(folded.state_dict()) == list(plain.state_dict())
    error = relative_error(wide(image_NCHW), folded(image_NCHW))
    assert error is not None and error <= BOUND


def test_exactly_expanded_it_computes_what_it_did() -> None:
    plain = randomise(Site(Conv2dSame(4, 4, 3, stride=2, bias=False)))
    image_NCHW = torch.randn(2, 4, 16, 17)
    wide = copy.deepcopy(plain)
    expand(wide, "repvgg", init="exact", example_NCHW=image_NCHW)
    assert torch.equal(wide(image_NCHW), plain(image_NCHW))


class PadsBefore(nn.Conv2d):
    """All of the padding before the image, which is no rule that is known here."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        features: Tensor = self._conv_forward(nn.functional.pad(input, (2, 0, 2, 0)), self.weight, self.bias)
        return features


def test_another_rule_of_padding_is_left_alone_with_its_reason() -> None:
    (site,) = plan_expansion(Site(PadsBefore(4, 4, 3, bias=False)).eval(), "acb").sites
    assert site.skipped == "unsupported kernel: PadsBefore is a convolution with rules of its own"


@pytest.mark.parametrize("mode", MODES)
def test_an_image_that_it_would_pad_otherwise_is_refused_not_padded_wrongly(mode: Mode) -> None:
    wide = randomise(Site(Conv2dSame(4, 4, 3, stride=2, bias=False)))
    expand(wide, "acb", mode=mode, example_NCHW=torch.zeros(1, 4, 16, 16))
    wide(torch.randn(2, 4, 32, 32))  # as many zeros as at 16
    with pytest.raises(BadInput, match=r"conv pads by its input's size, .* for another than 17x16"):
        wide(torch.randn(2, 4, 17, 16))


class OnlyAName(nn.Conv2d):
    """A class of one's own that computes a usual convolution, with a part that has no numbers."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.before = nn.Identity()

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        features: Tensor = super().forward(self.before(input))
        return features


def test_a_class_that_computes_a_usual_convolution_trains_as_one() -> None:
    site = Site(OnlyAName(4, 4, 3, stride=2, padding=1, padding_mode="reflect", bias=False)).eval()
    assert plan_expansion(site, "acb").sites[0].branches == ("full", "row", "column")

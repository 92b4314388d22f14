"""Convolutions that pad by their input's size (TensorFlow's SAME) train as blocks; fold restores the padding."""

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
from steps.reparam.fold import absorb_norms, fold
from tests.reparam.networks import Site, randomise

BOUND = 1e-12  # float64, for sums of a few hundred products


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
    """Put all of the padding before the image, which matches no known rule."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        features: Tensor = self._conv_forward(nn.functional.pad(input, (2, 0, 2, 0)), self.weight, self.bias)
        return features


def test_another_rule_of_padding_is_left_alone_with_its_reason() -> None:
    (site,) = plan_expansion(Site(PadsBefore(4, 4, 3, bias=False)).eval(), "acb").sites
    assert site.skipped == "unsupported kernel: PadsBefore differs from a plain convolution in an unknown way"


class PadsOneAfter(nn.Conv2d):
    """Pad always as TensorFlow's SAME pads images with even sides."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        features: Tensor = super().forward(nn.functional.pad(input, (0, 1, 0, 1)))
        return features


def test_one_that_always_adds_what_the_example_gets_trains_as_a_block_for_the_sizes_that_want_it() -> None:
    plain = randomise(Site(PadsOneAfter(4, 4, 3, stride=2, bias=False)))
    wide = copy.deepcopy(plain)
    expand(wide, "acb", init="exact", example_NCHW=torch.zeros(1, 4, 16, 16))
    for side in (16, 32):
        image_NCHW = torch.randn(2, 4, side, side)
        assert torch.allclose(wide(image_NCHW), plain(image_NCHW), atol=1e-5)
    with pytest.raises(BadInput, match=r"conv pads by its input's size, .* for another size than 17x17"):
        wide(torch.randn(2, 4, 17, 17))


class PadsToMultiple(nn.Conv2d):
    """Pad images to a multiple of eight rows and columns; the example's images need no padding."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        rows, columns = (-side % 8 for side in input.shape[2:])
        features: Tensor = super().forward(nn.functional.pad(input, (0, columns, 0, rows)))
        return features


class PadsToSquare(nn.Conv2d):
    """Pad images to a square; the example's images are square already."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        rows, columns = input.shape[2:]
        most = max(rows, columns)
        features: Tensor = super().forward(nn.functional.pad(input, (0, most - columns, 0, most - rows)))
        return features


@pytest.mark.parametrize("own", [PadsToMultiple, PadsToSquare])
def test_a_rule_that_adds_nothing_to_the_example_is_seen_all_the_same(own: type[nn.Conv2d]) -> None:
    site = Site(own(4, 4, 3, padding=1, bias=False)).eval()
    (planned,) = plan_expansion(site, "acb", example_NCHW=torch.zeros(1, 4, 16, 16)).sites
    reason = f"{own.__name__} differs from a plain convolution in an unknown way"
    assert planned.skipped == f"unsupported kernel: {reason}"


@pytest.mark.parametrize("side", [2, 3, 5])
@pytest.mark.parametrize("block", BLOCKS)
def test_a_map_smaller_than_the_kernel_trains_as_a_block_too(block: str, side: int) -> None:
    plain = randomise(Site(Conv2dSame(4, 4, 5, groups=4, bias=False))).double()
    image_NCHW = torch.randn(8, 4, side, side, dtype=torch.float64)
    wide = copy.deepcopy(plain)
    expand(wide, block, init="standard", example_NCHW=image_NCHW)
    randomise(wide)
    folded = fold(wide, image_NCHW)
    absorbed = absorb_norms(folded, image_NCHW)
    assert not [module for module in absorbed.modules() if isinstance(module, nn.BatchNorm2d)]
    for form in (folded, absorbed):
        error = relative_error(wide(image_NCHW), form(image_NCHW))
        assert error is not None and error <= BOUND


@pytest.mark.parametrize("mode", MODES)
def test_one_that_adds_nothing_at_the_examples_size_refuses_the_sizes_where_it_would(mode: Mode) -> None:
    plain = randomise(Site(Conv2dSame(3, 8, 2, stride=2, bias=False)))
    wide = copy.deepcopy(plain)
    example_NCHW = torch.randn(2, 3, 32, 32)
    expand(wide, "acb", init="exact", mode=mode, example_NCHW=example_NCHW)
    assert torch.allclose(wide(example_NCHW), plain(example_NCHW), atol=1e-5)
    with pytest.raises(BadInput, match=r"conv pads by its input's size, .* for another size than 33x33"):
        wide(torch.randn(2, 3, 33, 33))


@pytest.mark.parametrize("mode", MODES)
def test_an_image_that_it_would_pad_otherwise_is_refused_not_padded_wrongly(mode: Mode) -> None:
    wide = randomise(Site(Conv2dSame(4, 4, 3, stride=2, bias=False)))
    expand(wide, "acb", mode=mode, example_NCHW=torch.zeros(1, 4, 16, 16))
    wide(torch.randn(2, 4, 32, 32))  # the same padding as at 16
    with pytest.raises(BadInput, match=r"conv pads by its input's size, .* for another size than 17x16"):
        wide(torch.randn(2, 4, 17, 16))


class OnlyAName(nn.Conv2d):
    """A user's class that computes a usual convolution and has a part without parameters."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.before = nn.Identity()

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the overridden method
        features: Tensor = super().forward(self.before(input))
        return features


def test_a_class_that_computes_a_usual_convolution_trains_as_one() -> None:
    site = Site(OnlyAName(4, 4, 3, stride=2, padding=1, padding_mode="reflect", bias=False)).eval()
    assert plan_expansion(site, "acb").sites[0].branches == ("full", "row", "column")

"""Wrong folds: the right fold with one change afterwards, or with one function of its algebra replaced."""

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from timm.models import reparameterize_model
from torch import Tensor, nn

from steps.reparam import dbb
from steps.reparam.expand import MultiBranchConv
from steps.reparam.fold import absorb_norms, fold
from steps.reparam.geometry import Margins
from steps.reparam.kernels import Affine, compose_pointwise
from steps.reparam.norms import NormTail, SiteId
from steps.reparam.online import Folding
from tests.reparam.forgettable import library

Wrong = Callable[[nn.Module, pytest.MonkeyPatch], nn.Module]


def changed(change: Callable[[nn.Module], object]) -> Wrong:
    """Return the right fold with one change afterwards."""

    def wrong(model: nn.Module, _: pytest.MonkeyPatch) -> nn.Module:
        plain = fold(model)
        with torch.no_grad():
            change(plain)
        return plain

    return wrong


def patched(where: object, name: str, other: Callable[..., object]) -> Wrong:
    """Return the fold with one function of its algebra replaced; the training form keeps the right function."""

    def wrong(model: nn.Module, patch: pytest.MonkeyPatch) -> nn.Module:
        with patch.context() as during_fold:
            during_fold.setattr(where, name, other)
            return fold(model)

    return wrong


def trained_with(where: object, name: str, other: Callable[..., object]) -> Wrong:
    """Return the right fold of a training form in which one function is replaced."""

    def wrong(model: nn.Module, patch: pytest.MonkeyPatch) -> nn.Module:
        patch.setattr(where, name, other)
        return fold(model)

    return wrong


def set_to(path: str, **values: object) -> Wrong:
    def change(plain: nn.Module) -> None:
        for name, value in values.items():
            setattr(plain.get_submodule(path), name, value)

    return changed(change)


def replaced(path: str, module: nn.Module) -> Wrong:
    return changed(lambda plain: plain.set_submodule(path, module))


def weight_of(path: str, other: Callable[[Tensor], Tensor]) -> Wrong:
    def change(plain: nn.Module) -> None:
        weight = plain.get_parameter(f"{path}.weight")
        weight.copy_(other(weight.clone()))

    return changed(change)


def without_branch(model: nn.Module, _: pytest.MonkeyPatch) -> nn.Module:
    plain, block = fold(model), model.get_submodule("dilated")
    assert isinstance(block, MultiBranchConv)
    weight, bias = block.parts()["point"].folded()
    with torch.no_grad():
        plain.get_parameter("dilated.weight").sub_(weight)
        plain.get_parameter("norm_of_dilated.bias").sub_(bias)
    return plain


def norms_swapped(plain: nn.Module) -> None:
    one, other = plain.get_submodule("norm_of_even"), plain.get_submodule("norm_of_grouped")
    plain.set_submodule("norm_of_even", other)
    plain.set_submodule("norm_of_grouped", one)


def norm_dropped(model: nn.Module, _: pytest.MonkeyPatch) -> nn.Module:
    plain = fold(model)
    norm = plain.get_submodule("norm_of_grouped")
    assert isinstance(norm, nn.BatchNorm2d)
    plain.set_submodule("norm_of_grouped", NormTail(norm, SiteId("grouped")))
    return plain


def activation_dropped(model: nn.Module, _: pytest.MonkeyPatch) -> nn.Module:
    absorbed = absorb_norms(fold(model))
    absorbed.set_submodule("norm_of_dilated", nn.Identity())
    return absorbed


def fx_of_shared(model: nn.Module, _: pytest.MonkeyPatch) -> nn.Module:
    """Fold both norms into the shared convolution in turn, as a fuser does that does not count users."""
    plain = fold(model)
    for name in ("one", "other"):
        conv, norm = plain.get_submodule("conv"), plain.get_submodule(name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        plain.set_submodule("conv", nn.utils.fusion.fuse_conv_bn_eval(conv, norm))
        plain.set_submodule(name, nn.Identity())
    return plain


def scale(sigma: Callable[[Tensor, float], Tensor]) -> Callable[..., Affine]:
    """Return norm_scale_shift with a different formula for sigma."""

    def scale_shift(gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Affine:
        scale = gamma / sigma(variance, eps)
        return scale, beta - mean * scale

    return scale_shift


def without_mean(gamma: Tensor, beta: Tensor, _: Tensor, variance: Tensor, eps: float) -> Affine:
    return gamma / (variance + eps).sqrt(), beta


def ones(channels: int, groups: int, like: Tensor) -> Tensor:
    return torch.ones(channels, channels // groups, 1, 1, dtype=like.dtype)


def of_group_zero(channels: int, groups: int, like: Tensor) -> Tensor:
    own = torch.arange(channels).clamp_max(channels // groups - 1)
    return F.one_hot(own, channels // groups).to(like.dtype).reshape(channels, -1, 1, 1)


def at_the_corner(weight: Tensor, window: tuple[int, int], _: tuple[int, int]) -> Tensor:
    return F.pad(weight, (0, window[1] - weight.shape[3], 0, window[0] - weight.shape[2]))


def one_off(weight: Tensor, window: tuple[int, int], offset: tuple[int, int]) -> Tensor:
    """Pad by K // 2 as if every kernel were odd."""
    top, left = (min(w // 2, w - k) if o else 0 for w, o, k in zip(window, offset, weight.shape[2:], strict=True))
    below, right = window[0] - top - weight.shape[2], window[1] - left - weight.shape[3]
    return F.pad(weight, (left, right, top, below))


def zero_border(normed: Tensor, _: object, margins: Margins) -> Tensor:
    return F.pad(normed, margins)


def forgotten_carry(first: Affine, then: Affine, groups: int) -> Affine:
    return compose_pointwise(first, then, groups)[0], then[1]


def groups_ignored(first: Affine, then: Affine, groups: int) -> Affine:
    """Compose every group with the pointwise kernel of the first group."""
    point, bias = first
    one = point.reshape(groups, -1, *point.shape[1:])[:1].expand(groups, *[-1] * 4)
    return compose_pointwise((one.flatten(0, 1), bias), then, groups)


def padding_not_counted(branch: dbb.PointAverageBranch, padded: Tensor) -> Tensor:
    """Average only over pixels inside the image."""
    geometry = branch.geometry
    point = branch.between(branch.point(padded))
    ones = torch.ones_like(point[:1, :1])

    def summed(image: Tensor) -> Tensor:
        channels = image.shape[1]
        kernel = torch.ones(channels, 1, *geometry.kernel, dtype=image.dtype)
        bordered = F.pad(image, geometry.margins)
        return F.conv2d(bordered, kernel, None, geometry.stride, 0, geometry.dilation, channels)

    normed: Tensor = branch.norm(summed(point) / summed(ones))
    return normed


def by_the_library(precision: torch.dtype) -> Wrong:
    """Return timm's fold, in timm's precision."""
    return lambda model, _: reparameterize_model(model.to(precision)).double()


def scale_of_layers_dropped(model: nn.Module, _: pytest.MonkeyPatch) -> nn.Module:
    wrong = library()
    wrong.get_parameter("2.layer_scale.gamma").data.fill_(1.0)
    wrong_mixer = fold(wrong).get_submodule("2")
    plain = fold(model)
    plain.set_submodule("2", wrong_mixer)
    return plain


FOLDED_POINT = dbb.PointKernelBranch.folded


def learned_point_dropped(branch: dbb.PointKernelBranch) -> Affine:
    """Fold the 1x1 of 1x1-KxK with its initial value, the identity."""
    fresh = copy.deepcopy(branch)
    fresh.point.weight.zero_()
    return FOLDED_POINT(fresh)


SUMMED = Folding.summed
Parts = Sequence[Sequence[Tensor]]


def last_part_dropped(folding: Folding, own: Tensor, parts: Parts, kernels: Sequence[Tensor]) -> Tensor:
    """Sum all online kernels except the last."""
    some = folding._replace(places=folding.places[:-1])
    return SUMMED(some, own, parts[:-1], kernels[:-1])


def scales_ignored(folding: Folding, own: Tensor, parts: Parts, kernels: Sequence[Tensor]) -> Tensor:
    """Sum the online kernels without their scales."""
    return SUMMED(folding, own, [[torch.ones_like(scale), *rest] for scale, *rest in parts], kernels)


def parts_at_the_corner(folding: Folding, own: Tensor, parts: Parts, kernels: Sequence[Tensor]) -> Tensor:
    """Add each online kernel at the window's first tap."""
    places = tuple((slice(0, kernel.shape[2]), slice(0, kernel.shape[3])) for kernel in kernels)
    return SUMMED(folding._replace(places=places), own, parts, kernels)


KERNELS = Folding.kernels


def average_not_divided(folding: Folding, parts: Parts) -> list[Tensor]:
    """Add the 1x1 of an average undivided to every tap; it is the last branch of a DBB."""
    *others, point = KERNELS(folding, parts)
    return [*others, point * (folding.geometry.kernel[0] * folding.geometry.kernel[1])]

"""Networks that hold what public folds forget, and the wrong folds themselves, planted one by one."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.squeeze_excite import SqueezeExcite
from timm.models import byobnet, fastvit, reparameterize_model
from torch import Tensor, nn

from steps.reparam import branches, norms
from steps.reparam.expand import MultiBranchConv, expand
from steps.reparam.fold import absorb_norms, fold
from steps.reparam.geometry import Margins
from steps.reparam.kernels import Affine
from steps.reparam.norms import NormTail
from tests.reparam.networks import randomise


class Forgettable(nn.Module):
    """Bias, eps, dilation, padding mode, groups, an activation in a norm, SE, an even kernel, a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_of_even = nn.BatchNorm2d(8)  # registered in a misleading order
        self.norm_of_stem = nn.BatchNorm2d(8, eps=1e-3)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2, padding_mode="reflect", bias=False)
        self.norm_of_dilated = BatchNormAct2d(8)
        self.grouped = nn.Conv2d(8, 8, (5, 3), padding=(2, 1), groups=2, bias=False)
        self.norm_of_grouped = nn.BatchNorm2d(8)
        self.squeeze = SqueezeExcite(8, rd_ratio=0.5)
        self.even = nn.Conv2d(8, 8, (2, 4), stride=2, bias=False)
        self.head = nn.Linear(8, 4)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return logits."""
        first = self.norm_of_stem(self.stem(image_NCHW)).relu()
        second = first + self.norm_of_grouped(self.grouped(self.norm_of_dilated(self.dilated(first))))
        third = self.norm_of_even(self.even(self.squeeze(second)))
        logits: Tensor = self.head(third.relu().mean((2, 3)))
        return logits


class Shared(nn.Module):
    """One convolution under two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.one, self.other = nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return both."""
        both: Tensor = self.one(self.conv(image_NCHW)) + self.other(self.conv(image_NCHW.flip(3)))
        return both


def library_network() -> nn.Module:
    """Return blocks of timm's own: with squeeze-and-excitation, with an identity branch, with a layer scale."""
    layers = byobnet.LayerFn(attn=SqueezeExcite)
    return nn.Sequential(
        byobnet.MobileOneBlock(3, 8, 3, stride=2, num_conv_branches=2, layers=layers),
        byobnet.RepVggBlock(8, 8, 3),
        fastvit.RepMixer(8, layer_scale_init_value=0.5),
    )


def expanded(block: str) -> nn.Module:
    """Return the forgettable network as it is after training, in float64."""
    torch.manual_seed(0)
    model = Forgettable()
    expand(model, block)
    return randomise(model).double()


def plain_network() -> nn.Module:
    """Return the forgettable network that was never expanded."""
    torch.manual_seed(0)
    return randomise(Forgettable()).double()


def library() -> nn.Module:
    """Return timm's blocks as they are after training."""
    torch.manual_seed(0)
    return randomise(library_network()).double()


def shared() -> nn.Module:
    """Return the network of one shared convolution."""
    torch.manual_seed(0)
    return randomise(Shared()).double()


Wrong = Callable[[nn.Module, pytest.MonkeyPatch], nn.Module]


class Mutant(NamedTuple):
    """A wrong fold: the network it is of, the fold, and a site that must be found to differ."""

    make: Callable[[], nn.Module]
    wrong: Wrong
    site: str


def changed(change: Callable[[nn.Module], object]) -> Wrong:
    """Return the fold that is right but for one change afterwards."""

    def wrong(model: nn.Module, _: pytest.MonkeyPatch) -> nn.Module:
        plain = fold(model)
        with torch.no_grad():
            change(plain)
        return plain

    return wrong


def patched(where: object, name: str, other: Callable[..., object]) -> Wrong:
    """Return the fold whose algebra, or whose training form, has one function replaced."""

    def wrong(model: nn.Module, patch: pytest.MonkeyPatch) -> nn.Module:
        patch.setattr(where, name, other)
        return fold(model)

    return wrong


def _set(path: str, **values: object) -> Wrong:
    def change(plain: nn.Module) -> None:
        for name, value in values.items():
            setattr(plain.get_submodule(path), name, value)

    return changed(change)


def _replace(path: str, module: nn.Module) -> Wrong:
    return changed(lambda plain: plain.set_submodule(path, module))


def _weight(path: str, other: Callable[[Tensor], Tensor]) -> Wrong:
    def change(plain: nn.Module) -> None:
        weight = plain.get_parameter(f"{path}.weight")
        weight.copy_(other(weight.clone()))

    return changed(change)


def _without_branch(model: nn.Module, _: pytest.MonkeyPatch) -> nn.Module:
    plain, block = fold(model), model.get_submodule("dilated")
    assert isinstance(block, MultiBranchConv)
    weight, bias = block.parts()["point"].folded()
    with torch.no_grad():
        plain.get_parameter("dilated.weight").sub_(weight)
        plain.get_parameter("norm_of_dilated.bias").sub_(bias)
    return plain


def _norms_swapped(plain: nn.Module) -> None:
    one, other = plain.get_submodule("norm_of_even"), plain.get_submodule("norm_of_grouped")
    plain.set_submodule("norm_of_even", other)
    plain.set_submodule("norm_of_grouped", one)


def _norm_dropped(model: nn.Module, _: pytest.MonkeyPatch) -> nn.Module:
    plain = fold(model)
    norm = plain.get_submodule("norm_of_grouped")
    assert isinstance(norm, nn.BatchNorm2d)
    plain.set_submodule("norm_of_grouped", NormTail(norm, "grouped"))
    return plain


def _activation_dropped(model: nn.Module, _: pytest.MonkeyPatch) -> nn.Module:
    absorbed = absorb_norms(fold(model))
    absorbed.set_submodule("norm_of_dilated", nn.Identity())
    return absorbed


def _fx_of_shared(model: nn.Module, _: pytest.MonkeyPatch) -> nn.Module:
    """Fold both norms into the one convolution, one after the other, as a fuser that counts no users does."""
    plain = fold(model)
    for name in ("one", "other"):
        conv, norm = plain.get_submodule("conv"), plain.get_submodule(name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        plain.set_submodule("conv", nn.utils.fusion.fuse_conv_bn_eval(conv, norm))
        plain.set_submodule(name, nn.Identity())
    return plain


def _scale(sigma: Callable[[Tensor, float], Tensor]) -> Callable[..., Affine]:
    """Return norm_scale_shift with another idea of sigma."""

    def scale_shift(gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Affine:
        scale = gamma / sigma(variance, eps)
        return scale, beta - mean * scale

    return scale_shift


def _without_mean(gamma: Tensor, beta: Tensor, _: Tensor, variance: Tensor, eps: float) -> Affine:
    return gamma / (variance + eps).sqrt(), beta


def _ones(channels: int, groups: int, like: Tensor) -> Tensor:
    return torch.ones(channels, channels // groups, 1, 1, dtype=like.dtype)


def _of_group_zero(channels: int, groups: int, like: Tensor) -> Tensor:
    own = torch.arange(channels).clamp_max(channels // groups - 1)
    return F.one_hot(own, channels // groups).to(like.dtype).reshape(channels, -1, 1, 1)


def _at_the_corner(weight: Tensor, window: tuple[int, int], _: tuple[int, int]) -> Tensor:
    return F.pad(weight, (0, window[1] - weight.shape[3], 0, window[0] - weight.shape[2]))


def _one_off(weight: Tensor, window: tuple[int, int], offset: tuple[int, int]) -> Tensor:
    """Pad by K // 2 as if every kernel were odd."""
    top, left = (min(w // 2, w - k) if o else 0 for w, o, k in zip(window, offset, weight.shape[2:], strict=True))
    below, right = window[0] - top - weight.shape[2], window[1] - left - weight.shape[3]
    return F.pad(weight, (left, right, top, below))


def _zero_border(normed: Tensor, _: object, margins: Margins) -> Tensor:
    return F.pad(normed, margins)


def _forgotten_carry(first: Affine, then: Affine, groups: int) -> Affine:
    from steps.reparam.kernels import compose_pointwise

    return compose_pointwise(first, then, groups)[0], then[1]


def _groups_ignored(first: Affine, then: Affine, groups: int) -> Affine:
    """Compose every group with the first group's pointwise kernel."""
    from steps.reparam.kernels import compose_pointwise

    point, bias = first
    one = point.reshape(groups, -1, *point.shape[1:])[:1].expand(groups, *[-1] * 4)
    return compose_pointwise((one.flatten(0, 1), bias), then, groups)


def _padding_not_counted(branch: branches.PointAverageBranch, padded: Tensor) -> Tensor:
    """Average over what lies inside the image alone."""
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


def _by_the_library(precision: torch.dtype) -> Wrong:
    """Return timm's own fold, in its own precision."""
    return lambda model, _: reparameterize_model(model.to(precision)).double()


def _scale_of_layers_dropped(model: nn.Module, _: pytest.MonkeyPatch) -> nn.Module:
    wrong = library()
    wrong.get_parameter("2.layer_scale.gamma").data.fill_(1.0)
    wrong_mixer = fold(wrong).get_submodule("2")
    plain = fold(model)
    plain.set_submodule("2", wrong_mixer)
    return plain


def _repvgg() -> nn.Module:
    return expanded("repvgg")


def _dbb() -> nn.Module:
    return expanded("dbb")


def _acb() -> nn.Module:
    return expanded("acb")


MUTANTS: dict[str, Mutant] = {
    "squeeze-and-excitation dropped (mmpretrain)": Mutant(
        _repvgg, _replace("squeeze", nn.Identity()), "whole network"
    ),
    "squeeze-and-excitation of a block dropped (PaddleClas)": Mutant(
        library, _replace("0.attn", nn.Identity()), "0"
    ),
    "activation of a block dropped": Mutant(library, _replace("1.act", nn.Identity()), "1"),
    "activation inside a norm dropped": Mutant(_repvgg, _activation_dropped, "whole network"),
    "layer scale dropped": Mutant(library, _scale_of_layers_dropped, "2"),
    "folded in float32 by its library": Mutant(library, _by_the_library(torch.float32), "0"),
    "folded in bfloat16 by its library": Mutant(library, _by_the_library(torch.bfloat16), "0"),
    "branch dropped": Mutant(_repvgg, _without_branch, "dilated"),
    "identity branch dropped": Mutant(
        _repvgg, patched(branches, "dirac", lambda n, g, like: 0 * _ones(n, g, like)), "dilated"
    ),
    "identity of ones on a dense convolution": Mutant(_repvgg, patched(branches, "dirac", _ones), "dilated"),
    "identity of the first group for all": Mutant(_repvgg, patched(branches, "dirac", _of_group_zero), "grouped"),
    "dilation ignored (RepVGG)": Mutant(
        _repvgg,
        _set("dilated", dilation=(1, 1), padding=(1, 1), _reversed_padding_repeated_twice=[1, 1, 1, 1]),
        "dilated",
    ),
    "padding mode ignored (RepVGG)": Mutant(_repvgg, _set("dilated", padding_mode="zeros"), "dilated"),
    "stride ignored": Mutant(_repvgg, _set("even", stride=(1, 1)), "even"),
    "groups transposed": Mutant(
        _repvgg, _weight("grouped", lambda w: w.reshape(2, 4, 4, 5, 3).transpose(1, 2).reshape(w.shape)), "grouped"
    ),
    "groups shuffled": Mutant(_repvgg, _weight("grouped", lambda w: w.roll(4, 0)), "grouped"),
    "groups ignored in 1x1-KxK": Mutant(_dbb, patched(branches, "compose_pointwise", _groups_ignored), "grouped"),
    "kernel transposed": Mutant(_acb, _weight("dilated", lambda w: w.mT), "dilated"),
    "kernel flipped": Mutant(_acb, _weight("stem", lambda w: w.flip(2, 3)), "stem"),
    "1x1 at the corner": Mutant(_repvgg, patched(branches, "embed", _at_the_corner), "stem"),
    "1x1 padded as if the kernel were odd": Mutant(_repvgg, patched(branches, "embed", _one_off), "even"),
    "norm of another site (ZCls, PaddleSlim)": Mutant(_repvgg, changed(_norms_swapped), "grouped"),
    "norm dropped, not folded": Mutant(_repvgg, _norm_dropped, "grouped"),
    "eps of another norm": Mutant(_repvgg, _set("norm_of_stem", eps=1e-5), "stem"),
    "eps forgotten": Mutant(_repvgg, patched(norms, "norm_scale_shift", _scale(lambda v, _: v.sqrt())), "stem"),
    "eps outside the root": Mutant(
        _repvgg, patched(norms, "norm_scale_shift", _scale(lambda v, e: v.sqrt() + e)), "stem"
    ),
    "variance for deviation": Mutant(
        _repvgg, patched(norms, "norm_scale_shift", _scale(lambda v, e: v + e)), "stem"
    ),
    "mean forgotten": Mutant(_repvgg, patched(norms, "norm_scale_shift", _without_mean), "stem"),
    "bias of the convolution dropped": Mutant(
        _repvgg, changed(lambda plain: plain.get_parameter("stem.bias").zero_()), "stem"
    ),
    "border of 1x1-KxK zero (DBB)": Mutant(_dbb, patched(branches, "add_border", _zero_border), "stem"),
    "bias of the 1x1 not carried through the KxK": Mutant(
        _dbb, patched(branches, "compose_pointwise", _forgotten_carry), "stem"
    ),
    "padding not counted in the average": Mutant(
        _dbb, patched(branches.PointAverageBranch, "forward", _padding_not_counted), "stem"
    ),
    "shared convolution takes both norms (torch.fx)": Mutant(shared, _fx_of_shared, "whole network"),
    "not a number": Mutant(
        _repvgg, changed(lambda plain: plain.get_parameter("norm_of_even.bias").fill_(torch.nan)), "even"
    ),
}

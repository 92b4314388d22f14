"""Each known bug of public folding code: the network, the wrong fold, and the site where it must be found."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from steps.reparam import branches, dbb, norms
from steps.reparam.online import Folding
from tests.reparam import wrong_folds as wrong
from tests.reparam.forgettable import expanded, library, shared
from tests.reparam.wrong_folds import Wrong


class Mutant(NamedTuple):
    """A wrong fold: its network, the fold, and a site that must be reported as different."""

    make: Callable[[], nn.Module]
    wrong: Wrong
    site: str


def _repvgg() -> nn.Module:
    return expanded("repvgg")


def _dbb() -> nn.Module:
    return expanded("dbb")


def _acb() -> nn.Module:
    return expanded("acb")


def _online_acb() -> nn.Module:
    return expanded("acb", "online")


def _online_dbb() -> nn.Module:
    return expanded("dbb", "online")


MUTANTS: dict[str, Mutant] = {
    "squeeze-and-excitation dropped (mmpretrain)": Mutant(
        _repvgg, wrong.replaced("squeeze", nn.Identity()), "whole network"
    ),
    "squeeze-and-excitation of a block dropped (PaddleClas)": Mutant(
        library, wrong.replaced("0.attn", nn.Identity()), "0"
    ),
    "activation of a block dropped": Mutant(library, wrong.replaced("1.act", nn.Identity()), "1"),
    "activation inside a norm dropped": Mutant(_repvgg, wrong.activation_dropped, "whole network"),
    "layer scale dropped": Mutant(library, wrong.scale_of_layers_dropped, "2"),
    "folded in float32 by its library": Mutant(library, wrong.by_the_library(torch.float32), "0"),
    "folded in bfloat16 by its library": Mutant(library, wrong.by_the_library(torch.bfloat16), "0"),
    "branch dropped": Mutant(_repvgg, wrong.without_branch, "dilated"),
    "identity branch dropped": Mutant(
        _repvgg, wrong.patched(branches, "dirac", lambda n, g, like: 0 * wrong.ones(n, g, like)), "dilated"
    ),
    "identity of ones on a dense convolution": Mutant(
        _repvgg, wrong.patched(branches, "dirac", wrong.ones), "dilated"
    ),
    "identity of the first group for all": Mutant(
        _repvgg, wrong.patched(branches, "dirac", wrong.of_group_zero), "grouped"
    ),
    "dilation ignored (RepVGG)": Mutant(
        _repvgg,
        wrong.set_to("dilated", dilation=(1, 1), padding=(1, 1), _reversed_padding_repeated_twice=[1, 1, 1, 1]),
        "dilated",
    ),
    "padding mode ignored (RepVGG)": Mutant(_repvgg, wrong.set_to("dilated", padding_mode="zeros"), "dilated"),
    "stride ignored": Mutant(_repvgg, wrong.set_to("even", stride=(1, 1)), "even"),
    "groups transposed": Mutant(
        _repvgg,
        wrong.weight_of("grouped", lambda w: w.reshape(2, 4, 4, 5, 3).transpose(1, 2).reshape(w.shape)),
        "grouped",
    ),
    "groups shuffled": Mutant(_repvgg, wrong.weight_of("grouped", lambda w: w.roll(4, 0)), "grouped"),
    "groups ignored in 1x1-KxK": Mutant(
        _dbb, wrong.patched(dbb, "compose_pointwise", wrong.groups_ignored), "grouped"
    ),
    "kernel transposed": Mutant(_acb, wrong.weight_of("dilated", lambda w: w.mT), "dilated"),
    "kernel flipped": Mutant(_acb, wrong.weight_of("stem", lambda w: w.flip(2, 3)), "stem"),
    "1x1 at the corner": Mutant(_repvgg, wrong.patched(branches, "embed", wrong.at_the_corner), "stem"),
    "1x1 padded as if the kernel were odd": Mutant(
        _repvgg, wrong.patched(branches, "embed", wrong.one_off), "even"
    ),
    "norm of another site (ZCls, PaddleSlim)": Mutant(_repvgg, wrong.changed(wrong.norms_swapped), "grouped"),
    "norm dropped, not folded": Mutant(_repvgg, wrong.norm_dropped, "grouped"),
    "eps of another norm": Mutant(_repvgg, wrong.set_to("norm_of_stem", eps=1e-5), "stem"),
    "eps forgotten": Mutant(
        _repvgg, wrong.patched(norms, "norm_scale_shift", wrong.scale(lambda v, _: v.sqrt())), "stem"
    ),
    "eps outside the root": Mutant(
        _repvgg, wrong.patched(norms, "norm_scale_shift", wrong.scale(lambda v, e: v.sqrt() + e)), "stem"
    ),
    "variance for deviation": Mutant(
        _repvgg, wrong.patched(norms, "norm_scale_shift", wrong.scale(lambda v, e: v + e)), "stem"
    ),
    "mean forgotten": Mutant(_repvgg, wrong.patched(norms, "norm_scale_shift", wrong.without_mean), "stem"),
    "bias of the convolution dropped": Mutant(
        _repvgg, wrong.changed(lambda plain: plain.get_parameter("stem.bias").zero_()), "stem"
    ),
    "border of 1x1-KxK zero (DBB)": Mutant(_dbb, wrong.trained_with(dbb, "add_border", wrong.zero_border), "stem"),
    "bias of the 1x1 not carried through the KxK": Mutant(
        _dbb, wrong.patched(dbb, "compose_pointwise", wrong.forgotten_carry), "stem"
    ),
    "padding not counted in the average": Mutant(
        _dbb, wrong.trained_with(dbb.PointAverageBranch, "forward", wrong.padding_not_counted), "stem"
    ),
    "learned 1x1 of 1x1-KxK dropped": Mutant(
        _dbb, wrong.patched(dbb.PointKernelBranch, "folded", wrong.learned_point_dropped), "stem"
    ),
    "identity of the 1x1 of 1x1-KxK dropped": Mutant(
        _dbb, wrong.patched(dbb, "dirac", lambda n, g, like: 0 * wrong.ones(n, g, like)), "stem"
    ),
    "online part dropped": Mutant(_online_dbb, wrong.patched(Folding, "summed", wrong.last_part_dropped), "stem"),
    "scales of online parts ignored": Mutant(
        _online_dbb, wrong.patched(Folding, "summed", wrong.scales_ignored), "stem"
    ),
    "online row and column at the corner": Mutant(
        _online_acb, wrong.patched(Folding, "summed", wrong.parts_at_the_corner), "grouped"
    ),
    "online average not divided": Mutant(
        _online_dbb, wrong.patched(Folding, "kernels", wrong.average_not_divided), "stem"
    ),
    "eps forgotten in online mode": Mutant(
        _online_dbb, wrong.patched(norms, "norm_scale_shift", wrong.scale(lambda v, _: v.sqrt())), "stem"
    ),
    "shared convolution takes both norms (torch.fx)": Mutant(shared, wrong.fx_of_shared, "whole network"),
    "not a number": Mutant(
        _repvgg, wrong.changed(lambda plain: plain.get_parameter("norm_of_even.bias").fill_(torch.nan)), "even"
    ),
}

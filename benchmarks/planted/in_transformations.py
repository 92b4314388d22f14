"""Faults of fuse and export: each must be caught by the certificate of the step that makes it."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.planted import graphs, resizes
from benchmarks.planted.mutant import Mutant
from benchmarks.planted.network import forgettable
from benchmarks.planted.places import Change, Place

FOLD, FUSE, EXPORT = Place("fold"), Place("fuse"), Place("export")


def _folded(change: Change, site: str) -> Mutant:
    return Mutant("fuse", FOLD, change, ("fuse",), "certificate of fuse", site)


def _fused(change: Change, site: str = "whole network") -> Mutant:
    return Mutant("fuse", FUSE, change, ("fuse",), "certificate of fuse", site)


def _kept(change: Change, site: str) -> Mutant:
    """Return a fault of the network that keeps its branches for int8."""
    terms = (("fuse.branches", "keep"),)
    return Mutant("fuse", Place("keep"), change, ("fuse",), "certificate of fuse", site, terms)


def _exported(change: Change, words: str = "") -> Mutant:
    return Mutant("export", EXPORT, change, ("export",), "certificate of export", words)


def _on(change: Callable[[nn.Module], object]) -> Change:
    """Return the change of a network in its place."""

    def changed(network: nn.Module) -> nn.Module:
        with torch.no_grad():
            change(network)
        return network

    return changed


def _branch_dropped(network: nn.Module) -> None:
    for key in ("weight", "bias"):
        network.get_parameter(f"deep.branches.point.norm.{key}").zero_()


def _eps_of_another_library(network: nn.Module) -> None:
    norm = network.get_submodule("stem.branches.full.norm")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.eps = 1e-5


def _statistics_of_another_site(network: nn.Module) -> None:
    for key in ("running_mean", "running_var"):
        other = network.get_buffer(f"wide.branches.full.norm.{key}")
        network.get_buffer(f"deep.branches.full.norm.{key}").copy_(other)


def _statistics_of_the_beginning(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()


def _identity_of_another_channel(network: nn.Module) -> None:
    for key in ("weight", "bias", "running_mean", "running_var"):
        state = network.state_dict()
        state[f"deep.branches.identity.norm.{key}"].copy_(state[f"deep.branches.identity.norm.{key}"].roll(1))


def _branch(factor: float) -> Change:
    """Return the change after which one branch of `deep` counts so many times, its norm already in it."""

    def change(network: nn.Module) -> None:
        for key in ("weight", "bias"):
            network.get_parameter(f"deep.branches.point.conv.{key}").mul_(factor)

    return _on(change)


def _norm_of_another_site(network: nn.Module) -> None:
    """Give one branch the bias that the norm of another site's branch left."""
    other = network.get_parameter("wide.branches.full.conv.bias")
    network.get_parameter("deep.branches.full.conv.bias").copy_(other)


def _without(path: str) -> Change:
    return _on(lambda network: network.set_submodule(path, nn.Identity()))


def _tensor(key: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    return _on(lambda network: network.get_parameter(key).copy_(change(network.get_parameter(key).clone())))


def _one_channel_zeroed(weight: torch.Tensor) -> torch.Tensor:
    weight[3] = 0
    return weight


def _two_filters_swapped(weight: torch.Tensor) -> torch.Tensor:
    weight[[2, 5]] = weight[[5, 2]]
    return weight


def _one_filter_permuted(weight: torch.Tensor) -> torch.Tensor:
    weight[4] = weight[4].flip(0)
    return weight


def _third_is_no_number(bias: graphs.Array) -> graphs.Array:
    bias[3] = np.nan
    return bias


def _not_loaded(network: nn.Module) -> None:
    torch.manual_seed(1)
    fresh = {key: value for key, value in forgettable(10).state_dict().items() if key.startswith("head")}
    network.load_state_dict(fresh, strict=False)


IN_FUSE: dict[str, Mutant] = {
    "one branch dropped at one site": _folded(_on(_branch_dropped), "deep"),
    "eps of another library in one norm": _folded(_on(_eps_of_another_library), "stem"),
    "statistics of another site's norm": _folded(_on(_statistics_of_another_site), "deep"),
    "norms folded with the statistics of a fresh network": _folded(_on(_statistics_of_the_beginning), "stem"),
    "identity branch one channel off": _folded(_on(_identity_of_another_channel), "deep"),
    "squeeze-and-excitation dropped": _fused(_without("squeeze")),
    "activation dropped": _fused(_without("act")),
    "one channel zeroed": _fused(_tensor("wide.weight", _one_channel_zeroed), "wide"),
    "two filters swapped": _fused(_tensor("last.weight", _two_filters_swapped), "last"),
    "kernel flipped": _fused(_tensor("stem.weight", lambda weight: weight.flip(2, 3)), "stem"),
    "last layer not loaded": _fused(_on(_not_loaded)),
    "one filter's inputs permuted": _fused(_tensor("last.weight", _one_filter_permuted), "last"),
    "weights rounded to fp16 in between": _fused(_on(lambda network: network.half().double()), "stem"),
}

IN_KEPT: dict[str, Mutant] = {
    "kept branches: one dropped": _kept(_branch(0), "deep"),
    "kept branches: one summed twice": _kept(_branch(2), "deep"),
    "kept branches: one with the norm of another site": _kept(_on(_norm_of_another_site), "deep"),
    "kept branches: identity off by one channel": _kept(_on(_identity_of_another_channel), "deep"),
}

IN_EXPORT: dict[str, Mutant] = {
    "scale 1/255 missing in the graph": _exported(graphs.on_pixels(("Mul", graphs.number(255)))),
    "other mean in the graph": _exported(graphs.on_pixels(("Add", graphs.number((0.5 - 0.485) / 0.5)))),
    "other deviation in the graph": _exported(graphs.on_pixels(("Mul", graphs.number(0.5 / 0.229)))),
    "mean folded into a padded convolution": _exported(resizes.mean_in_a_padded_convolution),
    "channels swapped in the graph": _exported(graphs.on_pixels(("Gather", np.array([2, 1, 0])))),
    "two classes swapped in the graph": _exported(
        graphs.classes_in_order(lambda k: np.where(k == 3, 5, np.where(k == 5, 3, k)))
    ),
    "all classes in another order": _exported(
        graphs.classes_in_order(lambda k: np.random.default_rng(0).permutation(k))
    ),
    "last layer shifted": _exported(graphs.weight("head.bias", lambda bias: np.roll(bias, 1))),
    "class_num off by one in the graph": _exported(graphs.one_more_class, "not finite"),
    "Resize as opset 10 meant it": _exported(
        graphs.with_attribute("Resize", "coordinate_transformation_mode", "asymmetric")
    ),
    "Resize by the nearest pixel": _exported(graphs.with_attribute("Resize", "mode", "nearest")),
    "activation dropped in the graph": _exported(graphs.without("Relu", -1)),
    "attention dropped in the graph": _exported(graphs.without("Mul")),
    "batch turned round": _exported(
        graphs.on_logits(("Slice", [np.array([-1]), np.array([-(2**31)]), np.array([0]), np.array([-1])])),
        "batch of",
    ),
    "every image answered as the first": _exported(graphs.of_batch_one, "batch of"),
    "traced for a batch of one": Mutant(
        "export", EXPORT, graphs.declared_for_one, ("export",), "batch of any size", "batches of 1 images only"
    ),
    "softmax in the graph": _exported(graphs.on_logits(("Softmax", []))),
    "NaN in one class of the graph": _exported(
        graphs.weight("head.bias", _third_is_no_number), "not finite"
    ),
}  # fmt: skip

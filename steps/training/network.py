"""The network in training: the plain network, filled with weights, expanded, with its normalisation inside."""

import inspect
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import cast

import torch
from torch import nn

from steps.errors import BadInput
from steps.models.architectures import create
from steps.models.cost import cost_of
from steps.models.heads import add_bottleneck, class_parameters, head_name, head_parameters
from steps.models.normalised import Normalised, normalised
from steps.models.own_networks import FOLDER, networks_digest, package_names
from steps.progress import say
from steps.reparam.expand import Init, Mode, expand
from steps.reparam.library_blocks import library_form
from steps.reports.card import Expansion, Preprocessing
from steps.reports.train import SiteDecision, WeightsCoverage
from steps.tracing.example import refuse_a_precision_of_its_own
from steps.training.memory_format import lay_out
from steps.weights.loading import load_weights
from steps.weights.positions import little_data

LIBRARIES = ("timm", "torch", "torchvision")


@dataclass(frozen=True)
class NetworkSpec:
    """Which network to make; without an `expansion` the plain network trains."""

    arch: str
    class_num: int
    preprocessing: Preprocessing
    weights: Path | None
    min_weights_coverage: float
    bottleneck: int | None
    expansion: Expansion | None
    init: Init


@dataclass(frozen=True)
class TrainableNetwork:
    """The network, and the decisions that led to it."""

    network: Normalised
    sites: tuple[SiteDecision, ...]
    weights: WeightsCoverage | None
    head_without_bottleneck: int

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.network.offset_C11.device

    @property
    def parameters(self) -> int:
        """Trained numbers, branches included."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def head(self) -> int:
        """Trained numbers of the last layer, and of the bottleneck before it."""
        return head_parameters(self.network.network)


def make_network(spec: NetworkSpec, seed: int, device: torch.device) -> TrainableNetwork:
    """Return the network on the device, its fresh weights drawn from `seed`; weights go in before the branches."""
    torch.manual_seed(seed)
    size = spec.preprocessing.size
    plain = create(spec.arch, spec.class_num, size).eval()
    _refuse_a_size_that_it_does_not_take(plain, spec)
    refuse_a_precision_of_its_own(
        plain, torch.zeros(1, 3, size, size)
    )  # fuse would refuse it too, but after the training
    whole_head = head_parameters(plain)
    if spec.bottleneck is not None:
        add_bottleneck(plain, spec.bottleneck)
    coverage = None
    if spec.weights is not None:
        coverage = load_weights(plain, spec.weights, spec.min_weights_coverage)
    library_form(plain)  # a library's block that cannot fold is refused before the training
    sites: tuple[SiteDecision, ...] = ()
    if spec.expansion is not None:
        sites = _expand(plain, spec.expansion, spec.init, size)
    network = normalised(plain, spec.preprocessing).to(device)
    lay_out(network)
    return TrainableNetwork(network, sites, coverage, whole_head)


def say_cost(trainable: TrainableNetwork, size: int, class_num: int, unused_ids: int) -> None:
    """Log the size of the network and its head, the saving of a bottleneck, and the cost of an image."""
    network = trainable.network.network
    say(
        f"train: {trainable.parameters:,} parameters, {trainable.head:,} of them in the last layer "
        f"({head_name(network) or 'not found'})"
    )
    if trainable.head != trainable.head_without_bottleneck:
        whole = trainable.head_without_bottleneck
        say(f"train: without its bottleneck the last layer would have {whole:,} parameters")
    elif trainable.head > trainable.parameters - trainable.head:
        say("train: the last layer is larger than the rest of the network; train.bottleneck can make it smaller")
    cost = cost_of(network, torch.zeros(1, 3, size, size, device=trainable.device))
    say(
        f"train: an image of {size} pixels takes {cost.flops / 1e9:.3f} GFLOPs forward and keeps up to "
        f"{cost.peak_live_bytes / 1e6:.2f} MB of activations alive"
    )
    if unused_ids:
        wasted = class_parameters(network, class_num) * unused_ids
        say(f"train: {unused_ids} of {class_num} class ids have no training image and cost {wasted:,} parameters")


def warnings_of(trainable: TrainableNetwork, images: int) -> tuple[str, ...]:
    """Return and log the reasons to doubt that this network learns well from this number of images."""
    sentence = little_data(trainable.network.network, images, weights=trainable.weights is not None)
    if sentence is None:
        return ()
    say(f"train: {sentence}")
    return (sentence,)


def sources_of(network: nn.Module) -> set[Path]:
    """Return the Python files that the network's modules are written in."""
    files = {inspect.getsourcefile(type(module)) for module in network.modules()}
    return {Path(file) for file in files if file}


def library_versions(arch: str, network: nn.Module) -> dict[str, str]:
    """Return the versions of all code that decides the weights' bytes, by the name of the package.

    The packages are LIBRARIES, the package that `arch` names, and the packages that wrote modules of the network.
    For an `arch` in `networks/`, the entry `networks` is a digest of that folder.
    """
    of_arch = arch.rpartition(":")[0].partition(".")[0]
    modules = {type(module).__module__.partition(".")[0] for module in network.modules()} | {of_arch}
    others = modules - {"", "steps", FOLDER, *LIBRARIES}
    packages = {*LIBRARIES, *(package_names(others) if others else ())}
    versions = {package: version(package) for package in sorted(packages)}
    return versions | ({FOLDER: networks_digest()} if of_arch == FOLDER else {})


@torch.no_grad()
def _refuse_a_size_that_it_does_not_take(plain: nn.Module, spec: NetworkSpec) -> None:
    """Raise BadInput where one image does not pass through the network: pooling may leave none of it."""
    size = spec.preprocessing.size
    try:
        plain(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError, ValueError) as fault:
        reason = " ".join(str(fault).split())[:200]
        raise BadInput(
            f"{spec.arch} does not take images of {size} pixels (train.preprocess.side): {reason}"
        ) from fault


def _expand(plain: nn.Module, how: Expansion, init: Init, size: int) -> tuple[SiteDecision, ...]:
    """Give the network its branches, log the sites that stay plain, and return the decision for each site."""
    plan = expand(plain, how.block, how.where, init, cast(Mode, how.mode), torch.zeros(1, 3, size, size))
    skipped = [site for site in plan.sites if site.skipped]
    blocks = f"'{how.block}' blocks, mode {how.mode}"
    say(f"train: {len(plan.expanded)} of {len(plan.sites)} convolutions train as {blocks}")
    for site in skipped[:3]:
        say(f"train: {site.site} stays as it is: {site.skipped}")
    if len(skipped) > 3:
        say(f"train: and {len(skipped) - 3} more; report.json lists all of them")
    if plan.untried is not None:
        say(f"train: the branches were tried in eval mode alone; in training mode it raised {plan.untried}")
    return tuple(
        SiteDecision(
            site=site.site, block=None if site.skipped else " + ".join(site.branches), skipped=site.skipped
        )
        for site in plan.sites
    )

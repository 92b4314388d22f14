"""The network as it trains: plain, filled with weights if there are any, expanded, normalising its own input."""

import inspect
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import cast

import torch
from torch import nn

from steps.models.architectures import create
from steps.models.heads import head_name, head_parameters
from steps.models.normalised import Normalised, normalised
from steps.models.weights import load_weights
from steps.progress import say
from steps.reparam.expand import Init, Mode, expand
from steps.reports.card import Expansion, Preprocessing
from steps.reports.train import SiteDecision, WeightsCoverage

LIBRARIES = ("timm", "torch", "torchvision")


@dataclass(frozen=True)
class Recipe:
    """What network to make; `expansion` None trains the plain one."""

    arch: str
    class_num: int
    preprocessing: Preprocessing
    weights: Path | None
    min_weights_coverage: float
    expansion: Expansion | None
    init: Init


@dataclass(frozen=True)
class Made:
    """The network, and what was decided on the way."""

    network: Normalised
    sites: tuple[SiteDecision, ...]
    weights: WeightsCoverage | None

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.network.offset_C.device

    @property
    def parameters(self) -> int:
        """Trained numbers, branches included."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def head(self) -> int:
        """Trained numbers of the last layer."""
        return head_parameters(self.network.network)


def make_network(recipe: Recipe, seed: int, device: torch.device) -> Made:
    """Return the network on the device, its fresh weights drawn from `seed`; weights go in before the branches."""
    torch.manual_seed(seed)
    size = recipe.preprocessing.size
    plain = create(recipe.arch, recipe.class_num, size).eval()
    coverage = None
    if recipe.weights is not None:
        coverage = load_weights(plain, recipe.weights, recipe.min_weights_coverage)
    sites: tuple[SiteDecision, ...] = ()
    if recipe.expansion is not None:
        sites = _expand(plain, recipe.expansion, recipe.init, size)
    network = normalised(plain, recipe.preprocessing)
    return Made(_channels_last(network.to(device)), sites, coverage)


def say_cost(made: Made, class_num: int, unused_ids: int) -> None:
    """Say how large the network and its head are, and what class ids without images cost of it."""
    say(
        f"train: {made.parameters:,} parameters, {made.head:,} of them in the last layer "
        f"({head_name(made.network.network) or 'not found'})"
    )
    if unused_ids:
        cost = made.head // class_num * unused_ids
        say(f"train: {unused_ids} of {class_num} class ids have no training image and cost {cost:,} parameters")


def sources_of(network: nn.Module) -> set[Path]:
    """Return the Python files that the network's modules are written in."""
    files = {inspect.getsourcefile(type(module)) for module in network.modules()}
    return {Path(file) for file in files if file}


def library_versions() -> dict[str, str]:
    """Return the versions on which the weights' bytes depend."""
    return {library: version(library) for library in LIBRARIES}


def _expand(plain: nn.Module, how: Expansion, init: Init, size: int) -> tuple[SiteDecision, ...]:
    """Give the network its branches and return each site's decision, said in one line where sites are left out."""
    plan = expand(plain, how.block, how.where, init, cast(Mode, how.mode), torch.zeros(1, 3, size, size))
    skipped = [site for site in plan.sites if site.skipped]
    said = f"as '{how.block}' blocks, mode {how.mode}"
    say(f"train: {len(plan.expanded)} of {len(plan.sites)} convolutions train {said}")
    for site in skipped[:3]:
        say(f"train: {site.site} stays as it is: {site.skipped}")
    if len(skipped) > 3:
        say(f"train: and {len(skipped) - 3} more; report.json lists all of them")
    return tuple(
        SiteDecision(
            site=site.site, block=None if site.skipped else " + ".join(site.branches), skipped=site.skipped
        )
        for site in plan.sites
    )


def _channels_last(network: Normalised) -> Normalised:
    """Return the network with its kernels in the layout that convolutions are fastest in, on CPUs and GPUs."""
    network.to(memory_format=torch.channels_last)
    return network

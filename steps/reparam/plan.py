"""The plan of an expansion, site by site, which a person can read before the expansion."""

import fnmatch
from dataclasses import dataclass

from torch import nn

from steps.reparam.branches import branches_for
from steps.reparam.geometry import Margins, geometry_of


@dataclass(frozen=True)
class SitePlan:
    """One convolution: its branches, or the reason why it is not expanded."""

    site: str
    norm: str | None = None
    branches: tuple[str, ...] = ()
    skipped: str | None = None
    zeros: Margins | None = None  # the zeros that a custom padding adds to the example


@dataclass(frozen=True)
class ExpansionPlan:
    """The plan of `expand` for each convolution of a network, in the network's order."""

    block: str
    sites: tuple[SitePlan, ...]
    untried: str | None = None  # the network's error in training mode; the plan is then verified in eval mode only

    @property
    def expanded(self) -> tuple[SitePlan, ...]:
        """The sites that get branches."""
        return tuple(site for site in self.sites if site.skipped is None)

    def lines(self) -> list[str]:
        """Return the plan as text, one line per site, and a last line if training mode could not be tried."""
        sites = [
            f"{site.site}: " + (f"skipped, {site.skipped}" if site.skipped else " + ".join(site.branches))
            for site in self.sites
        ]
        return sites if self.untried is None else [*sites, f"not tried in training mode: {self.untried}"]


def plan_site(model: nn.Module, name: str, norm_name: str, conv: nn.Conv2d, block: str, where: str) -> SitePlan:
    """Return the plan of a convolution that has its batch norm."""
    norm = model.get_submodule(norm_name)
    names = branches_for(block, geometry_of(conv))
    skipped = None
    if not _is_wanted(name, conv, where):
        skipped = f"not in '{where}'"
    elif not all(number.requires_grad for number in (*conv.parameters(), *norm.parameters(recurse=False))):
        skipped = "it is frozen: a parameter of the convolution or of its norm does not train"
    elif model.training and not norm.training:
        skipped = "its norm is frozen: the norm is in eval mode, and the network is in training mode"
    elif norm.bias is None and conv.bias is None:
        skipped = "neither the convolution nor its norm has a bias to fold into"
    elif len(names) == 1:
        rows, columns = conv.kernel_size
        skipped = f"'{block}' adds no branch to this {rows}x{columns} convolution"
    return SitePlan(name, norm_name, () if skipped else names, skipped)


def _is_wanted(name: str, conv: nn.Conv2d, where: str) -> bool:
    if where == "all":
        return True
    return where == "x".join(map(str, conv.kernel_size)) or fnmatch.fnmatchcase(name, where)

"""Expand a plain network to its multi-branch form for training, and plan the expansion site by site."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from steps.errors import BadInput, did_you_mean
from steps.reparam.branches import (
    BLOCKS,
    Branch,
    KernelBranch,
    make_branches,
    norm_after,
    silence_branches,
)
from steps.reparam.geometry import Geometry, Margins, geometry_of, pad_once, zeros_for
from steps.reparam.kernels import Affine, follow_by_norm
from steps.reparam.norms import (
    NewNorm,
    Norm,
    NormTail,
    SiteId,
    Structure,
    copy_norm,
    norm_like,
    scale_shift,
    set_to_identity,
    structure_of,
)
from steps.reparam.online import OnlineBranch, make_online, no_norm_after, silence_parts
from steps.reparam.pairing import Pairing, pair_convs_with_norms, training_pass
from steps.reparam.plan import ExpansionPlan, SitePlan, plan_site
from steps.reparam.verify import find_unchangeable
from steps.tracing.randomness import fixed_draws

Init = Literal["exact", "standard"]
Mode = Literal["branch", "online"]


class MultiBranchConv(nn.Module):
    """The sum of branches that replaces a convolution and its batch norm."""

    def __init__(
        self,
        site: SiteId,
        conv: nn.Conv2d,
        norm: Norm,
        names: tuple[str, ...],
        mode: Mode = "branch",
        zeros: Margins | None = None,
    ) -> None:
        super().__init__()
        self.site = site
        self.conv: Structure = structure_of(conv)
        self.geometry: Geometry = geometry_of(conv, zeros)
        self.zeros = zeros
        new_norm = norm_like(norm)
        self.branches = nn.ModuleDict(MODES[mode].make(self.geometry, new_norm, _numbered(names)))
        self.after: nn.Module = MODES[mode].after(names, partial(new_norm, conv.out_channels))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in nn.Conv2d
        """Return the output of the convolution and its batch norm.

        Where the padding depends on the input's size, refuse an input that needs other padding than the example.
        """
        if self.zeros is not None and zeros_for(self.geometry, input) != self.zeros:
            rows, columns = input.shape[2:]
            raise BadInput(
                f"{self.site.name} pads by its input's size, and its branches were made for another size than "
                f"{rows}x{columns}; expand with an example of the size that the network will get."
            )
        padded_NCHW = pad_once(input, self.geometry)
        first, *more = self.branches.values()
        output_NCHW: Tensor = first(padded_NCHW)
        for branch in more:
            output_NCHW = output_NCHW + branch(padded_NCHW)
        normed_NCHW: Tensor = self.after(output_NCHW)
        return normed_NCHW

    def parts(self) -> dict[str, Branch]:
        """Return the branches by name, typed as Branch."""
        return dict(self.branches.items())  # type: ignore[arg-type]

    def folded(self) -> Affine:
        """Return the summed kernel and bias of all branches, in float64."""
        weights, biases = zip(*(branch.folded() for branch in self.parts().values()), strict=True)
        weight_OIKK, bias_O = torch.stack(weights).sum(0), torch.stack(biases).sum(0)
        if self.after is not self.last_norm:
            return weight_OIKK, bias_O
        return follow_by_norm(weight_OIKK, bias_O, *scale_shift(self.last_norm))

    @property
    def last_norm(self) -> Norm:
        """The norm that replaces the original norm: the norm after the sum, or else the first branch's norm."""
        norm = next(iter(self.branches.values())).norm if isinstance(self.after, nn.Identity) else self.after
        assert isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
        return norm


class ModeType(NamedTuple):
    """How to make a site's branches and the norm after their sum, and how to silence the new branches."""

    make: Callable[[Geometry, NewNorm, Mapping[str, str]], dict[str, nn.Module]]
    after: Callable[[tuple[str, ...], Callable[[], Norm]], nn.Module]
    silence: Callable[[nn.ModuleDict], None]


MODES: dict[Mode, ModeType] = {
    "branch": ModeType(make_branches, norm_after, silence_branches),
    "online": ModeType(make_online, no_norm_after, silence_parts),
}


def plan_expansion(
    model: nn.Module, block: str, where: str = "all", example_NCHW: Tensor | None = None, mode: Mode = "branch"
) -> ExpansionPlan:
    """Return what `expand` would do, without changing the network.

    `where` is "all", a kernel size such as "3x3" (rows x columns), or a pattern of names such as "layer1.*". Only
    the example's shape counts; without an example, the smallest image that the network takes is used. A copy of
    the network is expanded and run in eval mode and in training mode. A site that changes an output is skipped,
    and the plan gives the reason.
    """
    if block not in BLOCKS:
        raise BadInput(f"'{block}' is no block; the blocks are {', '.join(BLOCKS)}.{did_you_mean(block, BLOCKS)}")
    if any(isinstance(module, MultiBranchConv) for module in model.modules()):
        raise BadInput("the network is expanded already; fold the network before you expand it again.")
    pairing = pair_convs_with_norms(model, example_NCHW)
    sites = []
    for name, conv in model.named_modules():
        if isinstance(conv, _ConvNd):
            norm = pairing.norm_of.get(name)
            reason = pairing.lone_convs.get(name)
            if norm is None or reason is not None or not isinstance(conv, nn.Conv2d):
                sites.append(SitePlan(name, skipped=reason or "it is the whole network"))
            else:
                planned = plan_site(model, name, norm, conv, block, where)
                sites.append(replace(planned, zeros=pairing.zeros_of.get(name)))
    return _skip_unchangeable(ExpansionPlan(block, tuple(sites)), pairing, mode)


def _skip_unchangeable(plan: ExpansionPlan, pairing: Pairing, mode: Mode) -> ExpansionPlan:
    """Return the plan with every site skipped whose expansion would change the network's function."""
    if not plan.expanded or pairing.watched is None:
        return plan
    training, reasons, untried = training_pass(pairing)
    candidates = {site.site: site for site in plan.expanded if site.site not in reasons}

    def change(model: nn.Module, conv: str, _: str) -> None:
        _expand_site(model, candidates[conv], "exact", mode)

    passes = [pairing.watched] if training is None else [pairing.watched, training]
    norm_of = {name: pairing.norm_of[name] for name in candidates}
    with fixed_draws():  # expanding the copy draws new weights
        reasons.update(find_unchangeable(passes, norm_of, change))
    sites = (
        replace(site, branches=(), skipped=reasons[site.site])
        if site.skipped is None and site.site in reasons
        else site
        for site in plan.sites
    )
    return replace(plan, sites=tuple(sites), untried=untried)


def expand(
    model: nn.Module,
    block: str,
    where: str = "all",
    init: Init = "exact",
    mode: Mode = "branch",
    example_NCHW: Tensor | None = None,
) -> ExpansionPlan:
    """Replace the network's convolutions by multi-branch blocks, in place, and return the plan that was followed.

    With `mode="branch"` every branch is a convolution with a batch norm. With "online" the kernels are summed
    before one convolution. With `init="exact"` the scale of each new branch starts at zero, so the network
    computes the same function as before, in training and in eval mode. With "standard" the new branches start at
    full strength, as in the papers. New weights are drawn from torch's global generator. Where the padding of a
    convolution depends on the size of its input, the branches pad as the convolution pads the example, and refuse
    an input that needs other padding. A frozen site is skipped, and so is a site whose expansion would change the
    function. One pass in eval mode and one pass in training mode decide whether the function changes; a network
    that draws random numbers gets three training passes. These passes may miss behaviour that depends on the
    values or the size of the images. If the network fails in training mode, `untried` in the plan has the fault.

    Limits of `init="exact"`: in mode "branch", "qarepvgg" has a norm in its first branch and a norm after the sum.
    In training, a channel whose batch variance is at most the eps of these norms then gives another result.

    Limits of gradient checkpointing, which runs a block twice a step: the border of a 1x1-KxK branch ("dbb", mode
    "branch") is made of running statistics, and the first run changes these statistics. So the second run computes
    other gradients. Mode "online" and the other blocks have no such border.
    """
    if mode not in get_args(Mode):
        raise BadInput(f"'{mode}' is no mode of expand; the modes are {', '.join(get_args(Mode))}.")
    if init not in get_args(Init):
        raise BadInput(f"'{init}' is no init of expand; the inits are {', '.join(get_args(Init))}.")
    plan = plan_expansion(model, block, where, example_NCHW, mode)
    if not plan.expanded:
        reasons = "; ".join(plan.lines()[:3]) or "it has no convolutions"
        raise BadInput(
            f"expand finds no site for '{block}' at '{where}' in {type(model).__name__}: {reasons}. "
            "To train the network without expansion, set train.expand.block: none."
        )
    for site in plan.expanded:
        _expand_site(model, site, init, mode)
    return plan


def _expand_site(model: nn.Module, site: SitePlan, init: Init, mode: Mode) -> None:
    """Replace the convolution by the multi-branch block, and the norm by its tail (activation, dropout)."""
    assert site.norm is not None
    conv, norm = model.get_submodule(site.site), model.get_submodule(site.norm)
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
    site_id = SiteId(site.site)
    block = MultiBranchConv(site_id, conv, norm, site.branches, mode, site.zeros)
    block.to(conv.weight.device, conv.weight.dtype).train(model.training)
    _set_dtype_of_norms(block, norm)  # before copying the statistics, which would be rounded otherwise
    first = next(iter(block.branches.values()))
    assert isinstance(first, KernelBranch | OnlineBranch)
    if first.norm is not block.last_norm:
        set_to_identity(first.norm, norm)
    copy_norm(norm, block.last_norm)
    first.adopt(conv)
    if conv.weight.is_contiguous(memory_format=torch.channels_last) and not conv.weight.is_contiguous():
        block.to(memory_format=torch.channels_last)
    if init == "exact":
        MODES[mode].silence(block.branches)
    model.set_submodule(site.site, block)
    model.set_submodule(site.norm, NormTail(norm, site_id).train(model.training))


def _set_dtype_of_norms(block: nn.Module, norm: Norm) -> None:
    """Give all norms in the block the dtype of the original norm; the convolution may have a lower precision."""
    assert norm.running_mean is not None
    for module in block.modules():
        if isinstance(module, _BatchNorm):
            module.to(norm.running_mean.dtype)


def _numbered(names: tuple[str, ...]) -> dict[str, str]:
    """Return unique key -> branch name; a repeated name gets numbered keys: full, full_copy1, full_copy2."""
    copies = [names[:place].count(name) for place, name in enumerate(names)]
    return {f"{name}_copy{copy}" if copy else name: name for name, copy in zip(names, copies, strict=True)}

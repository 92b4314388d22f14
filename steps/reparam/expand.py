"""From a plain network to its multi-branch form for training, and the plan that says site by site what is done."""

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
    Held,
    NewNorm,
    Norm,
    NormTail,
    SiteId,
    copy_norm,
    hold,
    norm_like,
    scale_shift,
    set_to_identity,
)
from steps.reparam.online import OnlineBranch, make_online, no_norm_after, silence_parts
from steps.reparam.pairing import Pairing, in_training, pair_convs_with_norms
from steps.reparam.plan import ExpansionPlan, SitePlan, plan_site
from steps.reparam.verify import unfit
from steps.tracing.randomness import drawing_alike

Init = Literal["exact", "standard"]
Mode = Literal["branch", "online"]


class MultiBranchConv(nn.Module):
    """The sum of branches, in the place of a convolution and its batch norm."""

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
        self.conv: Held = hold(conv)
        self.geometry: Geometry = geometry_of(conv, zeros)
        self.zeros = zeros
        new_norm = norm_like(norm)
        self.branches = nn.ModuleDict(MODES[mode].make(self.geometry, new_norm, _numbered(names)))
        self.after: nn.Module = MODES[mode].after(names, partial(new_norm, conv.out_channels))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - named as in the convolution that it stands in for
        """Return what the convolution and its batch norm return; one that pads by size wants the example's."""
        if self.zeros is not None and zeros_for(self.geometry, input) != self.zeros:
            rows, columns = input.shape[2:]
            raise BadInput(
                f"{self.site.name} pads by its input's size, and its branches were made for another than "
                f"{rows}x{columns}; expand with an example of the size that the network gets."
            )
        padded_NCHW = pad_once(input, self.geometry)
        first, *others = self.branches.values()
        output_NCHW: Tensor = first(padded_NCHW)
        for branch in others:
            output_NCHW = output_NCHW + branch(padded_NCHW)
        normed_NCHW: Tensor = self.after(output_NCHW)
        return normed_NCHW

    def parts(self) -> dict[str, Branch]:
        """Return the branches by name, as what they promise."""
        return dict(self.branches.items())  # type: ignore[arg-type]

    def folded(self) -> Affine:
        """Return the one kernel and bias of all branches, in float64."""
        weights, biases = zip(*(branch.folded() for branch in self.parts().values()), strict=True)
        weight_OIKK, bias_O = torch.stack(weights).sum(0), torch.stack(biases).sum(0)
        if self.after is not self.last_norm:
            return weight_OIKK, bias_O
        return follow_by_norm(weight_OIKK, bias_O, *scale_shift(self.last_norm))

    @property
    def last_norm(self) -> Norm:
        """The norm in the place of the convolution's own: after the sum, or else the first branch's."""
        norm = next(iter(self.branches.values())).norm if isinstance(self.after, nn.Identity) else self.after
        assert isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
        return norm


class ModeType(NamedTuple):
    """How a site's branches and the norm after their sum are made, and how new branches are silenced."""

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
    """Return what `expand` would do; the network is left alone.

    `where` is "all", a kernel size such as "3x3" (rows x columns), or a pattern of names such as "layer1.*". The
    example gives a shape; without one the least image that the network takes is found. A copy of the network is
    expanded and run, in eval mode and in training: a site where that shows is skipped, with its reason.
    """
    if block not in BLOCKS:
        raise BadInput(f"'{block}' is no block; there are {', '.join(BLOCKS)}.{did_you_mean(block, BLOCKS)}")
    if any(isinstance(module, MultiBranchConv) for module in model.modules()):
        raise BadInput("the network is expanded already; fold it before it is expanded another way.")
    pairing = pair_convs_with_norms(model, example_NCHW)
    sites = []
    for name, conv in model.named_modules():
        if isinstance(conv, _ConvNd):
            norm = pairing.norm_of.get(name)
            lone = pairing.lone_convs.get(name)
            if norm is None or lone is not None or not isinstance(conv, nn.Conv2d):
                sites.append(SitePlan(name, skipped=lone or "it is the whole network"))
            else:
                planned = plan_site(model, name, norm, conv, block, where)
                sites.append(replace(planned, zeros=pairing.zeros_of.get(name)))
    return _without_the_unfit(ExpansionPlan(block, tuple(sites)), pairing, mode)


def _without_the_unfit(plan: ExpansionPlan, pairing: Pairing, mode: Mode) -> ExpansionPlan:
    """Return the plan without the sites where the network would not be the one it was."""
    if not plan.expanded or pairing.watched is None:
        return plan
    training, reasons, untried = in_training(pairing)
    wanted = {site.site: site for site in plan.expanded if site.site not in reasons}

    def change(model: nn.Module, conv: str, _: str) -> None:
        _expand_site(model, wanted[conv], "exact", mode)

    passes = [pairing.watched] if training is None else [pairing.watched, training]
    norm_of = {name: pairing.norm_of[name] for name in wanted}
    with drawing_alike():  # the weights of the copy are drawn, too
        reasons.update(unfit(passes, norm_of, change))
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
    """Give the network's convolutions their branches, in place, and return what was done.

    With `mode="branch"` every branch is a convolution with a batch norm; with "online" the kernels are summed
    before one convolution. With `init="exact"` the network computes the same function as before, in training
    and in eval mode: what each new branch is scaled by starts at zero. With "standard" the new branches start
    at full strength, as the papers train. New weights are drawn from torch's global generator. Where the padding
    of a convolution follows from the size of its input, the branches pad as it did on the example, and refuse an
    input that it pads otherwise. A site where the function would not stay the same is skipped; a frozen one, too.
    That is judged by a pass in eval mode and one in training, or three where the network draws: what it does by
    its images' values or size alone need not show in them. `untried` in the plan says where training mode fails.

    In mode "branch" the convolution's branch of "qarepvgg" has a norm, and one follows the sum: in training, a
    channel whose variance in the batch is no more than their eps is another function with `init="exact"` too.

    Gradient checkpointing runs a block twice a step. The border of a 1x1-KxK branch ("dbb", mode "branch") is made
    of running statistics, which the first run has moved by then: its gradients are another's. Mode "online" has no
    such border, nor have the other blocks.
    """
    if mode not in get_args(Mode):
        raise BadInput(f"'{mode}' is no mode of expand; there are {', '.join(get_args(Mode))}.")
    if init not in get_args(Init):
        raise BadInput(f"'{init}' is no init of expand; there are {', '.join(get_args(Init))}.")
    plan = plan_expansion(model, block, where, example_NCHW, mode)
    if not plan.expanded:
        reasons = "; ".join(plan.lines()[:3]) or "it has no convolutions"
        raise BadInput(
            f"expand finds no site for '{block}' at '{where}' in {type(model).__name__}: {reasons}. "
            "A network without convolutions that batch norms follow trains as it is: train.expand.block: none."
        )
    for site in plan.expanded:
        _expand_site(model, site, init, mode)
    return plan


def _expand_site(model: nn.Module, site: SitePlan, init: Init, mode: Mode) -> None:
    """Put the branches at the convolution's place, and at the norm's place what the norm had inside."""
    assert site.norm is not None
    conv, norm = model.get_submodule(site.site), model.get_submodule(site.norm)
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
    place = SiteId(site.site)
    block = MultiBranchConv(place, conv, norm, site.branches, mode, site.zeros)
    block.to(conv.weight.device, conv.weight.dtype).train(model.training)
    _give_norms_the_dtype(block, norm)  # before they get numbers, which would be rounded
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
    model.set_submodule(site.norm, NormTail(norm, place).train(model.training))


def _give_norms_the_dtype(block: nn.Module, norm: Norm) -> None:
    """Make the norms inside as precise as the one whose place they take; its convolution may be less so."""
    assert norm.running_mean is not None
    for module in block.modules():
        if isinstance(module, _BatchNorm):
            module.to(norm.running_mean.dtype)


def _numbered(names: tuple[str, ...]) -> dict[str, str]:
    """Return the names under keys that tell a repeated one's copies apart: full, full_copy1, full_copy2."""
    copies = [names[:place].count(name) for place, name in enumerate(names)]
    return {f"{name}_copy{copy}" if copy else name: name for name, copy in zip(names, copies, strict=True)}

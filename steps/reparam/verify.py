"""Whether a changed network is still the one it was: one pass in each mode decides, and names the sites at fault.

At each site the layers that were there compute beside what stands there now, on what reaches it; what they return
goes on through the network, so that no rounding adds up and each site is judged by itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steps.reparam.custom_layers import same
from steps.reparam.norms import apply_in_its_mode
from steps.tracing.copies import copied
from steps.tracing.outputs import tensors_of
from steps.tracing.randomness import drawing_alike
from steps.tracing.watch import Watched, the_input

Change = Callable[[nn.Module, str, str], None]  # what is done, in place, to a convolution and its norm, by name
SAME = 1e-4  # of a site's largest output, in float32; another function is off by more
IN_TRAINING = 1e-2  # a norm after a norm shows its eps: 1e-3 of a site's largest output
LOUD = 300  # times eps: in training, a channel of less variance shows a norm's eps more than what is computed
BROKEN = "what would stand in its place"  # how a reason begins that is a fault of our own
SOMEWHERE = ""  # the site of a fault that no site can be blamed for


@dataclass
class _Site:
    """What one pass shows of one site."""

    expected: Tensor | None = None  # by the layers that were there
    judged_C: Tensor | None = None  # the channels that are compared
    returned: Tensor | None = None  # by what stands in the convolution's place
    calls: int = 0
    inside: bool = False  # it is computing
    reason: str | None = None


def unfit(passes: Sequence[Watched], norm_of: Mapping[str, str], change: Change) -> dict[str, str]:
    """Return the convolutions that cannot be changed, each with its reason; the others can, all together.

    `passes` are the network in each mode that it must stay the same in. Where no site can be blamed for a fault,
    the sites are tried by halves.
    """
    if not norm_of:
        return {}
    found = _tried(passes, norm_of, change)
    if SOMEWHERE in found:
        reason = found[SOMEWHERE]
        half = len(norm_of) // 2
        pairs = list(norm_of.items())
        found = (
            {**unfit(passes, dict(pairs[:half]), change), **unfit(passes, dict(pairs[half:]), change)}
            if half
            else {}
        )
        found = found or dict.fromkeys(norm_of, reason)  # it is alone, or each half is right without the other
    left = {conv: norm for conv, norm in norm_of.items() if conv not in found}
    return {**found, **unfit(passes, left, change)} if found else {}


def _tried(passes: Sequence[Watched], norm_of: Mapping[str, str], change: Change) -> dict[str, str]:
    """Change a copy, and return the sites at fault; none: it is the same network in each pass."""
    changed = copied(passes[0].network)
    found = {}
    for conv, norm in norm_of.items():
        try:
            change(changed, conv, norm)
        except Exception as fault:  # whatever a layer of one's own raises
            found[conv] = f"it cannot be taken apart: {_said(fault)}"
    for one in passes:
        with torch.set_grad_enabled(one.gradients):
            found = found or _compared(one, changed.train(one.network.training), norm_of)
    return found


def _compared(one: Watched, changed: nn.Module, norm_of: Mapping[str, str]) -> dict[str, str]:
    """Return the sites that differ in one pass."""
    sites = {conv: _Site() for conv in norm_of}
    within = IN_TRAINING if one.network.training else SAME
    handles = []
    for conv, norm in norm_of.items():
        block, tail = changed.get_submodule(conv), changed.get_submodule(norm)
        before, after = one.network.get_submodule(conv), one.network.get_submodule(norm)
        handles.append(block.register_forward_pre_hook(_expecting(sites[conv], before, after), with_kwargs=True))
        handles.append(block.register_forward_hook(_returning(sites[conv])))
        handles.append(tail.register_forward_pre_hook(_comparing(sites[conv], within), with_kwargs=True))
    try:
        with drawing_alike():
            outputs = tensors_of(changed(one.images_NCHW.clone()))
    except Exception as fault:  # whatever a network raises that misses something
        broken = {conv: f"{BROKEN} fails: {_said(fault)}" for conv, site in sites.items() if site.inside}
        return broken or _blamed(fault, changed, norm_of)
    finally:
        for handle in handles:
            handle.remove()
    found = {conv: why for conv, site in sites.items() if (why := _fault(site, one.seen.calls.get(conv, 0)))}
    if not found and not _all_same(one.seen.outputs, outputs, within) and _is_a_function(one):
        found = {SOMEWHERE: f"without it {_mode(one)} the network's outputs are others"}
    return found


def _expecting(site: _Site, conv: nn.Module, norm: nn.Module) -> Any:
    def expect(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        site.calls += 1
        given = the_input(inputs, keywords)
        assert given is not None and isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
        convolved_NCHW = conv(given)
        site.expected = apply_in_its_mode(norm, convolved_NCHW)
        variance_C = convolved_NCHW.var((0, 2, 3), correction=0)
        site.judged_C = variance_C > (LOUD * norm.eps if norm.training else -1)
        site.inside = True

    return expect


def _returning(site: _Site) -> Any:
    def returned(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        site.returned, site.inside = output, False

    return returned


def _comparing(site: _Site, within: float) -> Any:
    def compare(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if site.expected is None or the_input(inputs, keywords) is not site.returned:
            return None
        expected = site.expected
        site.expected = None  # taken: what is left at the end never reached the norm's place
        if not expected.isfinite().all():
            site.reason = "what it computes of random images is not finite"
        elif not _agree(expected, site, within):
            site.reason = f"{BROKEN} computes something else"
        site.returned = None
        return (expected,), {}

    return compare


def _agree(expected: Tensor, site: _Site, within: float) -> bool:
    if site.returned is None or site.returned.shape != expected.shape:
        return False
    return same(expected[:, site.judged_C], site.returned[:, site.judged_C], within)


def _fault(site: _Site, calls: int) -> str | None:
    if site.calls != calls:
        return "the network keeps it under another name too, and calls it there"
    if site.expected is not None:
        return "the network keeps its norm under another name too, and calls it there"
    return site.reason


def _blamed(fault: Exception, changed: nn.Module, norm_of: Mapping[str, str]) -> dict[str, str]:
    """Return the site whose attribute the network asked for and did not find."""
    asked = getattr(fault, "obj", None)
    for conv, norm in norm_of.items():
        if isinstance(fault, AttributeError) and asked in (
            changed.get_submodule(conv),
            changed.get_submodule(norm),
        ):
            of = conv if asked is changed.get_submodule(conv) else norm
            return {conv: f"the network reads {of}.{fault.name}"}
    return {SOMEWHERE: f"the network does not run without it: {_said(fault)}"}


def _is_a_function(one: Watched) -> bool:
    """Whether the network returns the same on the same images; one that draws by itself cannot be compared."""
    with drawing_alike():
        return _all_same(one.seen.outputs, tensors_of(one.network(one.images_NCHW.clone())), SAME)


def _all_same(expected: list[Tensor], given: list[Tensor], within: float) -> bool:
    return len(expected) == len(given) and all(
        same(one.float(), other.float(), within) for one, other in zip(expected, given, strict=True)
    )


def _mode(one: Watched) -> str:
    return "in training" if one.network.training else "in eval mode"


def _said(fault: Exception) -> str:
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:120]}"

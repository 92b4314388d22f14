"""Verify that a changed network computes the same function, with one pass in each mode, and find the wrong sites.

At each site the original layers and their replacement run on the same input. The output of the original layers
then goes on through the network. So rounding does not add up, and each site is judged alone.
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
from steps.tracing.randomness import fixed_draws
from steps.tracing.watch import Watched, the_input

Change = Callable[[nn.Module, str, str], None]  # changes, in place, the convolution and the norm with these names
SAME = 1e-4  # relative to a site's largest output, in float32; another function differs by more
IN_TRAINING = 1e-2  # the eps of a norm after a norm changes the output by 1e-3 of a site's largest output
LEAST_VARIANCE = 300  # times eps: in training, a norm's eps dominates the output of a channel with less variance
BROKEN = "its replacement"  # the beginning of each reason that is a fault of this package
NO_SITE = ""  # the key of a fault that cannot be attributed to a site


@dataclass
class _Site:
    """The record of one site in one pass."""

    expected: Tensor | None = None  # the output of the original layers
    judged_C: Tensor | None = None  # the channels to compare
    returned: Tensor | None = None  # the output of the convolution's replacement
    calls: int = 0
    inside: bool = False  # the replacement is running
    reason: str | None = None


def find_unchangeable(passes: Sequence[Watched], norm_of: Mapping[str, str], change: Change) -> dict[str, str]:
    """Return convolution -> reason for the convolutions that cannot be changed; all others can change together.

    `passes` are the passes, one in each mode, in which the network must stay the same. If a fault cannot be
    attributed to a site, each half of the sites is tried alone.
    """
    if not norm_of:
        return {}
    found = _try_change(passes, norm_of, change)
    if NO_SITE in found:
        reason = found[NO_SITE]
        half = len(norm_of) // 2
        pairs = list(norm_of.items())
        found = (
            {
                **find_unchangeable(passes, dict(pairs[:half]), change),
                **find_unchangeable(passes, dict(pairs[half:]), change),
            }
            if half
            else {}
        )
        found = found or dict.fromkeys(norm_of, reason)  # a single site, or only both halves together are wrong
    left = {conv: norm for conv, norm in norm_of.items() if conv not in found}
    return {**found, **find_unchangeable(passes, left, change)} if found else {}


def _try_change(passes: Sequence[Watched], norm_of: Mapping[str, str], change: Change) -> dict[str, str]:
    """Change a copy, and return site -> reason for the wrong sites; empty if every pass gives the same outputs."""
    changed = copied(passes[0].network)
    found = {}
    for conv, norm in norm_of.items():
        try:
            change(changed, conv, norm)
        except Exception as fault:  # a custom layer may raise anything
            found[conv] = f"it cannot be replaced: {_short(fault)}"
    for watched in passes:
        with torch.set_grad_enabled(watched.gradients):
            found = found or _compare(watched, changed.train(watched.network.training), norm_of)
    return found


def _compare(watched: Watched, changed: nn.Module, norm_of: Mapping[str, str]) -> dict[str, str]:
    """Return site -> reason for the sites that differ in one pass."""
    sites = {conv: _Site() for conv in norm_of}
    within = IN_TRAINING if watched.network.training else SAME
    handles = []
    for conv, norm in norm_of.items():
        block, tail = changed.get_submodule(conv), changed.get_submodule(norm)
        before, after = watched.network.get_submodule(conv), watched.network.get_submodule(norm)
        handles.append(block.register_forward_pre_hook(_expecting(sites[conv], before, after), with_kwargs=True))
        handles.append(block.register_forward_hook(_returning(sites[conv])))
        handles.append(tail.register_forward_pre_hook(_comparing(sites[conv], within), with_kwargs=True))
    try:
        with fixed_draws():
            outputs = tensors_of(changed(watched.images_NCHW.clone()))
    except Exception as fault:  # a network with a missing layer may raise anything
        broken = {conv: f"{BROKEN} fails: {_short(fault)}" for conv, site in sites.items() if site.inside}
        return broken or _attribute(fault, changed, norm_of)
    finally:
        for handle in handles:
            handle.remove()
    found = {conv: why for conv, site in sites.items() if (why := _fault(site, watched.seen.calls.get(conv, 0)))}
    if not found and not _all_same(watched.seen.outputs, outputs, within) and _is_deterministic(watched):
        found = {NO_SITE: f"replacing it changes the network's outputs {_mode(watched)}"}
    return found


def _expecting(site: _Site, conv: nn.Module, norm: nn.Module) -> Any:
    def expect(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        site.calls += 1
        conv_input = the_input(inputs, keywords)
        assert conv_input is not None and isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
        convolved_NCHW = conv(conv_input)
        site.expected = apply_in_its_mode(norm, convolved_NCHW)
        variance_C = convolved_NCHW.var((0, 2, 3), correction=0)
        site.judged_C = variance_C > (LEAST_VARIANCE * norm.eps if norm.training else -1)
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
        site.expected = None  # a tensor that is still here after the pass has not reached the norm's replacement
        if not expected.isfinite().all():
            site.reason = "its output for random images is not finite"
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
        return "the network does not call its replacement; the network may keep the convolution under another name"
    if site.expected is not None:
        return "the network does not call its norm's replacement; the network may keep the norm under another name"
    return site.reason


def _attribute(fault: Exception, changed: nn.Module, norm_of: Mapping[str, str]) -> dict[str, str]:
    """Return site -> reason for the site whose missing attribute the network reads, else NO_SITE -> reason."""
    owner = getattr(fault, "obj", None)
    for conv, norm in norm_of.items():
        if isinstance(fault, AttributeError) and owner in (
            changed.get_submodule(conv),
            changed.get_submodule(norm),
        ):
            name = conv if owner is changed.get_submodule(conv) else norm
            return {conv: f"the network reads {name}.{fault.name}"}
    return {NO_SITE: f"the network does not run without it: {_short(fault)}"}


def _is_deterministic(watched: Watched) -> bool:
    """Return whether the network gives the same outputs for the same images; else outputs are not comparable."""
    with fixed_draws():
        return _all_same(watched.seen.outputs, tensors_of(watched.network(watched.images_NCHW.clone())), SAME)


def _all_same(expected: list[Tensor], actual: list[Tensor], within: float) -> bool:
    return len(expected) == len(actual) and all(
        same(one.float(), other.float(), within) for one, other in zip(expected, actual, strict=True)
    )


def _mode(watched: Watched) -> str:
    return "in training" if watched.network.training else "in eval mode"


def _short(fault: Exception) -> str:
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:120]}"

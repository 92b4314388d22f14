"""The proof that two networks are the same function: outputs compared site by site and as a whole."""

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from steps.reparam.expand import MultiBranchConv
from steps.reparam.geometry import geometry_of
from steps.reparam.library_blocks import judged_blocks, library_blocks
from steps.reparam.norms import apply_norm
from steps.reparam.pairing import pair_convs_with_norms
from steps.reparam.probe import largest_error
from steps.reparam.sites import blocks_and_tails
from steps.reports.certificate import CertificateRow, CertifiedPrecision, ProbeKind
from steps.tracing.copies import copied
from steps.tracing.flow import called_modules
from steps.tracing.outputs import taken_apart

WHOLE = "whole network"
DTYPES: dict[CertifiedPrecision, torch.dtype] = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


def certify(
    multi_branch: nn.Module,
    plain: nn.Module,
    probes_NCHW: Tensor,
    seed: int,
    bounds: Mapping[CertifiedPrecision, float],
) -> tuple[CertificateRow, ...]:
    """Return every comparison of the two networks, the worst first; whoever asked judges them.

    `plain` comes in float64, not yet rounded: the fp64 rows show the algebra, the fp32 rows what will ship. In
    half a precision the plain network alone is rounded: two roundings would hide each other. `bounds` says
    which precisions are asked for. `probes_NCHW` are real images, normalised; as many random ones are drawn
    from the seed. A site (a convolution with its norm, a library's block) sees what reaches it of the real
    images, and random numbers of that shape; one that none of them reaches sees random numbers alone. An error is
    the largest absolute difference over the largest absolute output, and None when it is not finite or there is no
    output to compare.
    """
    rows: list[CertificateRow] = []
    sites = _sites(multi_branch, plain, probes_NCHW)
    for precision, bound in bounds.items():
        dtype = DTYPES[precision]
        of_reference = torch.float64 if dtype.itemsize < 4 else dtype
        reference = copied(multi_branch).to(of_reference).eval()
        candidate = copied(plain).to(dtype).eval()
        generator = torch.Generator().manual_seed(seed)
        errors = _compare(reference, candidate, sites, probes_NCHW.to(of_reference), generator)
        for (site, probes), error in errors.items():
            rows.append(CertificateRow(site=site, precision=precision, probes=probes, error=error, bound=bound))
    return worst_first(rows)


def worst_first(rows: Iterable[CertificateRow]) -> tuple[CertificateRow, ...]:
    """Return the comparisons by their error's share of its bound, the largest first."""
    return tuple(sorted(rows, key=_badness))


def exceeds(row: CertificateRow) -> bool:
    """Whether a comparison fails its bound; one that is not finite fails."""
    return row.error is None or row.error > row.bound


def relative_error(reference: Tensor, candidate: Tensor) -> float | None:
    """Return the largest absolute difference over the largest absolute output; None if it is not finite."""
    error = largest_error(reference, candidate)
    return error if error < math.inf else None


@torch.no_grad()
def _compare(
    reference: nn.Module,
    candidate: nn.Module,
    sites: dict[str, str | None],
    real_NCHW: Tensor,
    generator: torch.Generator,
) -> dict[tuple[str, ProbeKind], float | None]:
    """Return (site, kind of probes) -> error; the sites' real inputs are met on the way through the network."""
    errors: dict[tuple[str, ProbeKind], float | None] = {}

    def note(site: str, kind: ProbeKind, expected: Any, given: Any) -> None:
        error = _largest_error(expected, given)
        before = errors.get((site, kind), 0.0)
        errors[site, kind] = None if error is None or before is None else max(error, before)

    def look(site: str, norm: str | None) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            other = candidate.get_submodule(site)
            real = (inputs, keywords)
            kinds: dict[ProbeKind, Any] = {"real": real, "random": _random(real, generator)}
            for kind, probes in kinds.items():
                (one, ones), (two, twos) = _cast(probes, reference), _cast(probes, candidate)
                # forward, not the module itself: this hook must not be called by its own call
                expected = _after_norm(reference, norm, module.forward(*one, **ones))
                note(site, kind, expected, _after_norm(candidate, norm, other(*two, **twos)))

        return hook

    handles = [
        reference.get_submodule(site).register_forward_pre_hook(look(site, norm), with_kwargs=True)
        for site, norm in sites.items()
    ]
    expected = reference(*_cast((real_NCHW,), reference))
    for handle in handles:
        handle.remove()
    note(WHOLE, "real", expected, candidate(*_cast((real_NCHW,), candidate)))
    random = _random((real_NCHW,), generator)
    note(WHOLE, "random", reference(*_cast(random, reference)), candidate(*_cast(random, candidate)))
    for site in sites.keys() - {site for site, _ in errors}:
        errors[site, "random"] = _alone(reference, candidate, site, sites[site], generator)
    return errors


def _alone(
    reference: nn.Module, candidate: nn.Module, site: str, norm: str | None, generator: torch.Generator
) -> float | None:
    """Return the error of a site that no probe reaches, on random numbers; None for a library's block.

    What a network computes for some images alone would otherwise pass unseen.
    """
    module = reference.get_submodule(site)
    if not isinstance(module, nn.Conv2d | MultiBranchConv):
        return None  # what it takes is not known
    geometry = geometry_of(module) if isinstance(module, nn.Conv2d) else module.geometry
    side = 32 * max(geometry.stride) + max(
        dilation * kernel for dilation, kernel in zip(geometry.dilation, geometry.kernel, strict=True)
    )
    drawn = torch.randn(2, geometry.in_channels, side, side, generator=generator, dtype=torch.float64)
    given = _cast((drawn.to(next(reference.parameters()).device),), reference)
    expected = _after_norm(reference, norm, module(*given))
    return _largest_error(
        expected, _after_norm(candidate, norm, candidate.get_submodule(site)(*_cast(given, candidate)))
    )


def _sites(multi_branch: nn.Module, plain: nn.Module, probes_NCHW: Tensor) -> dict[str, str | None]:
    """Return site -> the place of its norm: multi-branch sites and plain convolutions; None: a library's block."""
    blocks = library_blocks(multi_branch)
    called = called_modules(copied(plain).eval(), *_cast((probes_NCHW,), plain)) if blocks else []
    own = {name: tail_name for name, _, tail_name, _ in blocks_and_tails(multi_branch)}
    usual = pair_convs_with_norms(multi_branch, probes_NCHW).norm_of
    inside = tuple(f"{name}." for name in (*own, *blocks))
    pairs = {**own, **usual}
    return {
        **dict.fromkeys(judged_blocks(multi_branch, called)),
        **{conv: norm for conv, norm in pairs.items() if conv not in blocks and not conv.startswith(inside)},
    }


def _largest_error(expected: Any, given: Any) -> float | None:
    """Return the largest relative error among all outputs of a module.

    None where there is none to compare, where they are in other containers or under other names, or where what is
    no number differs.
    """
    (wanted, structure), (found, other) = taken_apart(expected), taken_apart(given)
    if structure != other or not any(isinstance(leaf, Tensor) and leaf.numel() for leaf in wanted):
        return None
    errors = [_leafs_error(one, another) for one, another in zip(wanted, found, strict=True)]
    return None if None in errors else max(filter(None, errors), default=0.0)


def _leafs_error(expected: Any, given: Any) -> float | None:
    """Return the relative error of one leaf: a tensor, a number, or a word, which is the same or is not."""
    if isinstance(expected, Tensor) and isinstance(given, Tensor):
        return relative_error(expected, given)
    if type(expected) is not type(given):
        return None
    if isinstance(expected, float):
        return relative_error(*(torch.tensor(value, dtype=torch.float64) for value in (expected, given)))
    return None if isinstance(expected, int | str) and expected != given else 0.0


def _after_norm(model: nn.Module, norm_name: str | None, output: Any) -> Any:
    """Return a convolution's output through its batch norm, where there still is one, before any activation."""
    norm = None if norm_name is None else model.get_submodule(norm_name)
    if isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
        return apply_norm(norm, output)
    return output


def _cast(inputs: tuple[Any, ...], model: nn.Module) -> tuple[Any, ...]:
    """Return the inputs in the network's precision, copied: a module may work in place."""
    numbers = filter(_is_float, itertools.chain(model.parameters(), model.buffers()))
    dtype = next((number.dtype for number in numbers), None)  # a network without numbers takes any
    cast: tuple[Any, ...] = tree_map(lambda leaf: leaf.clone().to(dtype) if _is_float(leaf) else leaf, inputs)
    return cast


def _random(inputs: tuple[Any, ...], generator: torch.Generator) -> tuple[Any, ...]:
    """Return normal numbers of these shapes; drawn in float64, so that all precisions see the same ones."""

    def drawn(leaf: Any) -> Any:
        if not _is_float(leaf):
            return leaf
        return torch.randn(leaf.shape, generator=generator, dtype=torch.float64).to(leaf.device)

    random: tuple[Any, ...] = tree_map(drawn, inputs)
    return random


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _badness(row: CertificateRow) -> tuple[float, str, str, str]:
    share = float("inf") if row.error is None else row.error / row.bound
    return -share, row.site, row.precision, row.probes

"""The proof that two networks compute the same function: outputs are compared as a whole and at each site."""

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
from steps.tracing.outputs import leaves_and_structure

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
    """Return every comparison of the two networks, the worst first; the caller judges the rows.

    `plain` must be in float64 and not yet rounded: the fp64 rows test the algebra, the fp32 rows the precision
    that is shipped. In fp16 and bf16 only the plain network is rounded, because two roundings could hide each
    other. `bounds` names the precisions to compare. `probes_NCHW` are real, normalised images; the seed draws the
    same number of random images. A site is a convolution with its norm, or a library's block. Each site is
    compared on the features that the real images give there, and on random numbers of the same shape. A site that
    no image reaches is compared on random numbers only. An error is the largest absolute difference over the
    largest absolute output. An error is None when it is not finite or when there is no output to compare.
    """
    rows: list[CertificateRow] = []
    sites = _sites(multi_branch, plain, probes_NCHW)
    for precision, bound in bounds.items():
        dtype = DTYPES[precision]
        reference_dtype = torch.float64 if dtype.itemsize < 4 else dtype
        reference = copied(multi_branch).to(reference_dtype).eval()
        candidate = copied(plain).to(dtype).eval()
        generator = torch.Generator().manual_seed(seed)
        errors = _compare(reference, candidate, sites, probes_NCHW.to(reference_dtype), generator)
        for (site, probes), error in errors.items():
            rows.append(CertificateRow(site=site, precision=precision, probes=probes, error=error, bound=bound))
    return worst_first(rows)


def worst_first(rows: Iterable[CertificateRow]) -> tuple[CertificateRow, ...]:
    """Return the comparisons sorted by error / bound, the largest first."""
    return tuple(sorted(rows, key=_worst_first_key))


def exceeds(row: CertificateRow) -> bool:
    """Return whether the error of a comparison is above its bound or not finite."""
    return row.error is None or row.error > row.bound


def relative_error(reference: Tensor, candidate: Tensor) -> float | None:
    """Return the largest absolute difference over the largest absolute output, or None if not finite."""
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
    """Return (site, kind of probes) -> error; hooks compare each site while the reference network runs."""
    errors: dict[tuple[str, ProbeKind], float | None] = {}

    def record(site: str, kind: ProbeKind, expected: Any, actual: Any) -> None:
        error = _largest_error(expected, actual)
        before = errors.get((site, kind), 0.0)
        errors[site, kind] = None if error is None or before is None else max(error, before)

    def comparing(site: str, norm: str | None) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            replacement = candidate.get_submodule(site)
            real = (inputs, keywords)
            kinds: dict[ProbeKind, Any] = {"real": real, "random": _random(real, generator)}
            for kind, probes in kinds.items():
                (inputs_1, keywords_1), (inputs_2, keywords_2) = _cast(probes, reference), _cast(probes, candidate)
                # module.forward calls no hooks; calling the module would call this hook again
                expected = _after_norm(reference, norm, module.forward(*inputs_1, **keywords_1))
                record(site, kind, expected, _after_norm(candidate, norm, replacement(*inputs_2, **keywords_2)))

        return hook

    handles = [
        reference.get_submodule(site).register_forward_pre_hook(comparing(site, norm), with_kwargs=True)
        for site, norm in sites.items()
    ]
    expected = reference(*_cast((real_NCHW,), reference))
    for handle in handles:
        handle.remove()
    record(WHOLE, "real", expected, candidate(*_cast((real_NCHW,), candidate)))
    random = _random((real_NCHW,), generator)
    record(WHOLE, "random", reference(*_cast(random, reference)), candidate(*_cast(random, candidate)))
    for site in sites.keys() - {site for site, _ in errors}:
        errors[site, "random"] = _error_of_unreached(reference, candidate, site, sites[site], generator)
    return errors


def _error_of_unreached(
    reference: nn.Module, candidate: nn.Module, site: str, norm: str | None, generator: torch.Generator
) -> float | None:
    """Return the error on random numbers of a site that no probe reaches; None for a library's block.

    A network may run a site for some images only; without this comparison, such a site would not be checked.
    """
    module = reference.get_submodule(site)
    if not isinstance(module, nn.Conv2d | MultiBranchConv):
        return None  # the shape of a block's input is not known
    geometry = geometry_of(module) if isinstance(module, nn.Conv2d) else module.geometry
    side = 32 * max(geometry.stride) + max(
        dilation * kernel for dilation, kernel in zip(geometry.dilation, geometry.kernel, strict=True)
    )
    drawn = torch.randn(2, geometry.in_channels, side, side, generator=generator, dtype=torch.float64)
    inputs = _cast((drawn.to(next(reference.parameters()).device),), reference)
    expected = _after_norm(reference, norm, module(*inputs))
    return _largest_error(
        expected, _after_norm(candidate, norm, candidate.get_submodule(site)(*_cast(inputs, candidate)))
    )


def _sites(multi_branch: nn.Module, plain: nn.Module, probes_NCHW: Tensor) -> dict[str, str | None]:
    """Return site -> path of its norm, for multi-branch sites and plain convolutions; None for library blocks."""
    blocks = library_blocks(multi_branch)
    called = called_modules(copied(plain).eval(), *_cast((probes_NCHW,), plain)) if blocks else []
    expanded = {name: tail_name for name, _, tail_name, _ in blocks_and_tails(multi_branch)}
    plain_pairs = pair_convs_with_norms(multi_branch, probes_NCHW).norm_of
    inside = tuple(f"{name}." for name in (*expanded, *blocks))
    pairs = {**expanded, **plain_pairs}
    return {
        **dict.fromkeys(judged_blocks(multi_branch, called)),
        **{conv: norm for conv, norm in pairs.items() if conv not in blocks and not conv.startswith(inside)},
    }


def _largest_error(expected: Any, actual: Any) -> float | None:
    """Return the largest relative error among all outputs of a module.

    Return None when there is no number to compare, when the containers or their keys differ, or when a leaf that
    is not a number differs.
    """
    (expected_leaves, structure), (actual_leaves, other) = (
        leaves_and_structure(expected),
        leaves_and_structure(actual),
    )
    if structure != other or not any(isinstance(leaf, Tensor) and leaf.numel() for leaf in expected_leaves):
        return None
    errors = [
        _leaf_error(leaf, other_leaf) for leaf, other_leaf in zip(expected_leaves, actual_leaves, strict=True)
    ]
    return None if None in errors else max(filter(None, errors), default=0.0)


def _leaf_error(expected: Any, actual: Any) -> float | None:
    """Return the relative error of one leaf: a tensor or a number. An integer or a string must be equal."""
    if isinstance(expected, Tensor) and isinstance(actual, Tensor):
        return relative_error(expected, actual)
    if type(expected) is not type(actual):
        return None
    if isinstance(expected, float):
        return relative_error(*(torch.tensor(value, dtype=torch.float64) for value in (expected, actual)))
    return None if isinstance(expected, int | str) and expected != actual else 0.0


def _after_norm(model: nn.Module, norm_name: str | None, output: Any) -> Any:
    """Return a convolution's output after its batch norm, if the network still has that norm; no activation."""
    norm = None if norm_name is None else model.get_submodule(norm_name)
    if isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
        return apply_norm(norm, output)
    return output


def _cast(inputs: tuple[Any, ...], model: nn.Module) -> tuple[Any, ...]:
    """Return copies of the inputs in the network's precision; a copy, because a module may work in place."""
    tensors = filter(_is_float, itertools.chain(model.parameters(), model.buffers()))
    dtype = next((tensor.dtype for tensor in tensors), None)  # a network without parameters takes any precision
    cast: tuple[Any, ...] = tree_map(lambda leaf: leaf.clone().to(dtype) if _is_float(leaf) else leaf, inputs)
    return cast


def _random(inputs: tuple[Any, ...], generator: torch.Generator) -> tuple[Any, ...]:
    """Return normal random numbers of these shapes, drawn in float64: all precisions get the same numbers."""

    def drawn(leaf: Any) -> Any:
        if not _is_float(leaf):
            return leaf
        return torch.randn(leaf.shape, generator=generator, dtype=torch.float64).to(leaf.device)

    random: tuple[Any, ...] = tree_map(drawn, inputs)
    return random


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _worst_first_key(row: CertificateRow) -> tuple[float, str, str, str]:
    share = float("inf") if row.error is None else row.error / row.bound
    return -share, row.site, row.precision, row.probes

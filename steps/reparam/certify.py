"""The proof that two networks are the same function: outputs compared site by site and as a whole."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from steps.reparam.expand import MultiBranchConv
from steps.reparam.norms import NormTail, apply_norm
from steps.reparam.pairing import pair_convs_with_norms
from steps.reports.certificate import CertificateRow

WHOLE = "whole network"
Precision = Literal["fp64", "fp32"]
Probes = Literal["random", "real"]
DTYPES: dict[Precision, torch.dtype] = {"fp64": torch.float64, "fp32": torch.float32}


def certify(
    multi_branch: nn.Module,
    plain: nn.Module,
    probes_NCHW: Tensor,
    seed: int,
    bounds: Mapping[Precision, float],
) -> tuple[CertificateRow, ...]:
    """Return every comparison of the two networks, the worst first; whoever asked judges them.

    `plain` comes in float64, not yet rounded: the fp64 rows show the algebra, the fp32 rows what will ship.
    `probes_NCHW` are real images, normalised; as many random ones are drawn from the seed. A site sees what
    reaches it of the real images, and random numbers of that shape. An error is the largest absolute
    difference over the largest absolute output, and None when it is not finite.
    """
    rows: list[CertificateRow] = []
    pairs = _pairs(multi_branch, probes_NCHW)
    for precision, dtype in DTYPES.items():
        reference = copy.deepcopy(multi_branch).eval().to(dtype)
        candidate = copy.deepcopy(plain).eval().to(dtype)
        generator = torch.Generator().manual_seed(seed)
        for site, probes, error in _compare(reference, candidate, pairs, probes_NCHW.to(dtype), generator):
            rows.append(
                CertificateRow(site=site, precision=precision, probes=probes, error=error, bound=bounds[precision])
            )
    return worst_first(rows)


def worst_first(rows: Iterable[CertificateRow]) -> tuple[CertificateRow, ...]:
    """Return the comparisons by their error's share of its bound, the largest first."""
    return tuple(sorted(rows, key=_badness))


def exceeds(row: CertificateRow) -> bool:
    """Whether a comparison fails its bound; one that is not finite fails."""
    return row.error is None or row.error > row.bound


def relative_error(reference: Tensor, candidate: Tensor) -> float | None:
    """Return the largest absolute difference over the largest absolute output; None if it is not finite."""
    if reference.shape != candidate.shape:
        return None
    expected, given = reference.detach().double(), candidate.detach().double()
    difference, largest = float((expected - given).abs().max()), float(expected.abs().max())
    error = 0.0 if difference == 0 else difference / largest if largest > 0 else float("inf")
    return error if error < float("inf") else None


@torch.no_grad()
def _compare(
    reference: nn.Module,
    candidate: nn.Module,
    pairs: dict[str, str],
    real_NCHW: Tensor,
    generator: torch.Generator,
) -> Iterator[tuple[str, Probes, float | None]]:
    """Yield (site, kind of probes, error); the sites' real inputs are met on the way through the network."""
    found: list[tuple[str, Probes, float | None]] = []

    def look(site: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
            conv = candidate.get_submodule(site)
            kinds: dict[Probes, Tensor] = {"real": inputs[0], "random": _random(inputs[0], generator)}
            for kind, probe_NCHW in kinds.items():
                # forward, not the module itself: this hook must not be called by its own call
                expected = _after_norm(reference, pairs[site], module.forward(probe_NCHW))
                given = _after_norm(candidate, pairs[site], conv(probe_NCHW))
                found.append((site, kind, relative_error(expected, given)))

        return hook

    handles = [reference.get_submodule(site).register_forward_hook(look(site)) for site in pairs]
    expected = reference(real_NCHW)
    for handle in handles:
        handle.remove()
    yield from found
    yield WHOLE, "real", relative_error(expected, candidate(real_NCHW))
    random_NCHW = _random(real_NCHW, generator)
    yield WHOLE, "random", relative_error(reference(random_NCHW), candidate(random_NCHW))


def _pairs(multi_branch: nn.Module, probes_NCHW: Tensor) -> dict[str, str]:
    """Return site -> the place of its norm, of the multi-branch sites and of plain convolutions with a norm."""
    tails = {m.site: name for name, m in multi_branch.named_modules() if isinstance(m, NormTail)}
    sites = {
        name: tails[module.site]
        for name, module in multi_branch.named_modules()
        if isinstance(module, MultiBranchConv)
    }
    inside = tuple(f"{name}." for name in sites)
    plain = pair_convs_with_norms(multi_branch, probes_NCHW).norm_of
    return {**sites, **{conv: norm for conv, norm in plain.items() if not conv.startswith(inside)}}


def _after_norm(model: nn.Module, norm_name: str, output_NCHW: Tensor) -> Tensor:
    """Return a convolution's output through its batch norm, where there still is one, before any activation."""
    norm = model.get_submodule(norm_name)
    if isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
        return apply_norm(norm, output_NCHW)
    return output_NCHW


def _random(like_NCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Return normal numbers of this shape; drawn in float64, so that both precisions see the same ones."""
    drawn = torch.randn(like_NCHW.shape, generator=generator, dtype=torch.float64)
    return drawn.to(like_NCHW.dtype).to(like_NCHW.device)


def _badness(row: CertificateRow) -> tuple[float, str, str, str]:
    share = float("inf") if row.error is None else row.error / row.bound
    return -share, row.site, row.precision, row.probes

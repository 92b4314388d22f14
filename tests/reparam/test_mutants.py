"""Each public bug, planted as a wrong fold: the certificate reports its site, and accepts the right fold."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import get_args

import pytest
import torch
from torch import nn

from steps.reparam.branches import BLOCKS
from steps.reparam.certify import certify, exceeds
from steps.reparam.expand import Mode
from steps.reparam.fold import FOLDABLE, absorb_norms, fold, norms_left
from steps.reparam.pairing import Pairing, pair_convs_with_norms
from steps.reports.certificate import CertificateRow
from tests.reparam.forgettable import expanded, library, plain_network, shared
from tests.reparam.mutants import MUTANTS

RIGHT: dict[str, Callable[[], nn.Module]] = {
    **{f"{block} {mode}": partial(expanded, block, mode) for block in BLOCKS for mode in get_args(Mode)},
    "library": library,
    "plain": plain_network,
    "shared": shared,
}


def certified(model: nn.Module, plain: nn.Module) -> tuple[CertificateRow, ...]:
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return certify(model, plain, images, seed=0, bounds={"fp64": 1e-12, "fp32": 1e-5})


@pytest.mark.parametrize("network", RIGHT)
@pytest.mark.parametrize("finish", [lambda plain: plain, absorb_norms], ids=["folded", "absorbed"])
def test_a_right_fold_is_caught_nowhere(network: str, finish: Callable[[nn.Module], nn.Module]) -> None:
    model = RIGHT[network]()
    rows = certified(model, finish(fold(model)))
    assert not any(exceeds(row) for row in rows), rows[0]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_fold_is_caught_at_its_site(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    model = mutant.make()
    plain = mutant.wrong(model, monkeypatch)
    rows = certified(mutant.make(), plain)
    caught = {row.site for row in rows if exceeds(row)}
    assert exceeds(rows[0])
    assert mutant.site in caught and "whole network" in caught


def test_a_norm_that_absorb_norms_forgets_is_listed_as_one_that_could_be_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = fold(expanded("acb"))
    assert FOLDABLE not in norms_left(absorb_norms(plain)).values()

    def without_one(model: nn.Module, example_NCHW: torch.Tensor | None = None) -> Pairing:
        pairing = pair_convs_with_norms(model, example_NCHW)
        return replace(pairing, norm_of={conv: n for conv, n in pairing.norm_of.items() if conv != "grouped"})

    with monkeypatch.context() as forgetful:
        forgetful.setattr("steps.reparam.fold.pair_convs_with_norms", without_one)
        absorbed = absorb_norms(plain)
    assert not any(exceeds(row) for row in certified(expanded("acb"), absorbed)), "it is the same function"
    assert norms_left(absorbed)["norm_of_grouped"] == FOLDABLE  # so fuse refuses it

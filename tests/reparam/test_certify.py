"""A right fold gets a certificate in every requested precision; test_mutants tests the wrong folds."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steps.reparam.certify import WHOLE, certify, exceeds, relative_error
from steps.reparam.expand import MultiBranchConv, expand
from steps.reparam.fold import absorb_norms, fold
from steps.reports.certificate import CertificateRow, CertifiedPrecision
from steps.tracing.copies import copied
from tests.reparam.networks import SmallNet, randomise
from tests.reparam.own_networks import Own

BOUNDS = {"fp64": 1e-12, "fp32": 1e-5}


def expanded(block: str = "repvgg") -> nn.Module:
    torch.manual_seed(0)
    model = SmallNet()
    expand(model, block)
    return randomise(model)


def certified(model: nn.Module, plain: nn.Module, seed: int = 0) -> tuple[CertificateRow, ...]:
    images = torch.randn(3, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    return certify(model, plain, images, seed, bounds=BOUNDS)  # type: ignore[arg-type]


def folded(model: nn.Module) -> SmallNet:
    plain = fold(copy_of(model).double())
    assert isinstance(plain, SmallNet)
    return plain


def copy_of(model: nn.Module) -> nn.Module:
    twin = SmallNet()
    expand(twin, "repvgg")
    twin.load_state_dict(model.state_dict())
    return twin.eval()


@pytest.mark.parametrize("finish", [lambda plain: plain, absorb_norms], ids=["folded", "absorbed"])
def test_a_right_fold_holds_every_bound(finish: Callable[[nn.Module], nn.Module]) -> None:
    model = expanded()
    rows = certified(model, finish(folded(model)))
    assert not any(exceeds(row) for row in rows)
    assert {(row.site, row.precision, row.probes) for row in rows} == {
        (site, precision, probes)
        for site in ("conv_a", "conv_b", WHOLE)
        for precision in ("fp64", "fp32")
        for probes in ("random", "real")
    }


def test_a_plain_network_is_certified_by_its_norms() -> None:
    model = randomise(SmallNet())
    rows = certified(model, absorb_norms(randomise(SmallNet()).double()))
    torch.manual_seed(0)
    assert any(exceeds(row) for row in rows), "two networks of different weights are not the same"
    twin = SmallNet()
    twin.load_state_dict(model.state_dict())
    rows = certified(model, absorb_norms(twin.double().eval()))
    assert not any(exceeds(row) for row in rows)
    assert {row.site for row in rows} == {"conv_a", "conv_b", WHOLE}


def test_only_the_precisions_that_are_asked_for_are_certified() -> None:
    model = expanded()
    images = torch.randn(3, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    bounds: dict[CertifiedPrecision, float] = {"fp16": 0.01, "bf16": 0.1}  # a few roundings of 2^-11 and 2^-8
    rows = certify(model, folded(model), images, seed=0, bounds=bounds)
    assert {row.precision for row in rows} == {"fp16", "bf16"}
    assert not any(exceeds(row) for row in rows)
    worst = {precision: max(row.error or 0 for row in rows if row.precision == precision) for precision in bounds}
    assert 1e-5 < worst["fp16"] < worst["bf16"]  # only the plain network was rounded


def test_weights_of_half_a_precision_are_certified_as_what_they_are() -> None:
    model = expanded().half()
    plain = fold(copy.deepcopy(model).double())
    rows = certified(model, plain)
    assert not any(exceeds(row) for row in rows)
    plain.get_parameter("conv_a.weight").data.copy_(fold(model).get_parameter("conv_a.weight"))  # rounded once
    assert {row.precision for row in certified(model, plain) if exceeds(row)} == {"fp64", "fp32"}


def test_what_overflows_in_half_a_precision_is_caught() -> None:
    model = expanded()
    model.get_parameter("head.bias").data.fill_(1e5)  # the largest fp16 number is 65504
    images = torch.randn(2, 3, 20, 20)
    rows = certify(model, folded(model), images, seed=0, bounds={"fp16": 0.01})
    assert rows[0].site == WHOLE and rows[0].error is None and exceeds(rows[0])


def test_a_network_that_returns_several_outputs_is_certified() -> None:
    class Several(SmallNet):
        def forward(self, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:  # type: ignore[override]
            logits = super().forward(image)
            return logits, {"aside": self.norm_a(self.conv_a(image))}

    torch.manual_seed(0)
    model = randomise(Several())
    plain = absorb_norms(copy.deepcopy(model).double())
    assert not any(exceeds(row) for row in certified(model, plain))
    plain.get_parameter("conv_b.bias").data += 1e-3
    assert {row.site for row in certified(model, plain) if exceeds(row)} >= {"conv_b", WHOLE}


@dataclass
class Result:
    logits: Tensor


def test_a_network_that_returns_an_object_is_certified_by_what_is_in_it() -> None:
    class Wrapping(SmallNet):
        def forward(self, image: Tensor) -> Result:  # type: ignore[override]
            return Result(super().forward(image))

    torch.manual_seed(0)
    model = randomise(Wrapping())
    plain = absorb_norms(copy.deepcopy(model).double())
    assert not any(exceeds(row) for row in certified(model, plain))
    plain.get_parameter("head.weight").data *= 5
    assert {row.site for row in certified(model, plain) if exceeds(row)} == {WHOLE}


def test_where_there_is_nothing_to_compare_nothing_holds() -> None:
    class Silent(SmallNet):
        def forward(self, image: Tensor) -> None:  # type: ignore[override]
            super().forward(image)

    torch.manual_seed(0)
    model = randomise(Silent())
    rows = certified(model, absorb_norms(copy.deepcopy(model).double()))
    assert {row.site for row in rows if row.error is None} == {WHOLE} and exceeds(rows[0])


def test_a_site_hidden_behind_dead_activations_is_still_looked_at() -> None:
    model = expanded()
    with torch.no_grad():
        block = model.get_submodule("conv_a")
        assert isinstance(block, MultiBranchConv)
        block.last_norm.bias.sub_(1000)  # every relu after this norm gives zero
    plain = folded(model)
    plain.conv_b.weight.data *= 1.5
    caught = {(row.site, row.probes) for row in certified(model, plain) if exceeds(row)}
    assert caught == {("conv_b", "random")}


def test_errors_are_relative_to_the_largest_output_and_never_silent() -> None:
    assert relative_error(torch.tensor([1.0, -4.0]), torch.tensor([1.0, -3.0])) == 0.25
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0.0
    assert relative_error(torch.zeros(2), torch.ones(2)) is None
    assert relative_error(torch.ones(2), torch.tensor([1.0, torch.nan])) is None
    assert relative_error(torch.ones(2), torch.ones(3)) is None
    assert relative_error(torch.ones(0, 3), torch.ones(0, 3)) == 0.0


def test_the_seed_alone_draws_the_random_probes_and_leaves_the_real_ones() -> None:
    model = expanded()
    first, again, other = ({key(row): row.error for row in certified(model, folded(model), s)} for s in (0, 0, 1))
    assert first == again
    assert {key for key in first if first[key] != other[key]} == {key for key in first if key[2] == "random"}


def key(row: CertificateRow) -> tuple[str, str, str]:
    return row.site, row.precision, row.probes


class ForOneImageOnly(Own):
    def body(self, features: Tensor) -> Tensor:
        return super().body(features) if features.shape[0] == 1 else features


def test_a_site_that_no_probe_reaches_is_proven_by_itself() -> None:
    torch.manual_seed(0)
    model = ForOneImageOnly()
    expand(model, "acb", init="standard", example_NCHW=torch.zeros(1, 3, 16, 16))
    randomise(model)
    plain, images = fold(copied(model).double()), torch.randn(3, 3, 16, 16)
    rows = certify(model, plain, images, 0, {"fp64": 1e-12})
    assert not exceeds(rows[0]) and {row.site for row in rows} == {"stem", "conv", WHOLE}
    with torch.no_grad():
        plain.get_parameter("conv.weight").mul_(3)
    wrong = certify(model, plain, images, 0, {"fp64": 1e-12})
    assert {(row.site, row.probes) for row in wrong if exceeds(row)} == {("conv", "random")}


class Answering(nn.Module):
    """Return the given answer, in addition to the computed output."""

    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, image: Tensor) -> Any:
        return self.answer(image)


@pytest.mark.parametrize(
    ("expected", "given", "same"),
    [
        (lambda x: {"a": x, "b": x}, lambda x: {"a": x, "b": x}, True),
        (lambda x: {"a": x, "b": x}, lambda x: {"b": x, "c": x}, False),
        (lambda x: [x, (x, x)], lambda x: [x, x, x], False),
        (lambda x: Result(x), lambda x: Result([x]), False),  # type: ignore[arg-type]
        (lambda x: (x, 3.0), lambda x: (x, 3.0 + 1e-15), True),
        (lambda x: (x, 3.0), lambda x: (x, 4.0), False),
        (lambda x: (x, 3.0), lambda x: (x, 3), False),
        (lambda x: (x, 3, "cat"), lambda x: (x, 3, "dog"), False),
        (lambda x: (x, 3, True), lambda x: (x, 4, True), False),
        (lambda x: (x, x[:0]), lambda x: (x, x[:0]), True),
        (lambda x: x[:0], lambda x: x[:0], False),  # there is nothing to compare
    ],
)
def test_outputs_are_compared_with_what_they_are_in(
    expected: Callable[[Tensor], Any], given: Callable[[Tensor], Any], same: bool
) -> None:
    rows = certify(Answering(expected), Answering(given), torch.randn(2, 3, 8, 8), 0, {"fp64": 1e-12})
    assert {row.site for row in rows} == {WHOLE}
    assert same != any(exceeds(row) for row in rows)

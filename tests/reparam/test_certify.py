"""A certificate holds for a right fold and for no wrong one: each public bug is a mutant here."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from steps.reparam.certify import WHOLE, certify, exceeds, relative_error
from steps.reparam.expand import MultiBranchConv, expand
from steps.reparam.fold import absorb_norms, fold
from steps.reports.certificate import CertificateRow
from tests.reparam.networks import SmallNet, randomise

BOUNDS = {"fp64": 1e-12, "fp32": 1e-5}


def expanded(block: str = "repvgg") -> nn.Module:
    torch.manual_seed(0)
    model = SmallNet()
    expand(model, block)
    return randomise(model)


def certified(model: nn.Module, plain: nn.Module) -> tuple[CertificateRow, ...]:
    images = torch.randn(3, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    return certify(model, plain, images, seed=0, bounds=BOUNDS)  # type: ignore[arg-type]


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


def drop_branch(plain: SmallNet) -> None:
    block = expanded().get_submodule("conv_a")
    assert isinstance(block, MultiBranchConv)
    weight, bias = block.parts()["point"].folded()
    with torch.no_grad():
        plain.conv_a.weight.sub_(weight)
        plain.norm_a.bias.sub_(bias)


def wrong_eps(plain: SmallNet) -> None:
    plain.norm_a.eps *= 10


def other_pad_mode(plain: SmallNet) -> None:
    plain.conv_a = nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect", bias=False).double()
    plain.conv_a.weight.data.copy_(folded(expanded()).conv_a.weight)


def other_dilation(plain: SmallNet) -> None:
    plain.conv_a.dilation, plain.conv_a.padding = (2, 2), (2, 2)


def norm_of_another_site(plain: SmallNet) -> None:
    plain.norm_a, plain.norm_b = plain.norm_b, plain.norm_a


def transposed_kernel(plain: SmallNet) -> None:
    plain.conv_b.weight.data.copy_(plain.conv_b.weight.data.mT.clone())


def shuffled_groups(plain: SmallNet) -> None:
    plain.conv_b.weight.data.copy_(plain.conv_b.weight.data.roll(1, 0))


def identity_of_ones(plain: SmallNet) -> None:
    with torch.no_grad():
        plain.conv_a.weight[:, :, 1, 1] += 1


def not_a_number(plain: SmallNet) -> None:
    plain.norm_b.bias.data[3] = torch.nan


MUTANTS: tuple[Callable[[SmallNet], None], ...] = (
    drop_branch,
    wrong_eps,
    other_pad_mode,
    other_dilation,
    norm_of_another_site,
    transposed_kernel,
    shuffled_groups,
    identity_of_ones,
    not_a_number,
)


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda mutate: mutate.__name__)
def test_a_wrong_fold_is_caught_and_its_site_is_the_worst(
    mutate: Callable[[SmallNet], None],
) -> None:
    model = expanded()
    plain = folded(model)
    mutate(plain)
    rows = certified(model, plain)
    caught = {row.site for row in rows if exceeds(row)}
    assert exceeds(rows[0])
    assert caught & {"conv_a", "conv_b"} and WHOLE in caught


def test_a_site_hidden_behind_dead_activations_is_still_looked_at() -> None:
    model = expanded()
    with torch.no_grad():
        block = model.get_submodule("conv_a")
        assert isinstance(block, MultiBranchConv)
        block.parts()["full"].norm.bias.sub_(1000)  # every relu after it gives zero
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


def test_certificates_are_functions_of_the_seed() -> None:
    model = expanded()
    assert certified(model, folded(model)) == certified(model, folded(model))

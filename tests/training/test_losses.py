"""Losses: equal to their formulas, with gradients that finite differences confirm, finite at any logits."""

import math

import pytest
import torch
from torch import Tensor

from steps.training.losses import LOSSES

LABELS_N = torch.tensor([0, 2, 1, 2])

every_loss = pytest.mark.parametrize("name", LOSSES)


def some_logits() -> Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 2


@every_loss
def test_a_loss_is_one_number_an_image(name: str) -> None:
    assert LOSSES[name](2.0, 0.0)(some_logits(), LABELS_N).shape == (4,)


@every_loss
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_the_gradient_is_that_of_finite_differences(name: str, gamma: float) -> None:
    loss = LOSSES[name](gamma, 0.0)
    assert torch.autograd.gradcheck(lambda logits: loss(logits, LABELS_N), some_logits().requires_grad_())


@every_loss
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("scale", [0.0, 100.0, -100.0, 1e4])
def test_value_and_gradient_are_finite_however_sure_the_network_is(name: str, gamma: float, scale: float) -> None:
    logits = (torch.nn.functional.one_hot(LABELS_N, 3).float() * scale).requires_grad_()
    loss = LOSSES[name](gamma, 0.0)(logits, LABELS_N)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_its_equation(gamma: float) -> None:
    logits = some_logits()
    p = [math.exp(row[label] - torch.logsumexp(row, 0)) for row, label in zip(logits, LABELS_N, strict=True)]
    expected = [-((1 - q) ** gamma) * math.log(q) for q in p]
    assert LOSSES["focal"](gamma, 0.0)(logits, LABELS_N).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_its_equation(smoothing: float) -> None:
    log_p = torch.log_softmax(some_logits(), 1)
    target = torch.nn.functional.one_hot(LABELS_N, 3).double() * (1 - smoothing) + smoothing / 3
    expected = -(target * log_p).sum(1)
    found = LOSSES["cross_entropy"](2.0, smoothing)(some_logits(), LABELS_N)
    assert torch.allclose(found, expected, rtol=1e-12)

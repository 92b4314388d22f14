"""Losses: equal to their formulas, with gradients that finite differences confirm, finite for any logits."""

import math

import pytest
import torch
from torch import Tensor

from steps.params.train import TrainParams
from steps.training.batch import Batch
from steps.training.losses import LOSSES, CrossEntropy, Focal, Loss

LABELS_N = torch.tensor([0, 2, 1, 2])

every_loss = pytest.mark.parametrize("name", LOSSES)


def some_logits() -> Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 2


def losses(loss: Loss, logits_NK: Tensor) -> Tensor:
    return loss(logits_NK, Batch(torch.zeros(len(logits_NK), 1, 1, 3), LABELS_N))


@every_loss
def test_a_loss_is_one_number_an_image(name: str) -> None:
    assert losses(LOSSES[name](), some_logits()).shape == (4,)


@every_loss
def test_the_keys_of_its_params_are_its_arguments(name: str) -> None:
    params = TrainParams(arch="x", epochs=1, lr=0.1, loss=name)
    assert params.loss.name == name and params.loss.settings()
    LOSSES[name](**params.loss.settings())


SEVERAL = [*(Focal(gamma) for gamma in (0.0, 0.5, 1.0, 2.0)), CrossEntropy(0.0), CrossEntropy(0.1)]


@pytest.mark.parametrize("loss", SEVERAL, ids=str)
def test_the_gradient_is_that_of_finite_differences(loss: Loss) -> None:
    assert torch.autograd.gradcheck(lambda logits: losses(loss, logits), some_logits().requires_grad_())


@pytest.mark.parametrize("loss", SEVERAL, ids=str)
@pytest.mark.parametrize("scale", [0.0, 100.0, -100.0, 1e4])
def test_value_and_gradient_are_finite_however_sure_the_network_is(loss: Loss, scale: float) -> None:
    logits = (torch.nn.functional.one_hot(LABELS_N, 3).float() * scale).requires_grad_()
    losses_N = losses(loss, logits)
    (gradient,) = torch.autograd.grad(losses_N.sum(), logits)
    assert losses_N.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_its_equation(gamma: float) -> None:
    logits = some_logits()
    p = [math.exp(row[label] - torch.logsumexp(row, 0)) for row, label in zip(logits, LABELS_N, strict=True)]
    expected = [-((1 - q) ** gamma) * math.log(q) for q in p]
    assert losses(Focal(gamma), logits).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_its_equation(smoothing: float) -> None:
    log_p = torch.log_softmax(some_logits(), 1)
    target = torch.nn.functional.one_hot(LABELS_N, 3).double() * (1 - smoothing) + smoothing / 3
    expected = -(target * log_p).sum(1)
    assert torch.allclose(losses(CrossEntropy(smoothing), some_logits()), expected, rtol=1e-12)


def test_the_mean_of_a_batch_weighs_its_images() -> None:
    batch = Batch(torch.zeros(4, 1, 1, 3), LABELS_N)
    losses_N = torch.tensor([1.0, 2.0, 3.0, 6.0])
    assert float(batch.mean(losses_N)) == 3.0
    weighted = Batch(batch.images_NHWC_u8, LABELS_N, weights_N=torch.tensor([1.0, 0.0, 0.0, 3.0]))
    assert float(weighted.mean(losses_N)) == pytest.approx((1 + 18) / 4)

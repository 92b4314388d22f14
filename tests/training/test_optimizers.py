"""The learning rate of every step, and which parameters get weight decay."""

import pytest
from torch import nn

from steps.training.optimizers import set_learning_rate, sgd
from steps.training.schedules import Cosine


def rates(steps: int, warmup: int) -> list[float]:
    """Return the learning rates of an epoch of `steps` steps, with a warm-up to a peak of 0.4."""
    schedule = Cosine(warmup_epochs=warmup / steps)
    return [0.4 * schedule(step, steps, 1) for step in range(steps)]


def test_warm_up_rises_evenly_to_the_peak() -> None:
    assert rates(100, 10)[:11] == pytest.approx([0.04 * (step + 1) for step in range(10)] + [0.4])


def test_cosine_falls_from_the_peak_towards_zero() -> None:
    after = rates(100, 10)[10:]
    assert after == sorted(after, reverse=True)
    assert after[45] == pytest.approx(0.2)
    assert 0 < after[-1] < 0.001


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    assert rates(10, 0)[0] == 0.4


def test_a_warm_up_longer_than_the_training_only_rises() -> None:
    assert rates(5, 10) == pytest.approx([0.04 * (step + 1) for step in range(5)])


def test_norms_and_biases_are_not_decayed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    decay = {id(p): group["weight_decay"] for group in sgd(model, 0.9, 0.1).param_groups for p in group["params"]}
    found = {name: decay[id(parameter)] for name, parameter in model.named_parameters()}
    assert {name for name, value in found.items() if value} == {"0.weight", "3.weight"}
    assert len(found) == 6


def test_every_group_gets_the_rate() -> None:
    optimizer = sgd(nn.Linear(2, 2), 0.9, 0.1)
    set_learning_rate(optimizer, 0.03)
    assert [group["lr"] for group in optimizer.param_groups] == [0.03, 0.03]

"""Quotas: integers with the right sum, close to the shares, and never smaller for a larger class."""

import numpy as np
import pytest

from steps.splitting.quota import quotas_CS, too_few

SIZES = np.arange(15, 400)


@pytest.mark.parametrize("shares", [(0.65, 0.15, 0.2), (0.85, 0.15, 0.0), (0.02, 0.49, 0.49), (1.0, 0.0, 0.0)])
@pytest.mark.parametrize("least", [1, 5])
def test_quotas_add_up_and_leave_no_split_below_the_least(shares: tuple[float, ...], least: int) -> None:
    due = quotas_CS(SIZES, shares, least)
    used = np.array(shares) > 0
    assert (due.sum(axis=1) == SIZES).all()
    assert (due[:, used] >= least).all()
    assert (due[:, ~used] == 0).all()


def test_quotas_are_the_share_rounded_up_or_down() -> None:
    due = quotas_CS(SIZES, (0.65, 0.15, 0.2), 1)
    assert (np.abs(due - np.outer(SIZES, (0.65, 0.15, 0.2))) < 1).all()
    assert quotas_CS(np.array([20]), (0.65, 0.15, 0.2), 1).tolist() == [[13, 3, 4]]


@pytest.mark.parametrize("shares", [(0.65, 0.15, 0.2), (0.7, 0.1, 0.2), (1 / 3, 1 / 3, 1 / 3), (0.5, 0.42, 0.08)])
def test_a_growing_class_takes_from_no_split(shares: tuple[float, ...]) -> None:
    assert (np.diff(quotas_CS(SIZES, shares, 5), axis=0) >= 0).all()


def test_too_few_counts_what_may_not_move() -> None:
    images, placed = np.array([14, 15, 15]), np.array([[0, 0, 0], [0, 0, 0], [6, 0, 0]])
    assert too_few(images, placed, (0.65, 0.15, 0.2), 5).tolist() == [True, False, True]

"""Student's t, and the mean of a few values that is called beyond a limit by it."""

import numpy as np
import pytest
from scipy.stats import t

from steps.metrics.intervals import images_for_mean, images_to_show, least_mean
from steps.metrics.student import t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 10, 199, 500, 501, 10_000, 10**9])
@pytest.mark.parametrize("confidence", [0.6, 0.95, 0.9984, 1 - 1e-6, 1 - 1e-9])
def test_the_quantile_is_scipys(freedom: int, confidence: float) -> None:
    assert t_quantile(confidence, freedom) == pytest.approx(t.ppf(confidence, freedom), rel=1e-5)


@pytest.mark.parametrize("images", [2, 3, 5, 10, 50])
def test_a_mean_at_its_limit_is_seldom_called_beyond_it(images: int) -> None:
    """20,000 draws of normal values; with the normal quantile it was one in ten of two images."""
    draws = np.random.default_rng(images).normal(0.02, 0.1, (20_000, images))
    beyond = np.mean([least_mean(values, 0.99) > 0.02 for values in draws])
    assert 0.007 < beyond < 0.013


@pytest.mark.parametrize("limit", [0.01, 0.4, 0.49])
def test_as_many_images_as_are_named_show_it_and_one_fewer_do_not(limit: float) -> None:
    needed = images_for_mean(np.array([0.0, 1.0] * 5), limit, 0.999)
    spread = np.sqrt(5 / 18)  # of the ten values
    assert 0.5 - t.ppf(0.999, needed - 1) * spread / np.sqrt(needed) >= limit
    assert 0.5 - t.ppf(0.999, needed - 2) * spread / np.sqrt(needed - 1) < limit


@pytest.mark.parametrize("beyond", [0.0, 5e-324, 1e-200, 1e-9, 5e-5])
def test_a_mean_hardly_beyond_its_limit_is_shown_by_no_number_of_images_that_anyone_has(beyond: float) -> None:
    assert images_to_show(beyond, 1.0, 0.95) == np.inf
    assert images_for_mean(np.array([-1.0, 1.0]) + beyond, 0.0, 0.95) == np.inf


def test_the_number_of_images_that_is_named_goes_up_to_the_ceiling() -> None:
    assert images_to_show(6e-5, 1.0, 0.95) == pytest.approx((1.645 / 6e-5) ** 2, rel=1e-3)

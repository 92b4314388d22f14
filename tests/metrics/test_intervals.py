"""Intervals of a paired accuracy drop: published values, correct error rates, and the shape of a bound."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from steps.metrics.intervals import (
    EXACT_UP_TO,
    falls_short,
    goes_beyond,
    images_for_drop,
    largest_drop,
    largest_score_drop,
    least_drop,
    least_share,
    stays_within,
)

UNTIMED = settings(deadline=None, max_examples=50)  # the machine may be busy
SOME = settings(deadline=None, max_examples=15)  # the exact test takes some hundredths of a second
TABLES = st.tuples(st.integers(1, 400), st.integers(0, 400), st.integers(0, 400)).filter(
    lambda t: t[1] + t[2] <= t[0]
)


@pytest.mark.parametrize(("images", "points"), [(200, 1.487), (299, 0.997), (1000, 0.299), (5000, 0.0599)])
def test_without_any_disagreement_the_bound_is_what_the_size_of_the_test_set_can_show(
    images: int, points: float
) -> None:
    assert 100 * float(largest_drop(0, 0, images, 0.95)) == pytest.approx(points, rel=0.01)


def test_the_bounds_are_the_published_ones() -> None:
    """Fagerland, Lydersen, Laake (2014), Statistics in Medicine 33:2850-2875: Tango's two-sided 95 % interval of
    airway hyper-responsiveness before and after a stem cell transplantation is -0.517 to -0.026.
    """
    assert float(-largest_score_drop(7, 1, 21, 0.975)) == pytest.approx(-0.517, abs=5e-4)
    assert float(largest_score_drop(1, 7, 21, 0.975)) == pytest.approx(-0.026, abs=5e-4)


@pytest.mark.parametrize(("lost", "gained", "images"), [(5, 2, 300), (0, 3, 50), (12, 0, 40), (40, 20, 160)])
def test_at_the_bound_the_score_statistic_is_the_quantile(lost: int, gained: int, images: int) -> None:
    """Tango's eq. 24, with the restricted estimate found by maximising the likelihood on a fine grid."""
    bound = float(largest_score_drop(lost, gained, images, 0.95))
    lowest = max(0.0, -bound)
    only_form = np.linspace(lowest, (1 - bound) / 2, 2_000_001)[1:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        likelihood = (
            lost * np.log(only_form + bound)
            + (gained * np.log(only_form) if gained else 0)
            + (images - lost - gained) * np.log(1 - 2 * only_form - bound)
        )
    restricted = only_form[np.nanargmax(likelihood)]
    variance = images * (2 * restricted + bound * (1 - bound))
    assert (lost - gained - images * bound) / np.sqrt(variance) == pytest.approx(-1.644854, abs=2e-3)


@SOME
@given(table=TABLES, confidence=st.floats(0.55, 0.999))
def test_the_bounds_enclose_the_estimate_and_stay_in_range(table: tuple[int, int, int], confidence: float) -> None:
    images, lost, gained = table
    low, high = (float(end(lost, gained, images, confidence)) for end in (least_drop, largest_drop))
    estimate = (lost - gained) / images
    assert -1 <= low <= estimate <= high <= 1


@UNTIMED
@given(table=TABLES, lower=st.floats(0.55, 0.99), more=st.floats(0.0, 0.0099))
def test_the_surer_the_wider(table: tuple[int, int, int], lower: float, more: float) -> None:
    images, lost, gained = table
    narrow, wide = (float(largest_score_drop(lost, gained, images, level)) for level in (lower, lower + more))
    assert wide >= narrow - 1e-12


@UNTIMED
@given(table=TABLES, factor=st.integers(2, 50))
def test_more_images_of_the_same_kind_narrow_the_interval(table: tuple[int, int, int], factor: int) -> None:
    images, lost, gained = table
    few = float(largest_score_drop(lost, gained, images, 0.95))
    many = float(largest_score_drop(lost * factor, gained * factor, images * factor, 0.95))
    assert many <= few + 1e-12


@UNTIMED
@given(table=TABLES.filter(lambda t: t[1] + t[2] < t[0]))
def test_one_more_lost_image_raises_the_bound(table: tuple[int, int, int]) -> None:
    images, lost, gained = table
    assert float(largest_score_drop(lost + 1, gained, images, 0.95)) > float(
        largest_score_drop(lost, gained, images, 0.95)
    )


def test_classes_are_judged_at_once_as_one_by_one() -> None:
    lost, gained, images = np.array([0, 3, 5]), np.array([0, 1, 0]), np.array([20, 100, 5])
    together = largest_drop(lost, gained, images, 0.95)
    alone = [float(largest_drop(*counts, 0.95)) for counts in zip(lost, gained, images, strict=True)]
    assert together.tolist() == alone


@SOME
@given(table=TABLES, bound=st.sampled_from([0.005, 0.02, 0.1]))
def test_the_decision_is_that_of_the_interval(table: tuple[int, int, int], bound: float) -> None:
    images, lost, gained = table
    end = float(largest_drop(lost, gained, images, 0.95))
    if abs(end - bound) > 0.01 * bound:  # the end is exact to 1e-4 of the interval
        assert bool(stays_within(lost, gained, images, bound, 0.95)) == (end <= bound)
    beyond = float(least_drop(lost, gained, images, 0.95))
    if abs(beyond - bound) > 0.01:
        assert bool(goes_beyond(lost, gained, images, bound, 0.95)) == (beyond > bound)


@pytest.mark.parametrize("images", [200, 1000])
def test_a_form_without_a_drop_seldom_fails(images: int) -> None:
    counts = np.random.default_rng(images).multinomial(images, [0.01, 0.01, 0.98], 2_000)
    tables = np.unique(counts[:, :2], axis=0, return_counts=True)
    beyond = goes_beyond(tables[0][:, 0], tables[0][:, 1], images, 0.01, 0.95)
    assert tables[1][beyond].sum() / 2_000 <= 0.05


@SOME
@given(table=TABLES, limit=st.floats(0.001, 0.2))
def test_the_number_of_images_that_would_decide_does(table: tuple[int, int, int], limit: float) -> None:
    images, lost, gained = table
    needed = float(images_for_drop(lost, gained, images, limit, 0.95))
    if not np.isfinite(needed) or needed <= images + 1 or needed > EXACT_UP_TO:
        return
    shares = lost / images * needed, gained / images * needed, needed
    assert stays_within(*shares, limit, 0.95) or goes_beyond(*shares, limit, 0.95)


def test_299_images_without_disagreement_show_a_drop_of_at_most_one_point() -> None:
    assert images_for_drop(0, 0, 200, 0.01, 0.95) == 299
    assert images_for_drop(0, 0, [10, 10], 0.01, [0.9, 0.99]).tolist() == [230, 459]


@pytest.mark.parametrize(("rate", "bound"), [(0.01, 0.01), (0.02, 0.01), (0.05, 0.01), (0.02, 0.02), (0.1, 0.05)])
def test_the_exact_test_asks_for_hardly_more_images_than_the_score_interval(rate: float, bound: float) -> None:
    """Compared at a rate of disagreement at which the score interval nearly keeps its level."""
    of_score = next(n for n in range(50, 5000) if largest_score_drop(rate * n / 2, rate * n / 2, n, 0.95) <= bound)
    assert images_for_drop(rate * 5, rate * 5, 10, bound, 0.95) <= 1.05 * of_score + 1


def test_a_drop_exactly_at_the_limit_is_decided_by_no_number_of_images() -> None:
    assert images_for_drop(10, 0, 1000, 0.01, 0.95) == np.inf


def test_the_lower_bound_of_a_share_is_clopper_and_pearsons() -> None:
    # Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 5: 81 of 263, two-sided 95 %: 0.2527
    assert least_share(81, 263, 0.975) == pytest.approx(0.2527, abs=5e-5)
    assert least_share(0, 10, 0.95) == 0
    assert least_share(10, 10, 0.95) == pytest.approx(0.05 ** (1 / 10))


@pytest.mark.parametrize("images", [1, 10, 52, 268])
@pytest.mark.parametrize("floor", [0.5, 0.9, 0.99])
def test_a_share_below_its_floor_is_seldom_called_above_it(images: int, floor: float) -> None:
    right = np.arange(images + 1)
    chance = binom.pmf(right, images, floor - 1e-9)
    for level in (0.05, 0.01):
        assert chance[least_share(right, images, 1 - level) >= floor].sum() <= level


@pytest.mark.parametrize("images", [1, 2, 3, 10, 50])
@pytest.mark.parametrize("classes", [1, 100, 5000])
@pytest.mark.parametrize("floor", [0.9, 0.95, 0.99])
def test_a_share_at_its_floor_is_seldom_called_short_of_it_in_any_of_many_small_classes(
    images: int, classes: int, floor: float
) -> None:
    """The probabilities are summed exactly."""
    level = 0.05 / (40 * classes)
    right = np.arange(images + 1)
    chance = np.array([math.comb(images, k) * floor**k * (1 - floor) ** (images - k) for k in right])
    assert chance[falls_short(right, images, floor, 1 - level)].sum() <= level


def test_a_class_that_is_hardly_found_falls_short_where_its_images_are_enough() -> None:
    assert falls_short(np.array([10, 0, 0]), np.array([50, 50, 3]), 0.9, 1 - 1e-5).tolist() == [True, True, False]


@pytest.mark.parametrize("images", [1, 2, 5, 20])
@pytest.mark.parametrize("gained", [0.0, 0.01, 0.1])
def test_the_drop_of_a_small_class_at_its_limit_is_seldom_called_beyond_it(images: int, gained: float) -> None:
    """The level holds also at levels that many classes share. The probabilities are summed exactly."""
    shares = (gained + 0.05, gained, 0.95 - 2 * gained)
    tables = [(b, c, images - b - c) for b in range(images + 1) for c in range(images + 1 - b)]
    ways = [math.factorial(images) // math.prod(map(math.factorial, table)) for table in tables]
    chance = np.array([way * math.prod(np.power(shares, table)) for way, table in zip(ways, tables, strict=True)])
    lost, more, _ = np.array(tables).T
    for level in (0.05, 1e-3, 1e-5):
        assert chance[goes_beyond(lost, more, images, 0.05, 1 - level)].sum() <= level * (1 + 1e-6)

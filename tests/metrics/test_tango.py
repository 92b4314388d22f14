"""Tango's interval against the paper, against an independent implementation, and at its edges."""

from statistics import NormalDist

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from steps.metrics.intervals import (
    falls_short,
    goes_beyond,
    images_for_drop,
    images_to_judge,
    largest_drop,
    largest_score_drop,
    least_share,
    stays_within,
)

FEW = [(b, c, n) for n in (1, 2, 3, 4) for b in range(n + 1) for c in range(n + 1 - b)]
MORE = [
    (b, c, n)
    for n in (44, 200, 5000)
    for b, c in ((0, 0), (1, 0), (0, 1), (n, 0), (0, n), (n // 2, n - n // 2), (n // 2, 0), (3, 2), (n - 1, 1))
]


@pytest.mark.parametrize(
    ("lost", "gained", "images", "two_sided", "low", "high"),
    [
        (9, 3, 32, 0.95, -0.027, 0.390),  # Tango (1998), section 6.2: sleeping difficulties
        (0, 1, 44, 0.90, -0.096, None),  # section 6.1: soft contact lenses, the lower end
        (
            20,
            60,
            1000,
            0.95,
            -0.0584,
            -0.0231,
        ),  # scoreci.mp(20, 60, 1000) of the R package PropCIs, with the opposite sign
    ],
)
def test_the_worked_examples_come_out(
    lost: int, gained: int, images: int, two_sided: float, low: float, high: float | None
) -> None:
    level = (1 + two_sided) / 2
    assert -float(largest_score_drop(gained, lost, images, level)) == pytest.approx(low, abs=6e-4)
    if high is not None:
        assert float(largest_score_drop(lost, gained, images, level)) == pytest.approx(high, abs=6e-4)


def statistic(lost: int, gained: int, images: int, drop: float) -> float:
    """Return the score statistic, with the restricted estimate found by a search of the likelihood."""
    same = images - lost - gained

    def unlikely(only_form: float) -> float:
        shares = ((lost, only_form + drop), (gained, only_form), (same, 1 - 2 * only_form - drop))
        return -sum(float(count * np.log(share)) for count, share in shares if count)

    low, high = max(0.0, -drop) + 1e-15, (1 - drop) / 2 - 1e-15
    found = minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-14}).x
    restricted = min((found, low, high), key=unlikely)  # the search does not include the ends
    variance = images * (2 * restricted + drop * (1 - drop))
    return float((lost - gained - images * drop) / np.sqrt(max(variance, 1e-300)))


@pytest.mark.parametrize("confidence", [0.6, 0.95, 0.9987])
@pytest.mark.parametrize("table", FEW + MORE, ids=str)
def test_an_independent_implementation_gives_the_same_bound(
    table: tuple[int, int, int], confidence: float
) -> None:
    """The tables include: no disagreement, disagreement on one side only, a single image, only disagreement."""
    lost, gained, images = table
    quantile = NormalDist().inv_cdf(confidence)
    begin, end = (lost - gained) / images + 1e-12, 1 - 1e-9

    def beyond(drop: float) -> float:
        return statistic(lost, gained, images, drop) + quantile

    if beyond(end) > 0:
        expected = 1.0
    else:
        expected = brentq(beyond, begin, end, xtol=1e-13) if beyond(begin) > 0 else (lost - gained) / images
    assert float(largest_score_drop(*table, confidence)) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("images", [1, 2, 268, 5000, 10_000_000])
def test_without_disagreement_the_bound_has_a_closed_form(images: int) -> None:
    square = NormalDist().inv_cdf(0.95) ** 2
    assert float(largest_score_drop(0, 0, images, 0.95)) == pytest.approx(square / (images + square), rel=1e-9)


def test_the_bound_grows_with_each_lost_image_and_falls_with_each_gained_one() -> None:
    images = 60
    lost, gained = np.meshgrid(np.arange(images + 1), np.arange(images + 1), indexing="ij")
    high = largest_score_drop(lost, gained, images, 0.95)
    possible = lost + gained <= images
    assert (np.diff(high, axis=0)[possible[1:]] > -1e-12).all()
    assert (np.diff(high, axis=1)[possible[:, 1:]] < 1e-12).all()


@pytest.mark.parametrize(("lost", "gained", "limit"), [(0.004, 0.002, 0.01), (0.03, 0.005, 0.01)])
def test_test_sets_of_the_number_that_would_decide_do_so_half_the_time_and_larger_ones_nearly_always(
    lost: float, gained: float, limit: float
) -> None:
    """At that number the expected counts lie on the boundary, so that chance decides; at four times that number,
    the expected counts lie 1.6 standard deviations within the boundary.
    """
    needed = int(images_for_drop(100 * lost, 100 * gained, 100, limit, 0.95))
    random = np.random.default_rng(0)

    def decided(images: int) -> float:
        b, c, _ = random.multinomial(images, [lost, gained, 1 - lost - gained], 300).T
        within = stays_within(b, c, images, limit, 0.95)
        beyond = goes_beyond(b, c, images, limit, 0.95)
        return float((within | beyond).mean())

    assert decided(needed) > 0.3 and decided(4 * needed) > 0.85
    assert decided(needed // 4) < decided(needed)


@pytest.mark.parametrize(
    ("share", "floor", "level"), [(0.94, 0.9, 0.95), (1.0, 0.9, 0.95), (0.85, 0.9, 0.9987), (0.5, 0.99, 0.999)]
)
def test_the_number_for_a_share_decides_and_one_far_below_does_not(
    share: float, floor: float, level: float
) -> None:
    needed = float(images_to_judge(share * 2, 2, floor, level))

    def decided(images: float) -> bool:
        right = share * images
        return bool(least_share(right, images, level) >= floor or falls_short(right, images, floor, level))

    assert decided(needed) and not decided(needed * 0.9 - 1)


def test_each_entry_may_have_a_level_of_its_own() -> None:
    levels = np.array([0.95, 0.999, 0.95])
    together = largest_drop(np.array([1, 2, 3]), 0, 100, levels), least_share(np.array([1, 2, 3]), 100, levels)
    for index, level in enumerate(levels):
        assert together[0][index] == largest_drop(index + 1, 0, 100, level)
        assert together[1][index] == least_share(index + 1, 100, level)

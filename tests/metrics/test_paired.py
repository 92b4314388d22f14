"""The exact test of a paired drop: a form at the bound passes with a probability of at most 1 - confidence."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from steps.metrics.paired import largest_exact_drop, rejects

BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1)
CONFIDENCES = (0.5, 0.8, 0.9, 0.95, 0.99, 0.999)


def most_lost(images: int, bound: float, confidence: float) -> list[int]:
    """Return, for each count of gained images, the largest count of lost images that passes; -1 for none."""
    boundary, lost = [], -1
    for gained in range(images + 1):
        while lost + 1 <= images - gained and rejects(lost + 1, gained, images, bound, 1 - confidence):
            lost += 1
        boundary.append(min(lost, images - gained))
        if lost >= images - gained:
            return boundary + [images - more for more in range(gained + 1, images + 1)]
        if lost - gained > images * bound + 40:  # far beyond any realistic discordance
            break
        if gained > 40 + images * 0.4:
            break
    return boundary


def chance_to_pass(images: int, bound: float, boundary: list[int], share: float) -> float:
    """Return P(pass) with a true drop of `bound`, computed with SciPy's distributions and not with ours.

    `share` is the true share of gained images. Counts beyond the boundary count as a pass.
    """
    gained = np.arange(len(boundary))
    lost = np.array(boundary)
    of_rest = min((share + bound) / (1 - share), 1.0)
    inside = binom.pmf(gained, images, share) * np.where(lost < 0, 0, binom.cdf(lost, images - gained, of_rest))
    return float(inside.sum() + binom.sf(len(boundary) - 1, images, share))


@pytest.mark.parametrize("images", [1, 2, 5, 21, 52])
def test_the_level_holds_for_any_share_of_images_that_disagree(images: int) -> None:
    check_level(images)


@pytest.mark.slow
@pytest.mark.parametrize("images", [100, 268, 288, 299, 480])
def test_the_level_holds_at_the_edges_that_the_score_interval_misses(images: int) -> None:
    check_level(images)


def check_level(images: int) -> None:
    for bound in BOUNDS:
        for confidence in CONFIDENCES:
            boundary = most_lost(images, bound, confidence)
            highest = min((1 - bound) / 2, max(0.0, (len(boundary) - 1 - 6 * math.sqrt(len(boundary))) / images))
            if len(boundary) == images + 1:
                highest = (1 - bound) / 2
            shares = np.linspace(0, math.sqrt(highest), 400) ** 2
            worst = max(chance_to_pass(images, bound, boundary, share) for share in shares.tolist())
            assert worst <= (1 - confidence) * (1 + 1e-5), (bound, confidence)


@pytest.mark.parametrize(("confidence", "images"), [(0.95, 299), (0.9, 230), (0.99, 459)])
def test_without_a_disagreement_one_point_takes_the_images_that_the_binomial_asks_for(
    confidence: float, images: int
) -> None:
    assert rejects(0, 0, images, 0.01, 1 - confidence) and not rejects(0, 0, images - 1, 0.01, 1 - confidence)
    assert largest_exact_drop(0, 0, images, confidence, 0.01) <= 0.01
    assert largest_exact_drop(0, 0, images - 1, confidence, 0.01) > 0.01


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 120), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_ends_where_the_test_stops_to_reject(
    images: int, data: st.DataObject, confidence: float
) -> None:
    lost = data.draw(st.integers(0, images - 1))
    gained = data.draw(st.integers(0, images - lost))
    end = largest_exact_drop(lost, gained, images, confidence, (lost - gained) / images + 0.05)
    assert end >= (lost - gained) / images
    assert end == 1.0 or rejects(lost, gained, images, end * (1 + 1e-12), 1 - confidence)


def test_one_image_shows_nothing() -> None:
    assert not rejects(0, 0, 1, 0.01, 0.5)

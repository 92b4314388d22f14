"""How similar the scores of two forms are, and whether a form's confidence matches its accuracy."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steps.metrics import scores as kept_scores
from steps.metrics.agreement import Closeness, closeness, log_softmax, same_class
from steps.metrics.calibration import calibration_error, calibration_parts
from steps.metrics.logits import logit_differences
from steps.metrics.omitted_scores import Shares, largest_part
from steps.metrics.scores import Logits, keep

UNTIMED = settings(deadline=None, max_examples=50)  # the machine may be busy


def drawn(images: int, classes: int, seed: int) -> Logits:
    return np.random.default_rng(seed).normal(0, 3, (images, classes)).astype(np.float32)


def compared(one: Logits, other: Logits) -> Closeness:
    return closeness(keep(one), keep(other))


def test_the_share_of_images_in_the_same_class_is_counted() -> None:
    one = np.array([[1, 0], [0, 1], [3, 2], [0, 5]], np.float32)
    assert same_class(keep(one), keep(one[:, ::-1].copy())) == 0
    assert same_class(keep(one), keep(one * np.float32(2))) == 1
    assert same_class(keep(one), keep(np.array([[1, 0], [1, 0], [3, 2], [0, 5]], np.float32))) == 0.75


def test_a_score_difference_is_one_of_probabilities_not_of_logits() -> None:
    one = np.array([[0.0, 0.0], [100.0, 0.0]], np.float32)
    other = np.array([[np.log(3.0), 0.0], [200.0, 0.0]], np.float32)
    difference = compared(one, other).difference
    assert difference.most_N == pytest.approx([0.25, 0.0])
    assert (difference.least_N == difference.most_N).all()


def test_logits_of_any_size_have_a_softmax() -> None:
    shares = np.exp(log_softmax(np.array([[3e38, -3e38, 0.0]], np.float32)))
    assert shares.tolist() == [[1, 0, 0]]


@UNTIMED
@given(seed=st.integers(0, 1000), shift=st.floats(-50, 50, width=32))
def test_adding_the_same_to_all_scores_of_an_image_changes_nothing(seed: int, shift: float) -> None:
    one = drawn(7, 4, seed)
    found = compared(one, one + np.float32(shift))
    assert found.difference.most_N.max() < 1e-4
    assert found.divergence.most_N.mean() == pytest.approx(0, abs=1e-6)


@UNTIMED
@given(seed=st.integers(0, 1000))
def test_divergence_is_never_negative(seed: int) -> None:
    assert compared(drawn(5, 3, seed), drawn(5, 3, seed + 1)).divergence.least_N.min() >= 0


def test_divergence_is_the_one_of_the_definition() -> None:
    p, q = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    one, other = (np.log(shares)[None].astype(np.float32) for shares in (p, q))
    assert compared(one, other).divergence.most_N == pytest.approx([float((p * np.log(p / q)).sum())], rel=1e-5)


@pytest.mark.parametrize("classes", [5, 300])
def test_large_test_sets_are_compared_in_parts_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, classes: int
) -> None:
    monkeypatch.setattr(kept_scores, "WHOLE", 100)
    one, other = drawn(50, classes, 1), drawn(50, classes, 2)
    whole, whole_logits = compared(one, other), logit_differences(keep(one), keep(other))
    monkeypatch.setattr(kept_scores, "CHUNK", 7)
    parts, part_logits = compared(one, other), logit_differences(keep(one), keep(other))
    assert (parts.difference.most_N == whole.difference.most_N).all()
    assert parts.divergence.most_N == pytest.approx(whole.divergence.most_N, rel=1e-12)
    for figures in ("mean_N", "mean_K", "deviation_K", "images_K"):
        assert getattr(part_logits, figures) == pytest.approx(getattr(whole_logits, figures), rel=1e-9)


@UNTIMED
@given(seed=st.integers(0, 1000), noise=st.floats(0, 2), sharpness=st.floats(0.1, 5))
@example(seed=356, noise=1.5, sharpness=4.625)  # the other form's unstored rest is 1e-17: 1 minus the sum loses it
def test_what_was_not_kept_leaves_bounds_around_the_true_figures(
    seed: int, noise: float, sharpness: float
) -> None:
    """The same scores, stored whole and in part: the true difference and divergence lie between the bounds."""
    one = (sharpness * drawn(6, 400, seed)).astype(np.float32)
    other = (one + noise * drawn(6, 400, seed + 1)).astype(np.float32)
    true = compared(one, other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_scores, "WHOLE", 100)
        bounded = compared(one, other)
    for exact, between in ((true.difference, bounded.difference), (true.divergence, bounded.divergence)):
        assert (between.least_N <= exact.most_N + 1e-9).all()
        assert (exact.most_N <= between.most_N + 1e-9).all()


@pytest.mark.parametrize("spread", [0.3, 1.0])
@pytest.mark.parametrize("noise", [0, 1e-3, 0.05, 0.1, 0.2])
def test_what_is_likely_of_scores_that_were_not_kept_is_about_the_truth(
    monkeypatch: pytest.MonkeyPatch, noise: float, spread: float
) -> None:
    """Labels smoothed by .1, 1,000 classes, a tenth of them stored; the guaranteed bounds are .06 to .3 wide."""
    one = (spread / 3 * drawn(60, 1000, 0)).astype(np.float32)
    one[:, 0] = np.log(9 * np.exp(one[:, 1:]).sum(axis=1))
    other = (one + noise / 3 * drawn(60, 1000, 1)).astype(np.float32)
    true = compared(one, other).divergence.most_N.mean()
    monkeypatch.setattr(kept_scores, "WHOLE", 999)
    bounded = compared(one, other)
    assert 0.8 * true <= bounded.likely_N.mean() <= 2.5 * true + 1e-12
    assert (bounded.likely_N <= bounded.divergence.most_N).all()
    assert (bounded.likely_N >= bounded.divergence.least_N).all()
    assert bounded.divergence.most_N.mean() > 0.05


def worst_of_all(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> float:
    """Return the largest sum p (log p - log q) over all assignments of the values of q to the classes."""
    return max(float((p * np.log(p / np.array(order))).sum()) for order in itertools.permutations(q))


@pytest.mark.parametrize(("at_most_p", "at_most_q"), [(1, 1), (2, 1), (2, 3), (4, 2), (5, 5), (0, 4)])
def test_of_classes_that_neither_form_kept_the_bound_is_attained(at_most_p: int, at_most_q: int) -> None:
    """Scores at both ends of their ranges, as the bound assumes: the worst assignment reaches the bound."""
    kept, low, high, classes = 0.2, 0.01, 0.08, 6

    def made(at_most: int) -> tuple[npt.NDArray[np.float64], Shares]:
        unkept_U = np.where(np.arange(classes) < at_most, high, low)
        shares = np.log([1 - kept - unkept_U.sum(), kept]), np.log([low]), np.log([high]), [unkept_U.sum()]
        return unkept_U, Shares(shares[0][None], shares[1], shares[2], np.array(shares[3]))

    (p, of_p), (q, of_q) = made(at_most_p), made(at_most_q)
    none = np.zeros(1, np.int64)
    found = float(largest_part(of_p, of_q, (none, none), none + classes)[0])
    assert found == pytest.approx(worst_of_all(p, q), abs=1e-8)


def test_of_a_form_that_is_sure_the_kept_scores_say_nearly_all(monkeypatch: pytest.MonkeyPatch) -> None:
    one = drawn(20, 2000, 0)
    one[np.arange(20), np.arange(20)] += 40
    other = (one + 0.05 * drawn(20, 2000, 1)).astype(np.float32)
    bounded = compared(one, other)
    assert bounded.difference.most_N - bounded.difference.least_N == pytest.approx(0, abs=1e-9)
    assert bounded.divergence.most_N - bounded.divergence.least_N == pytest.approx(0, abs=1e-9)


def calibrated(shares: npt.ArrayLike, images: int, right: int) -> float:
    logits_NK = np.tile(np.log(shares), (images, 1)).astype(np.float32)
    return calibration_error(keep(logits_NK).confidence_N, np.arange(images) < right)


def test_a_form_that_is_right_as_often_as_it_says_is_calibrated() -> None:
    assert calibrated([[0.75, 0.25]], 100, 75) == pytest.approx(0, abs=1e-6)


def test_a_form_that_is_sure_and_wrong_is_not_calibrated() -> None:
    assert calibrated([[1 - 1e-9, 1e-9]], 10, 6) == pytest.approx(0.4, abs=1e-6)


def test_the_error_is_the_mean_of_the_images_parts() -> None:
    """Computed by hand, as in Guo et al. (2017), eq. 3: bins are weighted by their number of images."""
    random = np.random.default_rng(0)
    confidence_N, right_N = random.random(500), random.random(500) < 0.6
    bins_N = np.minimum((confidence_N * 15).astype(int), 14)
    gaps = [
        abs(right_N[bins_N == k].mean() - confidence_N[bins_N == k].mean()) * (bins_N == k).mean()
        for k in np.unique(bins_N)
    ]
    assert calibration_error(confidence_N, right_N) == pytest.approx(sum(gaps))
    assert calibration_parts(confidence_N, right_N).mean() == pytest.approx(sum(gaps))

"""How alike two forms' scores are, and whether a form is right as often as it says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.metrics import agreement
from steps.metrics.agreement import divergence, log_softmax, same_class, score_differences
from steps.metrics.calibration import calibration_error

UNTIMED = settings(deadline=None, max_examples=50)  # other work shares the machine


def drawn(images: int, classes: int, seed: int) -> agreement.Logits:
    return np.random.default_rng(seed).normal(0, 3, (images, classes)).astype(np.float32)


def test_the_share_of_images_in_the_same_class_is_counted() -> None:
    one = np.array([[1, 0], [0, 1], [3, 2], [0, 5]], np.float32)
    assert same_class(one, one[:, ::-1]) == 0
    assert same_class(one, one * np.float32(2)) == 1
    assert same_class(one, np.array([[1, 0], [1, 0], [3, 2], [0, 5]], np.float32)) == 0.75


def test_a_score_difference_is_one_of_probabilities_not_of_logits() -> None:
    one = np.array([[0.0, 0.0], [100.0, 0.0]], np.float32)
    other = np.array([[np.log(3.0), 0.0], [200.0, 0.0]], np.float32)
    assert score_differences(one, other) == pytest.approx([0.25, 0.0])


def test_logits_of_any_size_have_a_softmax() -> None:
    shares = np.exp(log_softmax(np.array([[3e38, -3e38, 0.0]], np.float32)))
    assert shares.tolist() == [[1, 0, 0]]


@UNTIMED
@given(seed=st.integers(0, 1000), shift=st.floats(-50, 50, width=32))
def test_adding_the_same_to_all_scores_of_an_image_changes_nothing(seed: int, shift: float) -> None:
    one = drawn(7, 4, seed)
    assert score_differences(one, one + np.float32(shift)).max() < 1e-4
    assert divergence(one, one + np.float32(shift)) == pytest.approx(0, abs=1e-6)


@UNTIMED
@given(seed=st.integers(0, 1000))
def test_divergence_is_never_negative(seed: int) -> None:
    assert divergence(drawn(5, 3, seed), drawn(5, 3, seed + 1)) >= 0


def test_divergence_is_the_one_of_the_definition() -> None:
    p, q = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    one, other = (np.log(shares)[None].astype(np.float32) for shares in (p, q))
    assert divergence(one, other) == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-5)


def test_large_test_sets_are_compared_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = drawn(50, 5, 1), drawn(50, 5, 2)
    whole = score_differences(one, other), divergence(one, other)
    monkeypatch.setattr(agreement, "CHUNK", 7)
    assert (score_differences(one, other) == whole[0]).all()
    assert divergence(one, other) == pytest.approx(whole[1], rel=1e-12)


def test_a_form_that_is_right_as_often_as_it_says_is_calibrated() -> None:
    labels = np.array([0] * 75 + [1] * 25)
    said = np.tile(np.log([[0.75, 0.25]]), (100, 1)).astype(np.float32)
    assert calibration_error(said, labels) == pytest.approx(0, abs=1e-6)


def test_a_form_that_is_sure_and_wrong_is_not_calibrated() -> None:
    said = np.tile([[50.0, 0.0]], (10, 1)).astype(np.float32)
    assert calibration_error(said, np.array([0] * 6 + [1] * 4)) == pytest.approx(0.4, abs=1e-6)

"""Guessing: the accuracy of the same answers in random order, and which forms are shown to be better than that."""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from steps.metrics.chance import LEAST_SKILL, farthest, guessing, images_for_skill, shows_none, shows_skill

SHARED = 1 - 0.05 / 40
DEALT = 3000
TEST_SETS = [  # images, class frequencies
    (20, [0.5, 0.5]),
    (200, [0.98, 0.02]),
    (1000, [0.995, 0.005]),
    (1000, [0.2] * 5),
    (100, [0.01] * 100),
    (500, [0.5, 0.3, 0.1, 0.05, 0.03, 0.02]),
]


def of_counts(counts: Sequence[Sequence[int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return labels_N and predicted_N of a confusion matrix with one row a label."""
    cells = [
        (label, predicted) for label, row in enumerate(counts) for predicted, n in enumerate(row) for _ in range(n)
    ]
    labels_N, predicted_N = np.array(cells, np.int64).T
    return labels_N, predicted_N


@pytest.mark.parametrize("labels", [(0, 0, 1, 1, 2), (0, 1, 2, 3, 4, 5), (0, 0, 0, 0, 1), (0, 0, 0, 1, 1, 2)])
def test_mean_and_variance_are_those_of_all_ways_to_deal_and_no_more_than_one_in_twenty_goes_beyond(
    labels: tuple[int, ...],
) -> None:
    labels_N, images = np.array(labels), len(labels)
    for message in set(itertools.combinations_with_replacement(range(max(labels) + 1), images)):
        accuracies = (np.array(list(itertools.permutations(message))) == labels_N).mean(axis=1)
        guess = guessing(np.array(message), labels_N, max(labels) + 1)
        assert guess.expected == pytest.approx(accuracies.mean())
        assert guess.variance / (images - 1) == pytest.approx(accuracies.var(), abs=1e-12)
        assert (accuracies - guess.expected > farthest(guess.variance, images, 0.95)).mean() <= 0.05


@pytest.mark.parametrize(("images", "frequencies"), TEST_SETS)
def test_a_form_that_guesses_is_seldom_taken_for_one_that_looks_nor_one_that_looks_for_one_that_guesses(
    images: int, frequencies: list[float]
) -> None:
    random, passed, failed = np.random.default_rng(images), 0, 0
    for _ in range(DEALT):
        labels_N, dealt_N = random.choice(len(frequencies), (2, images), p=frequencies)
        guess = guessing(dealt_N, labels_N, len(frequencies))
        passed += shows_skill(guess, float((dealt_N == labels_N).mean()), images, 0.95)
        looked_N = np.where(random.random(images) < LEAST_SKILL, labels_N, dealt_N)
        guess = guessing(looked_N, labels_N, len(frequencies))
        failed += shows_none(guess, float((looked_N == labels_N).mean()), images, 0.95)
    assert passed <= 0.05 * DEALT and failed <= 0.05 * DEALT


def test_a_form_that_says_the_most_frequent_class_beats_nothing_and_one_that_finds_defects_does() -> None:
    for labels_N, predicted_N, skilled in (
        (*of_counts([[1000, 0], [5, 0]]), False),
        (*of_counts([[1000, 0], [3, 2]]), True),  # the same number of right answers, within two images
        (*of_counts([[950, 50], [0, 5]]), True),  # fewer right answers than always saying "good"
    ):
        accuracy = float((labels_N == predicted_N).mean())
        assert shows_skill(guessing(predicted_N, labels_N, 2), accuracy, len(labels_N), 0.95) == skilled


def test_a_form_that_is_right_less_often_than_guessing_is_shown_to_be_without_skill() -> None:
    labels_N = np.arange(1000) % 5
    shifted_N = np.where(np.arange(1000) < 950, (labels_N + 1) % 5, labels_N)
    guess = guessing(shifted_N, labels_N, 5)
    assert shows_none(guess, 0.05, 1000, SHARED) and not shows_skill(guess, 0.05, 1000, 0.95)


@pytest.mark.parametrize("skill", [0, 0.03, 0.08, 0.2, 0.8])
def test_the_number_of_images_that_would_decide_does_and_one_fewer_does_not(skill: float) -> None:
    labels_N = np.arange(100) % 4
    guess = guessing(labels_N, labels_N, 4)
    accuracy = guess.expected + skill * (1 - guess.expected)
    needed = int(images_for_skill(guess, accuracy, 0.95, SHARED))
    decided = [
        shows_skill(guess, accuracy, count, 0.95) or shows_none(guess, accuracy, count, SHARED)
        for count in (needed, needed - 1)
    ]
    assert decided == [True, False]

"""Whether a classifier does better than guessing, whatever the class frequencies of the test set are.

Guessing is to answer without looking: the same answers, dealt out to the images at random. It keeps the form's own
class frequencies, so that a form which always says the most frequent class beats nothing however often it is
right, and one that finds 2 of 5 defects among 1,000 good parts does, though "good" always is right as often. (The
most frequent class alone, caret's no-information rate, would refuse the second; 1/K would let the first pass.)

Letters: N images, K classes; p the labels' class frequencies, q the answers'.
"""

import math
from dataclasses import dataclass

import numpy as np

from steps.metrics.recall import Ints

LEAST_SKILL = 0.1  # of what guessing gets wrong; what is shown to be less fails where it is not shown to be any
SWAP = 2  # two answers that change places change the number of right ones by so much at most


@dataclass(frozen=True)
class Guessing:
    """What guessing would get: its expected accuracy, and the variance of one image's part of it."""

    expected: float
    variance: float


def guessing(predicted_N: Ints, labels_N: Ints, class_num: int) -> Guessing:
    """Return the accuracy of the same answers dealt out to the images at random (a permutation test, Ojala and
    Garriga 2010, JMLR 11:1833-1863, test 1).

    The mean is the chance agreement of Cohen's kappa, sum of p q; the variance of N images' mean is
    (sum p q + (sum p q)^2 - sum p q (p + q)) / (N - 1), exactly (Fleiss, Cohen, Everitt 1969, Psychological
    Bulletin 72:323-327, eq. 14, who divide by N).
    """
    p_K, q_K = (np.bincount(of_N, minlength=class_num) / len(labels_N) for of_N in (labels_N, predicted_N))
    both_K = p_K * q_K
    expected = float(both_K.sum())
    return Guessing(expected, max(float(expected + expected**2 - (both_K * (p_K + q_K)).sum()), 0.0))


def shows_skill(guess: Guessing, accuracy: float, images: int, confidence: float) -> bool:
    """Return whether so high an accuracy is shown, at `confidence`, to be more than guessing gives."""
    return accuracy - guess.expected > farthest(guess.variance, images, confidence)


def shows_none(guess: Guessing, accuracy: float, images: int, confidence: float) -> bool:
    """Return whether it is shown, at `confidence`, that there is less than LEAST_SKILL.

    That a form is no better at all can be shown by no number of images, of one that guesses neither: hence the
    zone between no skill and LEAST_SKILL, in which either may be shown.
    """
    return _missing(guess, accuracy) > farthest(_variance_of_least(guess), images, confidence)


def images_for_skill(guess: Guessing, accuracy: float, confidence: float, to_fail: float) -> float:
    """Return how many images, of the same frequencies and accuracy, would show skill, or too little."""
    skilled = _images_within(guess.variance, accuracy - guess.expected, confidence)
    return min(skilled, _images_within(_variance_of_least(guess), _missing(guess, accuracy), to_fail))


def farthest(variance: float, images: int, confidence: float) -> float:
    """Return how far from its mean an accuracy comes, to one side, with a chance of 1 - `confidence` at most.

    Bernstein's inequality with the exact variance: it holds for few images and rare classes, where a normal
    approximation promises too much, and asks for a little more than twice as many images where that one would do.
    """
    if images < 2:
        return math.inf
    surprise = -math.log(1 - confidence)
    return math.sqrt(2 * variance * surprise / (images - 1)) + SWAP * surprise / (3 * (images - 1))


def _missing(guess: Guessing, accuracy: float) -> float:
    """Return by how much the accuracy is below that of LEAST_SKILL."""
    return guess.expected + LEAST_SKILL * (1 - guess.expected) - accuracy


def _variance_of_least(guess: Guessing) -> float:
    """Return the variance of one image's part where LEAST_SKILL is right by skill, the rest dealt out."""
    share = LEAST_SKILL * (1 - guess.expected)
    return guess.variance + share * (1 - share)


def _images_within(variance: float, distance: float, confidence: float) -> float:
    """Return how many images make `farthest` less than the distance: a quadratic in 1 / sqrt(N - 1)."""
    if distance <= 0:
        return math.inf
    surprise = -math.log(1 - confidence)
    linear, square = math.sqrt(2 * variance * surprise), SWAP * surprise / 3
    root = (math.sqrt(linear**2 + 4 * square * distance) - linear) / (2 * square)
    return math.floor(1 / root**2) + 2

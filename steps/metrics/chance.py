"""Whether a classifier beats guessing, for any class frequencies of the test set.

Guessing means the same answers in a random order. Guessing keeps the class frequencies of the answers. So a form
that always answers the most frequent class never beats guessing, even if its accuracy is high. A form that finds 2
of 5 defects among 1,000 good parts does beat guessing, though the constant answer "good" is almost as accurate.
(The accuracy of the most frequent class, caret's no-information rate, would refuse the second form. 1/K would pass
the first form.)

Letters: N images, K classes; p the labels' class frequencies, q the answers'.
"""

import math
from dataclasses import dataclass

import numpy as np

from steps.metrics.recall import Ints

# The share, of what guessing gets wrong, that a form must answer correctly. A form fails where a smaller share is
# shown and no skill is shown.
LEAST_SKILL = 0.1
SWAP = 2  # exchanging two answers changes the number of correct answers by at most this


@dataclass(frozen=True)
class Guessing:
    """The expected accuracy of guessing, and the variance of one image's part of that accuracy."""

    expected: float
    variance: float


def guessing(predicted_N: Ints, labels_N: Ints, class_num: int) -> Guessing:
    """Return the accuracy of the same answers in a random order (a permutation test: Ojala and Garriga 2010, JMLR
    11:1833-1863, test 1).

    The mean is the chance agreement of Cohen's kappa, sum of p q; the variance of N images' mean is
    (sum p q + (sum p q)^2 - sum p q (p + q)) / (N - 1), exactly (Fleiss, Cohen, Everitt 1969, Psychological
    Bulletin 72:323-327, eq. 14, who divide by N).
    """
    p_K, q_K = (np.bincount(of_N, minlength=class_num) / len(labels_N) for of_N in (labels_N, predicted_N))
    both_K = p_K * q_K
    expected = float(both_K.sum())
    return Guessing(expected, max(float(expected + expected**2 - (both_K * (p_K + q_K)).sum()), 0.0))


def shows_skill(guess: Guessing, accuracy: float, images: int, confidence: float) -> bool:
    """Return whether this accuracy is shown, at `confidence`, to be above that of guessing."""
    return accuracy - guess.expected > farthest(guess.variance, images, confidence)


def shows_none(guess: Guessing, accuracy: float, images: int, confidence: float) -> bool:
    """Return whether the skill is shown, at `confidence`, to be below LEAST_SKILL.

    No number of images can show that a form has no skill at all. A form fails only below LEAST_SKILL, so that
    enough images always decide: between no skill and LEAST_SKILL, both results can be shown.
    """
    return _missing(guess, accuracy) > farthest(_variance_of_least(guess), images, confidence)


def images_for_skill(guess: Guessing, accuracy: float, confidence: float, to_fail: float) -> float:
    """Return how many images, with the same frequencies and accuracy, would show skill or too little skill."""
    skilled = _images_within(guess.variance, accuracy - guess.expected, confidence)
    return min(skilled, _images_within(_variance_of_least(guess), _missing(guess, accuracy), to_fail))


def farthest(variance: float, images: int, confidence: float) -> float:
    """Return the deviation above its mean that guessing exceeds with a chance of at most 1 - `confidence`.

    This is Bernstein's inequality with the exact variance. The inequality holds for few images and rare classes,
    where a normal approximation is too narrow. Elsewhere it needs a little more than twice as many images.
    """
    if images < 2:
        return math.inf
    surprise = -math.log(1 - confidence)
    return math.sqrt(2 * variance * surprise / (images - 1)) + SWAP * surprise / (3 * (images - 1))


def _missing(guess: Guessing, accuracy: float) -> float:
    """Return LEAST_SKILL's accuracy minus this accuracy."""
    return guess.expected + LEAST_SKILL * (1 - guess.expected) - accuracy


def _variance_of_least(guess: Guessing) -> float:
    """Return the variance of one image's part, for a form with LEAST_SKILL that guesses all other images."""
    share = LEAST_SKILL * (1 - guess.expected)
    return guess.variance + share * (1 - share)


def _images_within(variance: float, distance: float, confidence: float) -> float:
    """Return how many images make `farthest` smaller than the distance: a quadratic in 1 / sqrt(N - 1)."""
    if distance <= 0:
        return math.inf
    surprise = -math.log(1 - confidence)
    linear, square = math.sqrt(2 * variance * surprise), SWAP * surprise / 3
    root = (math.sqrt(linear**2 + 4 * square * distance) - linear) / (2 * square)
    return math.floor(1 / root**2) + 2

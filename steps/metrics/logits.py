"""How far the scores of two forms differ before the softmax, which hides differences of a very sure network.

Letters: N images, K classes, M scores that are kept of each image. An image's scores are taken from their mean, as
a softmax sees no shift.
"""

from dataclasses import dataclass

import numpy as np

from steps.metrics.agreement import places
from steps.metrics.scores import Floats, Ints, Logits, Scores

TINY = 1e-30  # of a spread: less is none


@dataclass(frozen=True)
class LogitDifferences:
    """Squares of the scores' difference, over the mean square of the reference's scores of the image.

    Where an image's scores are less spread than those of the middle image, they are held to that one's spread: it
    is their share of an ordinary answer that counts. `mean_N` is over the classes of an image; `mean_K`, and the
    deviation of what it is the mean of, over the `images_K` images in which the reference kept the class.
    """

    mean_N: Floats
    mean_K: Floats
    deviation_K: Floats
    images_K: Ints


def logit_differences(reference: Scores, form: Scores) -> LogitDifferences:
    """Return how far the form's scores are from the reference's; both must be finite, of the same images.

    Only classes that the reference kept are seen; one of them that the form did not keep is taken to have the last
    score that it kept.
    """
    spread_N = np.concatenate([np.square(_centred(part.logits_NM)).mean(axis=1) for part in reference.parts()])
    yard_N = np.maximum(np.maximum(spread_N, np.median(spread_N)), TINY)
    means, images_K, sums_K, squares_K = [], *np.zeros((3, reference.class_num))
    begin = 0
    for wanted, found in zip(reference.parts(), form.parts(), strict=True):
        end = begin + len(wanted.logits_NM)
        apart_NM = np.square(_centred(_met(wanted, found)) - _centred(wanted.logits_NM)) / yard_N[begin:end, None]
        means.append(apart_NM.mean(axis=1))
        images_K += _by_class(wanted, np.ones_like(apart_NM))
        sums_K += _by_class(wanted, apart_NM)
        squares_K += _by_class(wanted, np.square(apart_NM))
        begin = end
    mean_K = sums_K / np.maximum(images_K, 1)
    beyond_K = np.maximum(squares_K - sums_K * mean_K, 0)  # rounding may leave a hair below zero
    deviation_K = np.sqrt(beyond_K / np.maximum(images_K - 1, 1))
    return LogitDifferences(np.concatenate(means), mean_K, deviation_K, images_K.astype(np.int64))


def _centred(logits_NM: Logits) -> Floats:
    centred_NM: Floats = logits_NM - logits_NM.mean(axis=1, dtype=np.float64, keepdims=True)
    return centred_NM


def _met(reference: Scores, form: Scores) -> Logits:
    """Return the form's scores of the classes that the reference kept, in its order."""
    if reference.classes_NM is None:
        return form.logits_NM
    at_NM, both_NM = places(reference, form)
    return np.where(both_NM, np.take_along_axis(form.logits_NM, at_NM, axis=1), form.logits_NM[:, -1:])


def _by_class(scores: Scores, values_NM: Floats) -> Floats:
    """Return the sum of each class's values, which stand in the places of its scores."""
    sums_K: Floats
    if scores.classes_NM is None:
        sums_K = values_NM.sum(axis=0)
    else:
        sums_K = np.bincount(scores.classes_NM.ravel(), values_NM.ravel(), scores.class_num).astype(np.float64)
    return sums_K

"""How far the logits of two forms differ. The softmax hides such differences of a very confident network.

Letters: N images, K classes, M stored scores of each image. The mean of an image's logits is subtracted first,
because the softmax does not depend on the mean.
"""

from dataclasses import dataclass

import numpy as np

from steps.metrics.agreement import places
from steps.metrics.scores import Floats, Ints, Logits, Scores

TINY = 1e-30  # a smaller spread counts as no spread


@dataclass(frozen=True)
class LogitDifferences:
    """Squared differences of the logits, divided by the mean square of the reference's logits of the image.

    The divisor is at least the median over all images, so that an image with a small spread does not exaggerate a
    difference. `mean_N` is the mean over the classes of an image. `mean_K` and `deviation_K` are the mean and the
    standard deviation over the `images_K` images in which the reference stored the class.
    """

    mean_N: Floats
    mean_K: Floats
    deviation_K: Floats
    images_K: Ints


def logit_differences(reference: Scores, form: Scores) -> LogitDifferences:
    """Return how far the form's scores are from the reference's; both must be finite, of the same images.

    Only classes that the reference stored are compared. A class that the form did not store gets the form's lowest
    stored score.
    """
    spread_N = np.concatenate([np.square(_centred(part.logits_NM)).mean(axis=1) for part in reference.parts()])
    scale_N = np.maximum(np.maximum(spread_N, np.median(spread_N)), TINY)
    means, images_K, sums_K, squares_K = [], *np.zeros((3, reference.class_num))
    begin = 0
    for expected, found in zip(reference.parts(), form.parts(), strict=True):
        end = begin + len(expected.logits_NM)
        difference_NM = (
            np.square(_centred(_matched(expected, found)) - _centred(expected.logits_NM))
            / scale_N[begin:end, None]
        )
        means.append(difference_NM.mean(axis=1))
        images_K += _by_class(expected, np.ones_like(difference_NM))
        sums_K += _by_class(expected, difference_NM)
        squares_K += _by_class(expected, np.square(difference_NM))
        begin = end
    mean_K = sums_K / np.maximum(images_K, 1)
    residual_K = np.maximum(squares_K - sums_K * mean_K, 0)  # rounding can make the sum slightly negative
    deviation_K = np.sqrt(residual_K / np.maximum(images_K - 1, 1))
    return LogitDifferences(np.concatenate(means), mean_K, deviation_K, images_K.astype(np.int64))


def _centred(logits_NM: Logits) -> Floats:
    centred_NM: Floats = logits_NM - logits_NM.mean(axis=1, dtype=np.float64, keepdims=True)
    return centred_NM


def _matched(reference: Scores, form: Scores) -> Logits:
    """Return the form's scores of the classes that the reference stored, in the reference's order."""
    if reference.classes_NM is None:
        return form.logits_NM
    at_NM, both_NM = places(reference, form)
    return np.where(both_NM, np.take_along_axis(form.logits_NM, at_NM, axis=1), form.logits_NM[:, -1:])


def _by_class(scores: Scores, values_NM: Floats) -> Floats:
    """Return the sum of each class's values; `values_NM` has the order of the scores."""
    sums_K: Floats
    if scores.classes_NM is None:
        sums_K = values_NM.sum(axis=0)
    else:
        sums_K = np.bincount(scores.classes_NM.ravel(), values_NM.ravel(), scores.class_num).astype(np.float64)
    return sums_K

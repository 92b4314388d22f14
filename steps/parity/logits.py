"""Criteria of the scores before the softmax: whether each is the trained form's, up to what the precision rounds.

All others see the softmax. Of a very sure network that is 0 or 1 whatever the scores are: half of them, or much
noise in them, change nothing else. And among a thousand classes a test set shows few images of each: two that are
much alike, exchanged, change three answers of a thousand. But their scores are off in all images.
Letters: N test images, K classes.
"""

import math

import numpy as np

from steps.metrics.intervals import MOST_IMAGES, images_for_mean, images_to_show, least_mean, least_means
from steps.metrics.logits import LogitDifferences
from steps.parity.pair import Finding, Pair, some, wanted
from steps.reports.card import Precision

# Of the spread of the scores, with room: for deep networks, other kernels, and pixels that an engine resizes.
ROUNDING: dict[Precision, float] = {"fp32": 0.05, "fp16": 0.05, "bf16": 0.1, "int8": 0.25}
IN_ONE_CLASS = 2.0  # times ROUNDING: the worst of a thousand classes is rounded by 1.6 times what all of them are


def logit_difference(pair: Pair, bound: float) -> Finding:
    """Judge how far the scores are from the reference's, in multiples of what the precision may round.

    The value is the root mean square of the difference over that of the reference's own scores, over ROUNDING.
    """
    mean_N, rounding, to_fail = (
        pair.logit_differences.mean_N,
        ROUNDING[pair.form.card.precision],
        pair.confidence_to_fail(),
    )
    share, limit = math.sqrt(mean_N.mean()), (bound * rounding) ** 2
    value, evidence = share / rounding, _evidence(pair, share, rounding)
    if value <= bound:
        return Finding(value, "pass", "stays within", evidence)
    if least_mean(mean_N, to_fail) > limit:
        return Finding(value, "fail", "exceeds", evidence)
    advice = wanted(images_for_mean(mean_N, limit, to_fail), len(mean_N))
    return Finding(value, "inconclusive", "exceeds, though not shown for other images,", evidence, advice)


def class_logit_difference(pair: Pair, bound: float) -> Finding:
    """Judge how far each class's score is from the reference's over all images, whether they are of it or not.

    The value is that of the worst class, over IN_ONE_CLASS times ROUNDING. A class that is beyond the bound on
    these images, and not shown to be for others, leaves it open. But where only the highest scores are kept, few
    images may tell of a class: there it is listed, and blocks only where `classes` is strict.
    """
    differences, rounding = pair.logit_differences, IN_ONE_CLASS * ROUNDING[pair.form.card.precision]
    share_K, limit = np.sqrt(differences.mean_K), (bound * rounding) ** 2
    to_fail = pair.confidence_to_fail(int((differences.images_K > 0).sum()))
    least_K = least_means(differences.mean_K, differences.deviation_K, differences.images_K, to_fail)
    beyond_K, short_K = share_K > bound * rounding, least_K > limit
    worst = int(np.argmax(np.where(short_K, share_K + share_K.max(), share_K)))
    value, undecided = float(share_K[worst]) / rounding, pair.names(beyond_K & ~short_K)
    which = f"class '{pair.reference.card.class_names[worst]}': "
    evidence = _evidence(pair, float(share_K[worst]), rounding, which, some(undecided))
    if short_K.any():
        return Finding(value, "fail", "exceeds", evidence, undecided=undecided)
    if not undecided:
        return Finding(value, "pass", "stays within", evidence)
    if pair.classes == "list" and pair.reference.scores.classes_NM is not None:
        return Finding(value, "pass", "is not shown to exceed", evidence, undecided=undecided)
    advice = wanted(_images_for_class(differences, worst, limit, to_fail), len(differences.mean_N))
    relation = "exceeds, though not shown for other images,"
    return Finding(value, "inconclusive", relation, evidence, advice, undecided)


def _images_for_class(differences: LogitDifferences, worst: int, limit: float, to_fail: float) -> float:
    """Return how many test images like these would show that the class is beyond the limit; infinity where
    MOST_IMAGES would not.
    """
    mean, deviation, images = (
        float(of_K[worst]) for of_K in (differences.mean_K, differences.deviation_K, differences.images_K)
    )
    if images < 2:
        return 2 * len(differences.mean_N)  # one image of the class shows nothing, whatever it is
    needed = images_to_show(mean - limit, deviation, to_fail) * len(differences.mean_N) / images
    return needed if needed <= MOST_IMAGES else math.inf


def _evidence(pair: Pair, share: float, rounding: float, which: str = "", more: str = "") -> str:
    precision = pair.form.card.precision
    return f" ({which}{share:.3g} of the scores' spread, of which {precision} may round {rounding:g}{more})"

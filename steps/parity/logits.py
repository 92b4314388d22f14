"""Criteria of the logits, the scores before the softmax: do they equal the trained form's, up to rounding?

All other criteria see the softmax. The softmax of a very confident network is 0 or 1: halving the logits, or
adding noise to the logits, changes no other criterion. With a thousand classes, a test set has few images of each
class: swapping two similar classes changes three answers of a thousand, but changes their logits in all images.
Letters: N test images, K classes.
"""

import math

import numpy as np

from steps.metrics.intervals import MOST_IMAGES, images_for_mean, images_to_show, least_mean, least_means
from steps.metrics.logits import LogitDifferences
from steps.parity.pair import Finding, Pair, images_advice, undecided_note
from steps.reports.card import Precision

# As a share of the spread of the scores, with room for deep networks, other kernels, and engines that resize.
ROUNDING: dict[Precision, float] = {"fp32": 0.05, "fp16": 0.05, "bf16": 0.1, "int8": 0.25}
IN_ONE_CLASS = 2.0  # times ROUNDING: the rounding of the worst of 1,000 classes is 1.6 times that of all classes


def logit_difference(pair: Pair, bound: float) -> Finding:
    """Judge the difference of the logits from the reference's, in multiples of the allowed rounding.

    The value is rms(form - reference) / rms(reference) / ROUNDING, with each image's logits centred.
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
    advice = images_advice(images_for_mean(mean_N, limit, to_fail), len(mean_N))
    return Finding(value, "inconclusive", "exceeds, though not shown for other images,", evidence, advice)


def class_logit_difference(pair: Pair, bound: float) -> Finding:
    """Judge the difference of each class's logit from the reference's, over the images of all classes.

    The value is the worst class's difference over IN_ONE_CLASS * ROUNDING. A class beyond the bound on these
    images, but not shown to be beyond on others, makes the criterion inconclusive. Where only the highest
    scores are stored, few images may have a score of a class: such a class is listed, and blocks only where
    `classes` is strict.
    """
    differences, rounding = pair.logit_differences, IN_ONE_CLASS * ROUNDING[pair.form.card.precision]
    share_K, limit = np.sqrt(differences.mean_K), (bound * rounding) ** 2
    to_fail = pair.confidence_to_fail(int((differences.images_K > 0).sum()))
    least_K = least_means(differences.mean_K, differences.deviation_K, differences.images_K, to_fail)
    beyond_K, short_K = share_K > bound * rounding, least_K > limit
    worst = int(np.argmax(np.where(short_K, share_K + share_K.max(), share_K)))
    value, undecided = float(share_K[worst]) / rounding, pair.names(beyond_K & ~short_K)
    worst_class = f"class '{pair.reference.card.class_names[worst]}': "
    evidence = _evidence(pair, float(share_K[worst]), rounding, worst_class, undecided_note(undecided))
    if short_K.any():
        return Finding(value, "fail", "exceeds", evidence, undecided=undecided)
    if not undecided:
        return Finding(value, "pass", "stays within", evidence)
    if pair.classes == "list" and pair.reference.scores.classes_NM is not None:
        return Finding(value, "pass", "is not shown to exceed", evidence, undecided=undecided)
    advice = images_advice(_images_for_class(differences, worst, limit, to_fail), len(differences.mean_N))
    relation = "exceeds, though not shown for other images,"
    return Finding(value, "inconclusive", relation, evidence, advice, undecided)


def _images_for_class(differences: LogitDifferences, worst: int, limit: float, to_fail: float) -> float:
    """Return how many test images like these would show that the class is beyond the limit.

    Infinity stands for more than MOST_IMAGES.
    """
    mean, deviation, images = (
        float(of_K[worst]) for of_K in (differences.mean_K, differences.deviation_K, differences.images_K)
    )
    if images < 2:
        return 2 * len(differences.mean_N)  # an interval needs two images of the class
    needed = images_to_show(mean - limit, deviation, to_fail) * len(differences.mean_N) / images
    return needed if needed <= MOST_IMAGES else math.inf


def _evidence(pair: Pair, share: float, rounding: float, class_note: str = "", more: str = "") -> str:
    precision = pair.form.card.precision
    return f" ({class_note}{share:.3g} of the scores' spread; {precision} may round {rounding:g} of it{more})"

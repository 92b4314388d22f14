"""Criteria of closeness: does a form give the answers and the scores of the trained form on these test images?

A form passes where the figure on the test images keeps the bound. A form *fails* only where an interval shows that
other images exceed the bound too, so that a few odd images cannot fail a correct form. Otherwise the criterion is
undecided. The largest difference is an exception: one image decides.
Letters: N test images.
"""

import math
from dataclasses import replace

import numpy as np

from steps.metrics.agreement import same_class
from steps.metrics.calibration import calibration_parts
from steps.metrics.intervals import (
    Floats,
    falls_short,
    images_for_mean,
    images_to_judge,
    least_mean,
)
from steps.parity.pair import Bools, Finding, Pair, images_advice, undecided_note

TAIL = 0.01  # the share of images that score_difference ignores


def agreement(pair: Pair, bound: float) -> Finding:
    """Judge the share of images that both forms put into the same class."""
    value, images = same_class(pair.reference.scores, pair.form.scores), len(pair.lost_N)
    if value >= bound:
        return Finding(value, "pass", "reaches")
    same = round(value * images)
    if falls_short(same, images, bound, pair.confidence_to_fail()):
        return Finding(value, "fail", "is below")
    needed = float(images_to_judge(same, images, bound, pair.confidence_to_fail()))
    return Finding(
        value,
        "inconclusive",
        "is below, but not shown for other images to be below",
        "",
        images_advice(needed, images),
    )


def class_agreement(pair: Pair, bound: float) -> Finding:
    """Judge the agreement in each class: of the images that the reference puts there, the share of the form.

    Swapping two rare classes changes few images of a large test set. The interval of each class's drop stays
    undecided, because the interval allows any number of gains. Agreement per class detects the swap: if the true
    agreement is .95 or more, no agreement in three images (10 classes) or in five images (1,000 classes) is too
    unlikely. `falls_short` holds for any number of images, so a form that keeps the bound in each class fails with
    no more than this criterion's share of the error. int8 keeps the bound too: int8 changes single answers, not
    the answers of a whole class.
    A class below the bound on these images, but not shown to be below on others, is listed. Where `classes` is
    strict, such a class blocks.
    """
    predicted_N, classes = pair.reference.predicted_N, pair.reference.card.class_num
    images_K = np.bincount(predicted_N, minlength=classes)
    seen_K = np.flatnonzero(images_K)
    of_K = images_K[seen_K]
    same_K = np.bincount(predicted_N, predicted_N == pair.form.predicted_N, classes)[seen_K]
    share_K = same_K / of_K
    to_fail = pair.confidence_to_fail(len(seen_K))
    short_K, undecided_K = falls_short(same_K, of_K, bound, to_fail), np.zeros(classes, np.bool_)
    undecided_K[seen_K] = (share_K < bound) & ~short_K
    worst = int(np.argmin(np.where(short_K, share_K - 2, share_K)))
    value, undecided = float(share_K[worst]), pair.names(undecided_K)
    worst_class = f"class '{pair.reference.card.class_names[seen_K[worst]]}' of {int(of_K[worst])} images"
    evidence = f" ({worst_class}{undecided_note(undecided)})"
    if short_K.any():
        return Finding(value, "fail", "is below", evidence, undecided=undecided)
    if not undecided:
        return Finding(value, "pass", "reaches", evidence)
    if pair.classes == "list":
        return Finding(value, "pass", "is not shown to be below", evidence, undecided=undecided)
    needed = float(images_to_judge(same_K[worst], of_K[worst], bound, to_fail))
    many = f"about {needed:.0f}" if np.isfinite(needed) else "no number of"
    advice = f"; {many} test images that {pair.reference.form} puts there (now {of_K[worst]}) would decide"
    relation = "is below, but not shown for other images to be below"
    return Finding(value, "inconclusive", relation, evidence, advice, undecided)


def score_difference(pair: Pair, bound: float) -> Finding:
    """Judge the softmax difference that 99 % of the images do not exceed."""
    difference = pair.closeness.difference
    at_least, value = (
        float(np.quantile(each_N, 1 - TAIL, method="higher")) for each_N in (difference.least_N, difference.most_N)
    )
    prefix = _bound_prefix(difference.least_N, difference.most_N)
    evidence = f" (99 of 100 images; the largest {difference.most_N.max():.3g})"
    if value <= bound:
        return Finding(value, "pass", "stays within", evidence, prefix=prefix)
    if at_least <= bound:
        return _not_shown(value, at_least, evidence, prefix)
    within, images = int((difference.least_N <= bound).sum()), len(difference.least_N)
    if falls_short(within, images, 1 - TAIL, pair.confidence_to_fail()):
        return Finding(value, "fail", "exceeds", evidence, prefix=prefix)
    needed = float(images_to_judge(within, images, 1 - TAIL, pair.confidence_to_fail()))
    relation = "exceeds, though not shown for other images,"
    return Finding(value, "inconclusive", relation, evidence, images_advice(needed, images), prefix=prefix)


def largest_score_difference(pair: Pair, bound: float) -> Finding:
    """Judge the largest softmax difference of these images: an exact figure, which needs no interval."""
    difference = pair.closeness.difference
    worst = int(difference.most_N.argmax())
    value, prefix = float(difference.most_N[worst]), _bound_prefix(difference.least_N, difference.most_N)
    evidence = f" (image '{pair.form.ids[worst]}')"
    if value <= bound:
        return Finding(value, "pass", "stays within", evidence, prefix=prefix)
    if difference.least_N.max() > bound:
        return Finding(value, "fail", "exceeds", evidence, prefix=prefix)
    return _not_shown(value, float(difference.least_N.max()), evidence, prefix)


def divergence(pair: Pair, bound: float) -> Finding:
    """Judge the mean Kullback-Leibler divergence of the softmax from the reference's, in nats.

    With very many classes and smoothed labels, much of the softmax lies in scores that were not stored. The upper
    bound is then too large to tell an identical form from a different one. In this case the likely divergence
    decides (metrics.omitted_scores), and the figure shown is the upper bound; where `classes` is strict, the form
    is blocked. The lower bound, from the stored scores with all others taken as one class, can always fail a form.
    """
    between, likely = pair.closeness.divergence, float(pair.closeness.likely_N.mean())
    finding = _mean(pair, between.least_N, between.most_N, bound)
    if finding.judgement != "inconclusive" or between.least_N.mean() > bound:
        return finding
    evidence = f" (at least {between.least_N.mean():.3g}, likely {likely:.3g})"
    if pair.classes == "strict" or likely > bound:
        return replace(finding, evidence=evidence)
    return Finding(finding.value, "pass", "is not shown to exceed", evidence, prefix=finding.prefix)


def calibration_increase(pair: Pair, bound: float) -> Finding:
    """Judge the increase of the expected calibration error from the reference to the form."""
    form_N, reference_N = (
        calibration_parts(one.scores.confidence_N, one.right_N) for one in (pair.form, pair.reference)
    )
    return _mean(pair, form_N - reference_N, form_N - reference_N, bound)


def _mean(pair: Pair, least_N: Floats, most_N: Floats, bound: float) -> Finding:
    value, prefix = float(most_N.mean()), _bound_prefix(least_N, most_N)
    if value <= bound:
        return Finding(value, "pass", "stays within", prefix=prefix)
    to_fail = pair.confidence_to_fail()
    if least_mean(least_N, to_fail) > bound:
        return Finding(value, "fail", "exceeds", prefix=prefix)
    if least_N.mean() <= bound:
        return _not_shown(value, float(least_N.mean()), f" (at least {least_N.mean():.3g})", prefix)
    needed = images_for_mean(least_N, bound, to_fail)
    relation = "exceeds, though not shown for other images,"
    return Finding(value, "inconclusive", relation, "", images_advice(needed, len(least_N)), prefix=prefix)


def _not_shown(value: float, at_least: float, evidence: str, prefix: str) -> Finding:
    """Return the finding for a bound that lies between the least and the largest possible value of the figure."""
    relation = "is not shown to stay within"
    return Finding(
        value, "inconclusive", relation, evidence, _omitted_advice(value), prefix=prefix, at_least=at_least
    )


def _omitted_advice(most: float) -> str:
    """Return the sentence's end where too few scores were stored to decide, with any number of images."""
    step = 10.0 ** (math.floor(math.log10(most)) - 1)
    return (
        "; the rest lies in scores that were not stored, so no number of test images would decide: a limit of "
        f"{math.ceil(most / step) * step:.3g} would, or a network whose highest scores hold more of its softmax"
    )


def _bound_prefix(least_N: Floats, most_N: Floats) -> str:
    """Return "at most " where the scores that were not stored can change the figure, else nothing."""
    uncertain_N: Bools = most_N - least_N > 1e-6
    return "at most " if uncertain_N.any() else ""

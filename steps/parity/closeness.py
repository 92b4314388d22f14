"""Criteria of closeness: whether a form gives the answers and the scores of the trained one on these test images.

The figure on the test images must keep its bound. One that does not *fails* only where images like these are shown
to exceed it too, so that a handful of odd images cannot fail an honest form; else it is undecided. The largest
difference is the exception: it is a fact of these images, and one of them decides.
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
from steps.parity.pair import Bools, Finding, Pair, some, wanted

TAIL = 0.01  # of the images: the share that score_difference leaves out


def agreement(pair: Pair, bound: float) -> Finding:
    """Judge the share of images that get the same class id."""
    value, images = same_class(pair.reference.scores, pair.form.scores), len(pair.lost_N)
    if value >= bound:
        return Finding(value, "pass", "reaches")
    same = round(value * images)
    if falls_short(same, images, bound, pair.confidence_to_fail()):
        return Finding(value, "fail", "is below")
    needed = float(images_to_judge(same, images, bound, pair.confidence_to_fail()))
    return Finding(
        value, "inconclusive", "is below, but not shown for other images to be below", "", wanted(needed, images)
    )


def class_agreement(pair: Pair, bound: float) -> Finding:
    """Judge, of the images that the reference puts into each class, the share that the form puts there too.

    Two rare classes exchanged change few images of a large test set, and leave Tango's interval of each one's drop
    open, as it allows for any number of gains. But of a form that agrees on .95 of a class, or more, none of three
    images is surprise enough among 10 classes, none of five among 1,000: the chance is bounded for any number of
    images (`falls_short`), so that a form which keeps the bound in each class fails with no more than this
    criterion's share of the error, int8 as well: an answer that falls the other way is not one of a whole class.
    A class that is below on these images, and not shown to be for others, is listed; where `classes` is strict, it
    blocks.
    """
    said_N, classes = pair.reference.predicted_N, pair.reference.card.class_num
    images_K = np.bincount(said_N, minlength=classes)
    seen_K = np.flatnonzero(images_K)
    of_K = images_K[seen_K]
    same_K = np.bincount(said_N, said_N == pair.form.predicted_N, classes)[seen_K]
    share_K = same_K / of_K
    to_fail = pair.confidence_to_fail(len(seen_K))
    short_K, undecided_K = falls_short(same_K, of_K, bound, to_fail), np.zeros(classes, np.bool_)
    undecided_K[seen_K] = (share_K < bound) & ~short_K
    worst = int(np.argmin(np.where(short_K, share_K - 2, share_K)))
    value, undecided = float(share_K[worst]), pair.names(undecided_K)
    which = f"class '{pair.reference.card.class_names[seen_K[worst]]}' of {int(of_K[worst])} images"
    evidence = f" ({which}{some(undecided)})"
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
    """Judge the softmax difference that 99 of 100 images stay below."""
    difference = pair.closeness.difference
    at_least, value = (
        float(np.quantile(each_N, 1 - TAIL, method="higher")) for each_N in (difference.least_N, difference.most_N)
    )
    known = _known(difference.least_N, difference.most_N)
    evidence = f" (99 of 100 images; the largest {difference.most_N.max():.3g})"
    if value <= bound:
        return Finding(value, "pass", "stays within", evidence, known=known)
    if at_least <= bound:
        return _not_shown(value, at_least, evidence, known)
    within, images = int((difference.least_N <= bound).sum()), len(difference.least_N)
    if falls_short(within, images, 1 - TAIL, pair.confidence_to_fail()):
        return Finding(value, "fail", "exceeds", evidence, known=known)
    needed = float(images_to_judge(within, images, 1 - TAIL, pair.confidence_to_fail()))
    relation = "exceeds, though not shown for other images,"
    return Finding(value, "inconclusive", relation, evidence, wanted(needed, images), known=known)


def largest_score_difference(pair: Pair, bound: float) -> Finding:
    """Judge the largest softmax difference of all images: a fact about these, so there is nothing to show."""
    difference = pair.closeness.difference
    worst = int(difference.most_N.argmax())
    value, known = float(difference.most_N[worst]), _known(difference.least_N, difference.most_N)
    evidence = f" (image '{pair.form.ids[worst]}')"
    if value <= bound:
        return Finding(value, "pass", "stays within", evidence, known=known)
    if difference.least_N.max() > bound:
        return Finding(value, "fail", "exceeds", evidence, known=known)
    return _not_shown(value, float(difference.least_N.max()), evidence, known)


def divergence(pair: Pair, bound: float) -> Finding:
    """Judge the mean Kullback-Leibler divergence of the softmax from the reference's, in nats.

    Where much of the softmax lies in scores that were not kept, as with very many classes and labels that are
    smoothed, the bound from above says too little: an equal form could not be told from others. There it is judged
    by what it likely is (metrics.omitted_scores); the figure is a bound, or blocks where `classes` is strict.
    What the scores that were kept show, with the rest taken as one class, fails a form in any case.
    """
    between, likely = pair.closeness.divergence, float(pair.closeness.likely_N.mean())
    finding = _mean(pair, between.least_N, between.most_N, bound)
    if finding.judgement != "inconclusive" or between.least_N.mean() > bound:
        return finding
    evidence = f" (at least {between.least_N.mean():.3g}, likely {likely:.3g})"
    if pair.classes == "strict" or likely > bound:
        return replace(finding, evidence=evidence)
    return Finding(finding.value, "pass", "is not shown to exceed", evidence, known=finding.known)


def calibration_increase(pair: Pair, bound: float) -> Finding:
    """Judge how much larger the expected calibration error is than the reference's."""
    form_N, reference_N = (
        calibration_parts(one.scores.confidence_N, one.right_N) for one in (pair.form, pair.reference)
    )
    return _mean(pair, form_N - reference_N, form_N - reference_N, bound)


def _mean(pair: Pair, least_N: Floats, most_N: Floats, bound: float) -> Finding:
    value, known = float(most_N.mean()), _known(least_N, most_N)
    if value <= bound:
        return Finding(value, "pass", "stays within", known=known)
    to_fail = pair.confidence_to_fail()
    if least_mean(least_N, to_fail) > bound:
        return Finding(value, "fail", "exceeds", known=known)
    if least_N.mean() <= bound:
        return _not_shown(value, float(least_N.mean()), f" (at least {least_N.mean():.3g})", known)
    needed = images_for_mean(least_N, bound, to_fail)
    relation = "exceeds, though not shown for other images,"
    return Finding(value, "inconclusive", relation, "", wanted(needed, len(least_N)), known=known)


def _not_shown(value: float, at_least: float, evidence: str, known: str) -> Finding:
    """Return that the bound lies between the least and the most that the figure can be."""
    relation = "is not shown to stay within"
    return Finding(value, "inconclusive", relation, evidence, _unkept(value), known=known, at_least=at_least)


def _unkept(most: float) -> str:
    """Return the sentence's end where what was kept of the scores is too little, however many the images are."""
    step = 10.0 ** (math.floor(math.log10(most)) - 1)
    return (
        "; the rest lies in scores that were not kept, so that no number of test images would decide: a limit of "
        f"{math.ceil(most / step) * step:.3g} would, or a network whose highest scores hold more of its softmax"
    )


def _known(least_N: Floats, most_N: Floats) -> str:
    """Return "at most" where scores that were not kept could make a difference that is seen."""
    loose_N: Bools = most_N - least_N > 1e-6
    return "at most " if loose_N.any() else ""

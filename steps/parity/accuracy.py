"""Criteria of accuracy. Accuracy must hold for future images, so a confidence interval judges each criterion.

A bound *holds* where the interval lies within the bound. A bound is *broken* where the interval lies beyond the
bound. Elsewhere the criterion is undecided. Letters: N test images, K classes.
"""

import numpy as np
import numpy.typing as npt

from steps.metrics.chance import Guessing, images_for_skill, shows_none, shows_skill
from steps.metrics.intervals import (
    Floats,
    falls_short,
    goes_beyond,
    images_for_drop,
    images_to_judge,
    largest_drop,
    least_drop,
    least_share,
    stays_within,
)
from steps.metrics.recall import recall_per_class
from steps.parity.pair import Bools, Finding, Pair, images_advice, percent, undecided_note


def judged_drop(
    lost: npt.ArrayLike,
    gained: npt.ArrayLike,
    images: npt.ArrayLike,
    bound: float,
    confidence: float,
    to_fail: float,
) -> tuple[Bools, Bools]:
    """Return two masks: the drop stays within `bound` (at `confidence`), or exceeds `bound` (at `to_fail`)."""
    holds = stays_within(lost, gained, images, bound, confidence)
    return holds, ~holds & goes_beyond(lost, gained, images, bound, to_fail)


def top1_drop(pair: Pair, bound: float) -> Finding:
    """Judge the drop of top-1 accuracy by its one-sided interval: within `bound`, beyond `bound`, or not shown."""
    counts = int(pair.lost_N.sum()), int(pair.gained_N.sum()), len(pair.lost_N)
    drop = (counts[0] - counts[1]) / counts[2]
    low, high = (float(end(*counts, pair.confidence)) for end in (least_drop, largest_drop))
    evidence = f" (at most {high:.3g} at {percent(pair.confidence)})"
    to_fail = pair.confidence_to_fail()
    holds, broken = judged_drop(*counts, bound, pair.confidence, to_fail)
    if holds:
        return Finding(drop, "pass", "stays within", evidence, at_least=low)
    if broken:
        return Finding(drop, "fail", "exceeds", evidence, at_least=low)
    needed = float(images_for_drop(*counts, bound, to_fail if drop > bound else pair.confidence))
    relation = "is not shown to stay within"
    return Finding(drop, "inconclusive", relation, evidence, images_advice(needed, counts[2]), at_least=low)


def champion_drop(pair: Pair, bound: float) -> Finding:
    """Judge the drop of top-1 accuracy from the release in production, as `top1_drop` does."""
    return top1_drop(pair, bound)


def recall_drop(pair: Pair, bound: float) -> Finding:
    """Judge each class's drop of recall. The criterion fails where a class is shown to exceed the bound.

    A class of five images that loses one image drops by 20 points, and this drop proves nothing. A class without
    test images proves nothing either. Such classes are listed as undecided, and block only where `classes` is
    strict.
    """
    labels_N, classes = pair.reference.labels_N, pair.reference.card.class_num
    counts_K = [np.bincount(labels_N, mask_N, classes) for mask_N in (pair.lost_N, pair.gained_N, None)]
    seen_K = np.flatnonzero(counts_K[2])
    lost_K, gained_K, images_K = (count[seen_K] for count in counts_K)
    drop_K = (lost_K - gained_K) / images_K
    to_fail = pair.confidence_to_fail(len(seen_K))
    holds_K, broken_K = judged_drop(lost_K, gained_K, images_K, bound, pair.confidence, to_fail)
    undecided_K = np.ones(classes, np.bool_)  # a class without a test image is undecided
    undecided_K[seen_K] = ~holds_K & ~broken_K
    worst = int(np.argmax(np.where(broken_K, drop_K + 2, drop_K)))
    undecided = pair.names(undecided_K)
    worst_class = f"class '{pair.reference.card.class_names[seen_K[worst]]}' of {int(images_K[worst])} images"
    evidence = f" ({worst_class}{undecided_note(undecided)})"
    if broken_K.any():
        return Finding(float(drop_K[worst]), "fail", "exceeds", evidence, undecided=undecided)
    if not undecided:
        return Finding(float(drop_K[worst]), "pass", "stays within", evidence)
    relation = "is not shown to exceed"
    if pair.classes == "list":
        return Finding(float(drop_K[worst]), "pass", relation, evidence, undecided=undecided)
    needed_K = np.full(classes, np.inf)
    open_K, levels_K = undecided_K[seen_K], np.where(drop_K > bound, to_fail, pair.confidence)
    counts = lost_K[open_K], gained_K[open_K], images_K[open_K]
    needed_K[seen_K[open_K]] = images_for_drop(*counts, bound, levels_K[open_K])
    advice = _class_advice(pair, needed_K, undecided_K)
    relation = "is not shown, in every class, to stay within"
    return Finding(float(drop_K[worst]), "inconclusive", relation, evidence, advice, undecided)


def top1(pair: Pair, bound: float) -> Finding:
    """Judge the accuracy of the form itself by its interval."""
    right, images = int(pair.form.right_N.sum()), len(pair.form.right_N)
    at_least = float(least_share(right, images, pair.confidence))
    evidence = f" (at least {at_least:.3g} at {percent(pair.confidence)})"
    if at_least >= bound or bound == 0:
        return Finding(right / images, "pass", "reaches", evidence if bound else "")
    if falls_short(right, images, bound, pair.confidence_to_fail()):
        return Finding(right / images, "fail", "is below", evidence)
    level = pair.confidence_to_fail() if right / images < bound else pair.confidence
    needed = float(images_to_judge(right, images, bound, level))
    return Finding(
        right / images, "inconclusive", "is not shown to reach", evidence, images_advice(needed, images)
    )


def lowest_recall(pair: Pair, bound: float) -> Finding:
    """Judge the recall of every class of the form itself: the worst class must reach the bound on these images.

    The criterion fails where a class is shown to lie below the bound. A class that is not shown to lie above the
    bound is listed, as in `recall_drop`, and blocks where `classes` is strict.
    """
    form, classes = pair.form, pair.form.card.class_num
    recall_K = recall_per_class(form.predicted_N, form.labels_N, classes)
    worst = int(np.nanargmin(recall_K))
    value, evidence = float(recall_K[worst]), f" (class '{form.card.class_names[worst]}')"
    if bound == 0:
        return Finding(value, "pass", "reaches", evidence)
    images_K = np.bincount(form.labels_N, minlength=classes)
    seen_K = np.flatnonzero(images_K)
    right_K, of_K = (recall_K * images_K)[seen_K].round(), images_K[seen_K]
    to_fail = pair.confidence_to_fail(len(seen_K))
    if falls_short(right_K, of_K, bound, to_fail).any():
        return Finding(value, "fail", "is below", evidence)
    undecided_K = np.ones(classes, np.bool_)
    undecided_K[seen_K] = least_share(right_K, of_K, pair.confidence) < bound
    undecided = pair.names(undecided_K)
    evidence = f" (class '{form.card.class_names[worst]}'{undecided_note(undecided)})"
    blocking_K = undecided_K if pair.classes == "strict" else recall_K < bound
    if not blocking_K.any():
        return Finding(value, "pass", "reaches", evidence, undecided=undecided)
    needed_K = np.full(classes, np.inf)
    open_K, levels_K = blocking_K[seen_K], np.where(right_K / of_K < bound, to_fail, pair.confidence)
    needed_K[seen_K[open_K]] = images_to_judge(right_K[open_K], of_K[open_K], bound, levels_K[open_K])
    advice = _class_advice(pair, needed_K, blocking_K)
    return Finding(value, "inconclusive", "is not shown to reach", evidence, advice, undecided)


def above_chance(pair: Pair, guess: Guessing) -> Finding:
    """Judge whether the form is shown to beat `guess`: the accuracy of the same answers in a random order
    (metrics.chance explains why the most frequent class is no measure).

    The criterion fails where the form is not shown to beat guessing, and is shown to answer correctly less than
    LEAST_SKILL of the images that guessing gets wrong.
    """
    accuracy, images = float(pair.form.right_N.mean()), len(pair.form.right_N)
    to_fail = pair.confidence_to_fail()
    if shows_skill(guess, accuracy, images, pair.confidence):
        return Finding(accuracy, "pass", "beats chance,")
    if len(np.unique(pair.form.labels_N)) == 1:
        advice = (
            "; all test images are of one class, so that a constant answer is right: add images of other classes"
        )
        return Finding(accuracy, "inconclusive", "is not shown to beat chance,", advice=advice)
    if shows_none(guess, accuracy, images, to_fail):
        evidence = f" (less than a tenth of what guessing gets wrong, at {percent(to_fail)})"
        return Finding(accuracy, "fail", "does not beat chance,", evidence)
    needed = images_for_skill(guess, accuracy, pair.confidence, to_fail)
    return Finding(accuracy, "inconclusive", "is not shown to beat chance,", advice=images_advice(needed, images))


def _class_advice(pair: Pair, needed_K: Floats, undecided_K: Bools) -> str:
    """Return the advice for the undecided class that needs the most test images."""
    images_K = np.bincount(pair.reference.labels_N, minlength=len(undecided_K))
    without = pair.names(undecided_K & (images_K == 0))
    if without:
        verb = f" and {len(without) - 1} other classes have" if len(without) > 1 else " has"
        return f"; class '{without[0]}'{verb} no test image"
    most = int(np.argmax(np.where(undecided_K, needed_K, -1)))
    name, more = pair.reference.card.class_names[most], int(undecided_K.sum()) - 1
    if not np.isfinite(needed_K[most]):
        return f"; no number of test images of class '{name}' would decide"
    rest = f", and no more of each of {more} other classes," if more else ""
    return f"; about {int(needed_K[most])} test images of class '{name}' (now {images_K[most]}){rest} would decide"

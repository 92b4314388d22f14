"""Criteria of accuracy. Each speaks of images that nobody has seen yet, so each is judged by a confidence bound.

A bound *holds* where its interval lies within it, is *broken* where the interval lies beyond it, and is undecided
in between. Letters: N test images, K classes.
"""

import numpy as np
import numpy.typing as npt

from steps.metrics.chance import Guessing, images_for_skill, shows_none, shows_skill
from steps.metrics.intervals import (
    Floats,
    images_for_drop,
    images_for_share,
    largest_drop,
    largest_share,
    least_drop,
    least_share,
)
from steps.metrics.recall import recall_per_class
from steps.parity.pair import Bools, Finding, Pair, percent, some, wanted


def judged_drop(
    lost: npt.ArrayLike,
    gained: npt.ArrayLike,
    images: npt.ArrayLike,
    bound: float,
    confidence: float,
    to_fail: float,
) -> tuple[Bools, Bools]:
    """Return where the drop is shown, at `confidence`, to stay within `bound`; and, at `to_fail`, to exceed it."""
    holds = largest_drop(lost, gained, images, confidence) <= bound
    return holds, ~holds & (least_drop(lost, gained, images, to_fail) > bound)


def top1_drop(pair: Pair, bound: float) -> Finding:
    """Judge the drop of top-1 accuracy by its one-sided interval: within, beyond, or not shown."""
    counts = int(pair.lost_N.sum()), int(pair.gained_N.sum()), len(pair.lost_N)
    drop = (counts[0] - counts[1]) / counts[2]
    at_most = float(largest_drop(*counts, pair.confidence))
    evidence = f" (at most {at_most:.3g} at {percent(pair.confidence)})"
    to_fail = pair.confidence_to_fail()
    holds, broken = judged_drop(*counts, bound, pair.confidence, to_fail)
    if holds:
        return Finding(drop, "pass", "stays within", evidence)
    if broken:
        return Finding(drop, "fail", "exceeds", evidence)
    needed = images_for_drop(*counts, bound, to_fail if drop > bound else pair.confidence)
    return Finding(drop, "inconclusive", "is not shown to stay within", evidence, wanted(float(needed), counts[2]))


def champion_drop(pair: Pair, bound: float) -> Finding:
    """Judge the drop of top-1 accuracy from the release in production, as `top1_drop` does."""
    return top1_drop(pair, bound)


def recall_drop(pair: Pair, bound: float) -> Finding:
    """Judge each class's drop of recall: fails where one is shown to exceed the bound.

    A class of five images that loses one has dropped by 20 points and proves nothing, and one without any test
    image even less: such classes are listed as undecided. They block only where `classes` is strict.
    """
    labels_N, classes = pair.reference.labels_N, pair.reference.card.class_num
    counts_K = [np.bincount(labels_N, mask_N, classes) for mask_N in (pair.lost_N, pair.gained_N, None)]
    seen_K = np.flatnonzero(counts_K[2])
    lost_K, gained_K, images_K = (count[seen_K] for count in counts_K)
    drop_K = (lost_K - gained_K) / images_K
    to_fail = pair.confidence_to_fail(len(seen_K))
    holds_K, broken_K = judged_drop(lost_K, gained_K, images_K, bound, pair.confidence, to_fail)
    undecided_K = np.ones(classes, np.bool_)  # where there is no test image, nothing is known
    undecided_K[seen_K] = ~holds_K & ~broken_K
    worst = int(np.argmax(np.where(broken_K, drop_K + 2, drop_K)))
    undecided = _names(pair, undecided_K)
    which = f"class '{pair.reference.card.class_names[seen_K[worst]]}' of {int(images_K[worst])} images"
    evidence = f" ({which}{some(undecided)})"
    if broken_K.any():
        return Finding(float(drop_K[worst]), "fail", "exceeds", evidence, undecided=undecided)
    if not undecided:
        return Finding(float(drop_K[worst]), "pass", "stays within", evidence)
    relation = "is not shown to exceed"
    if pair.classes == "list":
        return Finding(float(drop_K[worst]), "pass", relation, evidence, undecided=undecided)
    open_K = undecided_K[seen_K]
    needed_K = [
        images_for_drop(lost_K[which_K], gained_K[which_K], images_K[which_K], bound, level)
        / (images_K[which_K] / len(labels_N))
        for which_K, level in ((open_K & (drop_K <= bound), pair.confidence), (open_K & (drop_K > bound), to_fail))
    ]
    advice = _wanted_for_all(np.concatenate(needed_K), undecided_K, seen_K, len(labels_N))
    relation = "is not shown, in every class, to stay within"
    return Finding(float(drop_K[worst]), "inconclusive", relation, evidence, advice, undecided)


def top1(pair: Pair, bound: float) -> Finding:
    """Judge the form's own accuracy by its interval."""
    right, images = int(pair.form.right_N.sum()), len(pair.form.right_N)
    at_least = float(least_share(right, images, pair.confidence))
    evidence = f" (at least {at_least:.3g} at {percent(pair.confidence)})"
    if at_least >= bound or bound == 0:
        return Finding(right / images, "pass", "reaches", evidence if bound else "")
    if largest_share(right, images, pair.confidence_to_fail()) < bound:
        return Finding(right / images, "fail", "is below", evidence)
    level = pair.confidence_to_fail() if right / images < bound else pair.confidence
    needed = float(images_for_share(right, images, bound, level))
    return Finding(right / images, "inconclusive", "is not shown to reach", evidence, wanted(needed, images))


def lowest_recall(pair: Pair, bound: float) -> Finding:
    """Judge the form's own recall of every class: its worst must reach the bound on these images.

    It fails where a class is shown to lie below. A class that is not shown to lie above is listed, as in
    `recall_drop`, and blocks where `classes` is strict.
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
    if (largest_share(right_K, of_K, to_fail) < bound).any():
        return Finding(value, "fail", "is below", evidence)
    undecided_K = np.ones(classes, np.bool_)
    undecided_K[seen_K] = least_share(right_K, of_K, pair.confidence) < bound
    undecided = _names(pair, undecided_K)
    evidence = f" (class '{form.card.class_names[worst]}'{some(undecided)})"
    if value >= bound and (pair.classes == "list" or not undecided):
        return Finding(value, "pass", "reaches", evidence, undecided=undecided)
    open_K = undecided_K[seen_K]
    needed_K = images_for_share(right_K[open_K], of_K[open_K], bound, to_fail) / of_K[open_K] * len(form.labels_N)
    advice = _wanted_for_all(needed_K, undecided_K, seen_K, len(form.labels_N))
    relation = "is not shown to reach"
    return Finding(value, "inconclusive", relation, evidence, advice, undecided)


def above_chance(pair: Pair, guess: Guessing) -> Finding:
    """Judge whether the form is shown to do better than `guess`, what its answers get when they are dealt out to
    the images at random (metrics.chance: any class frequencies, and why the most frequent class is no measure).

    It fails where it is shown to get less than LEAST_SKILL of what guessing gets wrong, and not shown to beat it.
    """
    accuracy, images = float(pair.form.right_N.mean()), len(pair.form.right_N)
    to_fail = pair.confidence_to_fail()
    if shows_skill(guess, accuracy, images, pair.confidence):
        return Finding(accuracy, "pass", "beats chance,")
    if len(np.unique(pair.form.labels_N)) == 1:
        advice = "; all test images are of one class, which any answer may fit: add images of the others"
        return Finding(accuracy, "inconclusive", "is not shown to beat chance,", advice=advice)
    if shows_none(guess, accuracy, images, to_fail):
        evidence = f" (less than a tenth of what guessing gets wrong, at {percent(to_fail)})"
        return Finding(accuracy, "fail", "does not beat chance,", evidence)
    needed = images_for_skill(guess, accuracy, pair.confidence, to_fail)
    return Finding(accuracy, "inconclusive", "is not shown to beat chance,", advice=wanted(needed, images))


def _names(pair: Pair, which_K: Bools) -> tuple[str, ...]:
    names = pair.reference.card.class_names
    return tuple(names[number] for number in np.flatnonzero(which_K))


def _wanted_for_all(needed_K: Floats, undecided_K: Bools, seen_K: npt.NDArray[np.int64], images: int) -> str:
    """Return how many test images would decide the last of the classes, or that some have none at all."""
    without = int(undecided_K.sum() - undecided_K[seen_K].sum())
    if without:
        return f"; {without} classes have no test image"
    return wanted(float(np.ceil(needed_K.max())), images)

"""The gate's criteria: each is one function here, and one key of `gate:` in the tables at the end.

Letters: N test images, K classes. A criterion compares a form with its reference, on the same images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from steps.metrics.agreement import same_class, score_differences
from steps.metrics.intervals import images_to_decide, largest_drop, least_drop, least_share
from steps.metrics.recall import recall_per_class, worst_recall
from steps.parity.evidence import Evidence
from steps.reports.verdict import Judgement

SHOWN = 5  # classes that a sentence names; the verdict lists them all


@dataclass(frozen=True)
class Pair:
    """A form and its reference; `forms` is how many forms are judged at once, at `confidence` together."""

    reference: Evidence
    form: Evidence
    confidence: float
    forms: int = 1

    @cached_property
    def lost_N(self) -> npt.NDArray[np.bool_]:
        """Return the images that only the reference gets right."""
        return self.reference.right_N & ~self.form.right_N

    @cached_property
    def gained_N(self) -> npt.NDArray[np.bool_]:
        """Return the images that only the form gets right."""
        return self.form.right_N & ~self.reference.right_N

    @cached_property
    def differences_N(self) -> npt.NDArray[np.float64]:
        """Return the largest difference of each image's softmax."""
        return score_differences(self.reference.logits_NK, self.form.logits_NK)

    def confidence_to_fail(self, comparisons: int) -> float:
        """Return the confidence of each of so many comparisons a form, so that an honest release fails seldom.

        A form fails when any comparison does, so the error is shared out (Bonferroni); it passes only when all
        do (intersection-union), so passing needs no correction.
        """
        return 1 - (1 - self.confidence) / (comparisons * self.forms)


@dataclass(frozen=True)
class Finding:
    """What a criterion found: `value` `relation` the bound, because of `evidence`; and what would help."""

    value: float
    judgement: Judgement
    relation: str
    evidence: str = ""
    advice: str = ""
    undecided: tuple[str, ...] = ()


Rule = Callable[[Pair, float], Finding]


def top1_drop(pair: Pair, bound: float) -> Finding:
    """Judge the drop of top-1 accuracy by its one-sided interval: within, beyond, or not shown."""
    lost, gained, images = int(pair.lost_N.sum()), int(pair.gained_N.sum()), len(pair.lost_N)
    drop = (lost - gained) / images
    at_most = float(largest_drop(lost, gained, images, pair.confidence))
    evidence = f" (at most {at_most:.3g} at {_percent(pair.confidence)})"
    if at_most <= bound:
        return Finding(drop, "pass", "stays within", evidence)
    to_fail = pair.confidence_to_fail(comparisons=1)
    if float(least_drop(lost, gained, images, to_fail)) > bound:
        return Finding(drop, "fail", "exceeds", evidence)
    needed = images_to_decide(lost, gained, images, bound, to_fail if drop > bound else pair.confidence)
    return Finding(drop, "inconclusive", "is not shown to stay within", evidence, _wanted(needed, images))


def champion_drop(pair: Pair, bound: float) -> Finding:
    """Judge the drop of top-1 accuracy from the release in production, as `top1_drop` does."""
    return top1_drop(pair, bound)


def recall_drop(pair: Pair, bound: float) -> Finding:
    """Judge each class's drop of recall: fails where one is shown to exceed the bound.

    A class of five images that loses one has dropped by 20 points and proves nothing, and one without any test
    image even less: such classes are listed as undecided, and do not fail the form.
    """
    labels_N, classes = pair.reference.labels_N, pair.reference.card.class_num
    counts_K = [np.bincount(labels_N, mask_N, classes) for mask_N in (pair.lost_N, pair.gained_N, None)]
    seen_K = np.flatnonzero(counts_K[2])
    lost_K, gained_K, images_K = (count[seen_K] for count in counts_K)
    drop_K = (lost_K - gained_K) / images_K
    least_K = least_drop(lost_K, gained_K, images_K, pair.confidence_to_fail(len(seen_K)))
    most_K = largest_drop(lost_K, gained_K, images_K, pair.confidence)
    failed_K = least_K > bound
    undecided_K = np.ones(classes, np.bool_)  # where there is no test image, nothing is known
    undecided_K[seen_K] = ~failed_K & (most_K > bound)
    worst = int(np.argmax(np.where(failed_K, drop_K + 2, drop_K)))
    names = pair.reference.card.class_names
    undecided = tuple(names[number] for number in np.flatnonzero(undecided_K))
    evidence = f" (class '{names[seen_K[worst]]}' of {int(images_K[worst])} images{_some(undecided)})"
    if failed_K.any():
        return Finding(float(drop_K[worst]), "fail", "exceeds", evidence, undecided=undecided)
    relation = "is not shown to exceed" if undecided else "stays within"
    return Finding(float(drop_K[worst]), "pass", relation, evidence, undecided=undecided)


def agreement(pair: Pair, bound: float) -> Finding:
    """Judge the share of images that get the same class id."""
    return _at_least(same_class(pair.reference.logits_NK, pair.form.logits_NK), bound)


def score_difference(pair: Pair, bound: float) -> Finding:
    """Judge the softmax difference that 99 of 100 images stay below; the largest is told, not judged."""
    value = float(np.quantile(pair.differences_N, 0.99, method="higher"))
    evidence = f" (99 of 100 images; the largest {pair.differences_N.max():.3g})"
    if value <= bound:
        return Finding(value, "pass", "stays within", evidence)
    return Finding(value, "fail", "exceeds", evidence)


def top1(pair: Pair, bound: float) -> Finding:
    """Judge the form's own accuracy on the test images."""
    return _at_least(float(pair.form.right_N.mean()), bound)


def lowest_recall(pair: Pair, bound: float) -> Finding:
    """Judge the form's own recall of its worst class."""
    form = pair.form
    value, worst = worst_recall(recall_per_class(form.predicted_N, form.labels_N, form.card.class_num))
    assert worst is not None, "evidence without images is refused when it is read"
    return _at_least(value, bound, f" (class '{form.card.class_names[worst]}')")


def chance(form: Evidence) -> float:
    """Return the accuracy of guessing with the form's own class frequencies: 1 / K if balanced, and what a
    form that always says the most frequent class gets, however unbalanced the classes are.
    """
    classes = form.card.class_num
    labelled_K = np.bincount(form.labels_N, minlength=classes) / len(form.labels_N)
    said_K = np.bincount(form.predicted_N, minlength=classes) / len(form.labels_N)
    return float(labelled_K @ said_K)


def above_chance(pair: Pair, bound: float) -> Finding:
    """Judge whether the form's accuracy is shown to be above `bound`, what guessing would get."""
    right, images = int(pair.form.right_N.sum()), len(pair.form.right_N)
    at_least = least_share(right, images, pair.confidence)
    evidence = f" (at least {at_least:.3g} at {_percent(pair.confidence)})"
    if at_least > bound:
        return Finding(right / images, "pass", "beats chance,", evidence)
    return Finding(right / images, "fail", "is not shown to beat chance,", evidence)


# key of `gate:` -> criterion
PAIRED: dict[str, Rule] = {
    "max_top1_drop": top1_drop,
    "max_recall_drop": recall_drop,
    "min_agreement": agreement,
    "max_score_difference": score_difference,
}
FLOORS: dict[str, Rule] = {"min_top1": top1, "min_worst_recall": lowest_recall}
AGAINST_CHAMPION: dict[str, Rule] = {"max_champion_drop": champion_drop}


def _at_least(value: float, bound: float, evidence: str = "") -> Finding:
    if value >= bound:
        return Finding(value, "pass", "reaches", evidence)
    return Finding(value, "fail", "is below", evidence)


def _wanted(needed: int | None, images: int) -> str:
    if needed is None:
        return "; no number of test images would tell them apart"
    return f"; about {needed} test images like these {images} would decide"


def _some(undecided: tuple[str, ...]) -> str:
    if not undecided:
        return ""
    more = f" and {len(undecided) - SHOWN} more" if len(undecided) > SHOWN else ""
    names = ", ".join(f"'{name}'" for name in undecided[:SHOWN])
    return f"; undecided for want of test images: {names}{more}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"

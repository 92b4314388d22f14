"""What a criterion compares, and what it finds.

Letters: N test images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from steps.metrics.agreement import Closeness, closeness
from steps.metrics.logits import LogitDifferences, logit_differences
from steps.parity.evidence import Evidence
from steps.reports.verdict import Judgement

Bools = npt.NDArray[np.bool_]
Classes = Literal["list", "strict"]
SHOWN = 5  # classes that a sentence names; the verdict lists them all


@dataclass(frozen=True)
class Pair:
    """A form and its reference, on the same images.

    Each bound on accuracy is shown at `confidence`. `sharing` is how many comparisons of the whole verdict share
    the error of failing; `classes` says whether a class that is undecided is listed, or blocks.
    """

    reference: Evidence
    form: Evidence
    confidence: float
    sharing: int = 1
    classes: Classes = "list"

    @cached_property
    def lost_N(self) -> Bools:
        """Return the images that only the reference gets right."""
        return self.reference.right_N & ~self.form.right_N

    @cached_property
    def gained_N(self) -> Bools:
        """Return the images that only the form gets right."""
        return self.form.right_N & ~self.reference.right_N

    @cached_property
    def closeness(self) -> Closeness:
        """Return how far the softmax of each image differs."""
        return closeness(self.reference.scores, self.form.scores)

    @cached_property
    def logit_differences(self) -> LogitDifferences:
        """Return how far the scores before the softmax differ."""
        return logit_differences(self.reference.scores, self.form.scores)

    def names(self, which_K: Bools) -> tuple[str, ...]:
        """Return the names of these classes."""
        names = self.reference.card.class_names
        return tuple(names[number] for number in np.flatnonzero(which_K))

    def confidence_to_fail(self, classes: int = 1) -> float:
        """Return the confidence of one comparison, of so many classes, so that an honest release fails seldom.

        A release fails when any comparison does, so the error is shared out among all of them (Bonferroni); it
        passes only when all hold (intersection-union), so passing needs no correction.
        """
        return 1 - (1 - self.confidence) / (self.sharing * classes)


@dataclass(frozen=True)
class Finding:
    """What a criterion found: `value` `relation` the bound, because of `evidence`; and what would help.

    `known` stands before a value that is itself only a bound. `undecided` names classes. `at_least` is the lower
    end of the value's one-sided interval, where it was judged by one, and the least that it can be, where it is
    not shown to exceed the bound because not all scores were kept.
    """

    value: float
    judgement: Judgement
    relation: str
    evidence: str = ""
    advice: str = ""
    undecided: tuple[str, ...] = ()
    known: str = ""
    at_least: float | None = None


Rule = Callable[[Pair, float], Finding]


def wanted(needed: float, images: int) -> str:
    """Return the sentence's end that says how many test images would decide."""
    if not np.isfinite(needed):
        return "; no number of test images would tell them apart"
    return f"; about {int(needed)} test images like these {images} would decide"


def percent(share: float) -> str:
    """Return a share as people read it."""
    return f"{100 * share:g} %"


def some(undecided: tuple[str, ...]) -> str:
    """Return the sentence's part that names the first undecided classes."""
    if not undecided:
        return ""
    more = f" and {len(undecided) - SHOWN} more" if len(undecided) > SHOWN else ""
    names = ", ".join(f"'{name}'" for name in undecided[:SHOWN])
    return f"; undecided for want of test images: {names}{more}"

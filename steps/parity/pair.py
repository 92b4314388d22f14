"""The two forms that a criterion compares, and the finding that the criterion returns.

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
MANY, MANY_TIMES = 20_000, 10  # test images that nobody would collect for one decision
SHOWN = 5  # classes in a sentence; the verdict lists all of them


@dataclass(frozen=True)
class Pair:
    """A form and its reference, on the same images.

    A bound on accuracy must hold at `confidence`. `sharing` is the number of comparisons in the whole verdict that
    share the error of a wrong fail. `classes` says whether an undecided class is only listed, or blocks.
    """

    reference: Evidence
    form: Evidence
    confidence: float
    sharing: int = 1
    classes: Classes = "list"

    @cached_property
    def lost_N(self) -> Bools:
        """Return the mask of the images that only the reference gets right."""
        return self.reference.right_N & ~self.form.right_N

    @cached_property
    def gained_N(self) -> Bools:
        """Return the mask of the images that only the form gets right."""
        return self.form.right_N & ~self.reference.right_N

    @cached_property
    def closeness(self) -> Closeness:
        """Return the difference of the softmax in each image."""
        return closeness(self.reference.scores, self.form.scores)

    @cached_property
    def logit_differences(self) -> LogitDifferences:
        """Return the differences of the logits."""
        return logit_differences(self.reference.scores, self.form.scores)

    def names(self, which_K: Bools) -> tuple[str, ...]:
        """Return the names of the classes in the mask."""
        names = self.reference.card.class_names
        return tuple(names[number] for number in np.flatnonzero(which_K))

    def confidence_to_fail(self, classes: int = 1) -> float:
        """Return the confidence that one comparison of `classes` classes needs to fail a form.

        A release fails when any comparison fails, so all comparisons share the error (Bonferroni). A release
        passes only when all bounds hold (intersection-union test), so a pass needs no correction.
        """
        return 1 - (1 - self.confidence) / (self.sharing * classes)


@dataclass(frozen=True)
class Finding:
    """A criterion's result. Its sentence is: `prefix` `value` `evidence` `relation` bound, then `advice`.

    `prefix` is "at most " where the value is only an upper bound. `undecided` names classes. `at_least` is the
    lower end of the value's one-sided interval, if an interval decides. Where not all scores were stored,
    `at_least` is the least possible value.
    """

    value: float
    judgement: Judgement
    relation: str
    evidence: str = ""
    advice: str = ""
    undecided: tuple[str, ...] = ()
    prefix: str = ""
    at_least: float | None = None


Rule = Callable[[Pair, float], Finding]


def images_advice(needed: float, images: int) -> str:
    """Return the end of a sentence: how many test images would decide, where `images` do not."""
    if not np.isfinite(needed):
        return "; no number of test images would decide"
    if needed > max(MANY, MANY_TIMES * images):
        return "; the form is at the limit, and more test images will hardly decide"
    return f"; about {int(needed)} test images like these {images} would decide"


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:g} %"


def undecided_note(undecided: tuple[str, ...]) -> str:
    """Return the part of a sentence that names the first undecided classes."""
    if not undecided:
        return ""
    more = f" and {len(undecided) - SHOWN} more" if len(undecided) > SHOWN else ""
    names = ", ".join(f"'{name}'" for name in undecided[:SHOWN])
    return f"; too few test images to decide: {names}{more}"

"""data/gate/verdict.json: what may ship, and why not the rest."""

import hashlib
import json
from typing import Literal

from steps.reports.base import JsonFile, Report
from steps.reports.card import Card

Judgement = Literal["pass", "fail", "inconclusive", "deferred"]
WORST_FIRST: tuple[Judgement, ...] = ("fail", "inconclusive", "deferred", "pass")
LINE = ("train", "fuse", "export")  # the forms that every run has, each made from the one before
CHAMPION = "champion"
CHAMPION_BOUND = "gate.max_champion_drop"
NOT_COMPUTED = {"evidence", "images", "labels", "classes", "chain", "run"}  # checks of files, not of a network
SHARES_ALIKE = {"agreement", "class_agreement"}  # of what a form answers: bound from below
DIFFERENCES = {  # of what it answers: bound from above
    "score_difference",
    "largest_score_difference",
    "divergence",
    "calibration_increase",
    "logit_difference",
    "class_logit_difference",
}


class Criterion(JsonFile):
    """One bound held against one form. `bound` is the limit that `key` of params.yaml sets.

    Both are null for what no key allows, such as outputs that are not finite. `undecided` names the classes
    with too few test images to say. `at_least` is the lower end of the one-sided interval of a drop, and the least
    that a difference can be where it is not shown to exceed its bound, as not all scores were kept.
    """

    form: str
    metric: str
    value: float | None = None
    at_least: float | None = None
    bound: float | None = None
    key: str | None = None
    judgement: Judgement
    sentence: str
    undecided: tuple[str, ...] = ()


class FormVerdict(JsonFile):
    """One form in the table that people read; differences are from `train`, on the same images.

    `card` is the checksum of the card that was judged: only that model may ship. Where not all scores were kept,
    `score_difference` (the largest) and `divergence` are what they are at most.
    """

    form: str
    judgement: Judgement
    required: bool
    card: str | None = None
    top1: float | None = None
    worst_recall: float | None = None
    agreement: float | None = None
    score_difference: float | None = None
    divergence: float | None = None
    calibration_error: float | None = None
    size_bytes: int = 0
    why: str = ""


class Verdict(Report):
    """`judgement` is pass only when every required form passed."""

    judgement: Judgement = "fail"
    confidence: float = 0.95
    forms: tuple[FormVerdict, ...] = ()
    criteria: tuple[Criterion, ...] = ()
    images: int = 0  # that were counted
    copies: int = 0  # test images with the bytes of one of these
    test_set: str = ""

    def word(self, form: FormVerdict) -> str:
        """Return a form's judgement for a table: whether it decides, and what a pass of the champion means.

        The champion is compared with, not judged: its own pass says that the comparison could be made.
        """
        if form.judgement == "pass" and form.form == CHAMPION:
            deciding = {one.form for one in self.forms if one.required}
            rows = (row for row in self.criteria if row.key == CHAMPION_BOUND and row.form in deciding)
            worst = min(rows, key=lambda row: WORST_FIRST.index(row.judgement), default=None)
            return f"pass ({_compared(worst) if worst else 'compared with no new one'})"
        decides = form.required or form.form == CHAMPION
        return form.judgement if decides else f"{form.judgement} (candidate)"


def _compared(drop: Criterion) -> str:
    """Return how the champion compares with the new form, whose drop of accuracy from it was judged."""
    if drop.judgement == "pass":
        return f"not better than the new one by more than {drop.bound:g}"
    if drop.judgement == "fail":
        return "better than the new one"
    # Only an interval that leaves out 0 speaks for the champion; else the images show no difference.
    favoured = drop.at_least is not None and drop.at_least > 0
    return "perhaps better than the new one" if favoured else "as good as the new one, as far as the images show"


def to_localise(verdict: Verdict) -> str | None:
    """Return the form that the refusal names, where it computes something else and was made from another."""
    form = (verdict.refused or "").partition(":")[0]
    differs = any(_differs(row) for row in verdict.criteria if row.form == form)
    return form if differs and form not in (LINE[0], CHAMPION) else None


def _differs(row: Criterion) -> bool:
    """Tell whether what a form computes fails, or is beyond a bound of closeness on these images, if on no others.

    Too few images for a drop or a floor are no fault of the form's: there is nothing to look for in it.
    """
    if row.judgement == "fail":
        return row.metric not in NOT_COMPUTED
    if row.judgement != "inconclusive" or row.value is None or row.bound is None:
        return False
    if row.metric in SHARES_ALIKE:
        return row.value < row.bound
    return row.metric in DIFFERENCES and (row.value if row.at_least is None else row.at_least) > row.bound


def plain(text: str) -> str:
    """Return a sentence as Markdown shows it: one line, in which nothing that a class is called is markup."""
    shown = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\`[]" else letter for letter in shown)  # no code, link or image


def card_checksum(card: Card) -> str:
    """Return the sha256 of all that a card says: the model's files, its class names, its preprocessing.

    Without what stands at its default: a key that cards learn later does not change the checksum of an older one.
    """
    said = json.dumps(card.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()

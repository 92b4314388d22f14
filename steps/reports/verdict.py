"""data/gate/verdict.json: which forms may ship, and why the others may not."""

import hashlib
import json
from typing import Literal

from steps.reports.base import JsonFile, Report
from steps.reports.card import Card

Judgement = Literal["pass", "fail", "inconclusive", "deferred"]
WORST_FIRST: tuple[Judgement, ...] = ("fail", "inconclusive", "deferred", "pass")
LINE = ("train", "fuse", "export")  # the forms of every run, each made from the form before it
CHAMPION = "champion"
CHAMPION_BOUND = "gate.max_champion_drop"
NOT_COMPUTED = {"evidence", "images", "labels", "classes", "chain", "run"}  # checks of files, not of scores
AGREEMENTS = {"agreement", "class_agreement"}  # with a lower bound
DIFFERENCES = {  # with an upper bound
    "score_difference",
    "largest_score_difference",
    "divergence",
    "calibration_increase",
    "logit_difference",
    "class_logit_difference",
}


class Criterion(JsonFile):
    """One criterion of one form. `bound` is the limit that `key` of params.yaml sets.

    Both are null where no key sets a limit, as for outputs that are not finite. `undecided` names the classes with
    too few test images. `at_least` is the lower end of a drop's one-sided interval. Where not all scores were
    stored, `at_least` is the least possible value of a difference.
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
    """One form's row of the table. Differences are from `train`, on the same images.

    `card` is the checksum of the judged card: only that model may ship. Where not all scores were stored,
    `score_difference` (the largest) and `divergence` are upper bounds. `why` is the sentence of the worst
    criterion, and the names of the other criteria that did not pass.
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
    images: int = 0  # test images without copies
    copies: int = 0  # test images with the bytes of a counted image
    test_set: str = ""

    def word(self, form: FormVerdict) -> str:
        """Return a form's judgement for a table, marked where the form is only a candidate.

        The champion is not judged: its row tells how the new forms compare with the champion.
        """
        if form.judgement == "pass" and form.form == CHAMPION:
            deciding = {one.form for one in self.forms if one.required}
            rows = (row for row in self.criteria if row.key == CHAMPION_BOUND and row.form in deciding)
            worst = min(rows, key=lambda row: WORST_FIRST.index(row.judgement), default=None)
            return f"pass ({_compared(worst) if worst else 'compared with no new form'})"
        decides = form.required or form.form == CHAMPION
        return form.judgement if decides else f"{form.judgement} (candidate)"


def _compared(drop: Criterion) -> str:
    """Return how the champion compares with the new form, from the judged drop between both."""
    if drop.judgement == "pass":
        return f"not better than the new form by more than {drop.bound:g}"
    if drop.judgement == "fail":
        return "better than the new form"
    # Only an interval above 0 speaks for the champion; otherwise the images show no difference.
    favoured = drop.at_least is not None and drop.at_least > 0
    return "perhaps better than the new form" if favoured else "as good as the new form, as far as the images show"


def to_localise(verdict: Verdict) -> str | None:
    """Return the form that the refusal names, if its outputs differ from the form that it was made from."""
    form = (verdict.refused or "").partition(":")[0]
    differs = any(_differs(row) for row in verdict.criteria if row.form == form)
    return form if differs and form not in (LINE[0], CHAMPION) else None


def _differs(row: Criterion) -> bool:
    """Tell whether the form's outputs fail, or exceed a bound of closeness on these images.

    Too few test images to judge a drop or a floor are no fault of the form.
    """
    if row.judgement == "fail":
        return row.metric not in NOT_COMPUTED
    if row.judgement != "inconclusive" or row.value is None or row.bound is None:
        return False
    if row.metric in AGREEMENTS:
        return row.value < row.bound
    return row.metric in DIFFERENCES and (row.value if row.at_least is None else row.at_least) > row.bound


def plain(text: str) -> str:
    """Return the text as one line of Markdown, with all markup escaped: a class name can hold any character."""
    shown = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\`[]" else letter for letter in shown)  # code, links and images


def card_checksum(card: Card) -> str:
    """Return the sha256 of the whole card: the model's files, its class names, its preprocessing.

    Keys with their default value are left out: a new key of later cards does not change an older card's checksum.
    """
    text = json.dumps(card.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

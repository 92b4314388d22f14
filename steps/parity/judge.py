"""The verdict from the files of evaluate: one judgement for each form, and one for the release."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from steps.metrics.agreement import same_class
from steps.metrics.calibration import calibration_error
from steps.metrics.chance import guessing
from steps.metrics.recall import summary
from steps.parity.accuracy import above_chance
from steps.parity.criteria import AGAINST_CHAMPION, FLOORS, PAIRED, comparisons
from steps.parity.evidence import Evidence, NotRun, Unusable, read_evidence, read_report
from steps.parity.identity import check_same_classes, check_same_images, check_same_model
from steps.parity.pair import Classes, Finding, Pair, Rule
from steps.parity.soundness import check_sound
from steps.reports.verdict import (
    CHAMPION,
    LINE,
    WORST_FIRST,
    Criterion,
    FormVerdict,
    Judgement,
    Verdict,
    card_checksum,
)

REFERENCE, NOT_SHIPPED, SHIPPED = LINE
Opened = Evidence | NotRun | Unusable
Judged = tuple[FormVerdict, list[Criterion]]


@dataclass(frozen=True)
class Terms:
    """Which forms are judged, and by which bounds; `limits` holds the `gate:` keys of the tables of criteria."""

    engines: Sequence[str]
    required: Sequence[str]
    limits: Mapping[str, float]
    confidence: float
    champion: Literal["compare", "skip"] = "compare"
    classes: Classes = "list"

    @classmethod
    def of(cls, engines: Sequence[str], settings: Mapping[str, Any]) -> Self:
        """Return the terms of the values under `gate:` in params.yaml."""
        limits = {key: settings[key] for key in PAIRED | FLOORS | AGAINST_CHAMPION}
        return cls(
            engines,
            settings["required"],
            limits,
            settings["confidence"],
            settings["champion"],
            settings["classes"],
        )

    def pair(self, reference: Evidence, form: Evidence) -> Pair:
        """Return both forms, with the terms that a criterion needs."""
        return Pair(reference.counted, form.counted, self.confidence, comparisons(len(self.parents)), self.classes)

    @property
    def parents(self) -> dict[str, str]:
        """Return form -> the form that it must have been made from."""
        return dict(zip(LINE[1:], LINE, strict=False)) | dict.fromkeys(self.engines, SHIPPED)


def judge(folder: Path, terms: Terms) -> Verdict:
    """Return the verdict on the whole line; `folder` holds FORM.parquet and FORM.json of each form.

    Forms are read one after another, so that at most three forms are in memory.
    """
    reference = _open(folder, REFERENCE)
    champion = _open(folder, CHAMPION, reference)
    judged = [_judge_reference(reference, terms)]
    for form, parent in terms.parents.items():
        judged.append(_judge_form(form, _open(folder, form, reference, parent), reference, champion, terms))
    judged.append(_judge_champion(champion, reference, terms))
    return _conclude(judged, reference, terms.confidence)


def _open(folder: Path, form: str, reference: Opened | None = None, parent: str | None = None) -> Opened:
    """Return the form's evidence, if it is sound and comparable with the reference; else the reason against it."""
    try:
        evidence = read_evidence(folder, form)
        if reference is not None:
            _check_comparable(evidence, reference)
        if parent is not None:
            check_same_model(form, evidence.card, parent, read_report(folder, parent).card)
        check_sound(evidence)
    except (NotRun, Unusable) as reason:
        return reason
    return evidence


def _check_comparable(evidence: Evidence, reference: Opened) -> None:
    if not isinstance(reference, Evidence):
        raise Unusable("evidence", f"the form '{REFERENCE}', which every form is compared with, cannot be used.")
    check_same_images(evidence, reference)
    check_same_classes(evidence.card, reference.card)


def _judge_reference(reference: Opened, terms: Terms) -> Judged:
    """Judge the trained form by itself: the form must beat chance, and reach the floors."""
    if not isinstance(reference, Evidence):
        return _without_figures(REFERENCE, reference, required=True)
    pair = terms.pair(reference, reference)
    guess = guessing(pair.form.predicted_N, pair.form.labels_N, pair.form.card.class_num)
    criteria = [_criterion(REFERENCE, "top1", above_chance(pair, guess), guess.expected, None)]
    criteria += _criteria_of(pair, FLOORS, terms.limits)
    return _with_figures(pair, criteria, required=True), criteria


def _judge_form(form: str, opened: Opened, reference: Opened, champion: Opened, terms: Terms) -> Judged:
    """Judge one form against the trained form, and a form that can ship against the champion too."""
    required = form in terms.required
    if not isinstance(opened, Evidence):
        return _without_figures(form, opened, required)
    assert isinstance(reference, Evidence), "_open refuses every form where the reference cannot be used"
    pair = terms.pair(reference, opened)
    criteria = _criteria_of(pair, FLOORS | PAIRED, terms.limits)
    if form != NOT_SHIPPED and isinstance(champion, Evidence) and terms.champion == "compare":
        criteria += _criteria_of(terms.pair(champion, opened), AGAINST_CHAMPION, terms.limits)
    return _with_figures(pair, criteria, required), criteria


def _judge_champion(champion: Opened, reference: Opened, terms: Terms) -> Judged:
    """Return the champion's row. A champion that cannot be compared blocks; a missing champion does not."""
    compared = terms.champion == "compare"
    if not isinstance(champion, Evidence):
        exists = isinstance(champion, Unusable) or champion.exists
        advice = " gate.champion: skip ships without the comparison." if exists and compared else ""
        return _without_figures(CHAMPION, champion, required=exists and compared, advice=advice)
    assert isinstance(reference, Evidence), "_open refuses every form where the reference cannot be used"
    return _with_figures(terms.pair(reference, champion), [], required=compared), []


def _criteria_of(pair: Pair, rules: Mapping[str, Rule], limits: Mapping[str, float]) -> list[Criterion]:
    return [
        _criterion(pair.form.form, rule.__name__, rule(pair, limits[key]), limits[key], f"gate.{key}")
        for key, rule in rules.items()
    ]


def _criterion(form: str, metric: str, finding: Finding, bound: float, key: str | None) -> Criterion:
    sentence = f"{metric} {finding.prefix}{finding.value:.4g}{finding.evidence} {finding.relation} {bound:.4g}"
    source = f" ({key})" if key else ""
    return Criterion(
        form=form,
        metric=metric,
        value=finding.value,
        at_least=finding.at_least,
        bound=bound,
        key=key,
        judgement=finding.judgement,
        sentence=f"{sentence}{source}{finding.advice}",
        undecided=finding.undecided,
    )


def _without_figures(form: str, reason: NotRun | Unusable, required: bool, advice: str = "") -> Judged:
    judgement: Judgement = "deferred" if isinstance(reason, NotRun) else "fail"
    metric = "run" if isinstance(reason, NotRun) else reason.check
    sentence = f"{reason}{'.' if advice and not str(reason).endswith('.') else ''}{advice}"
    criterion = Criterion(form=form, metric=metric, judgement=judgement, sentence=sentence)
    return FormVerdict(form=form, judgement=judgement, required=required, why=str(reason)), [criterion]


def _with_figures(pair: Pair, criteria: Sequence[Criterion], required: bool) -> FormVerdict:
    worst = _worst(criteria)
    form, report = pair.form, pair.form.report
    figures = summary(form.predicted_N, form.labels_N, form.card.class_num)
    return FormVerdict(
        form=form.form,
        judgement=worst.judgement if worst else "pass",
        required=required,
        card=card_checksum(form.card),
        top1=figures["top1"],
        worst_recall=figures["worst_recall"],
        agreement=same_class(pair.reference.scores, form.scores),
        score_difference=float(pair.closeness.difference.most_N.max()),
        divergence=float(pair.closeness.divergence.most_N.mean()),
        calibration_error=calibration_error(form.scores.confidence_N, form.right_N),
        size_bytes=report.size_bytes,
        why=_why(worst, criteria) if worst else "",
    )


def _worst(criteria: Sequence[Criterion]) -> Criterion | None:
    """Return the first of the worst criteria that did not pass, or None."""
    failed = [criterion for criterion in criteria if criterion.judgement != "pass"]
    return min(failed, key=lambda criterion: WORST_FIRST.index(criterion.judgement), default=None)


def _why(worst: Criterion, criteria: Sequence[Criterion]) -> str:
    """Return the sentence of the worst criterion, and the names of all other criteria that did not pass."""
    others = [row.metric for row in criteria if row.judgement != "pass" and row is not worst]
    return f"{worst.sentence}; and {len(others)} more: {', '.join(others)}" if others else worst.sentence


def _conclude(judged: Sequence[Judged], reference: Opened, confidence: float) -> Verdict:
    """Return the verdict: a pass when every required form passes, else a refusal with the worst criterion."""
    blocking = [criterion for form, criteria in judged if form.required for criterion in criteria]
    if not isinstance(reference, Evidence):
        blocking = judged[0][1]  # without a reference every form fails, and only the reference is the cause
    worst = _worst(blocking)
    return Verdict(
        refused=_refusal(worst, [form for form, _ in judged]) if worst else None,
        judgement=worst.judgement if worst else "pass",
        confidence=confidence,
        forms=tuple(form for form, _ in judged),
        criteria=tuple(criterion for _, criteria in judged for criterion in criteria),
        **(_test_images(reference) if isinstance(reference, Evidence) else {}),
    )


def _test_images(reference: Evidence) -> dict[str, Any]:
    """Return the verdict's keys about the test images."""
    counted = len(reference.counted.labels_N)
    copies = reference.report.images - counted
    return {"images": counted, "copies": copies, "test_set": reference.report.test_set}


def _refusal(worst: Criterion, forms: Sequence[FormVerdict]) -> str:
    others = [
        form.form for form in forms if form.required and form.judgement != "pass" and form.form != worst.form
    ]
    note = f" (also not passed: {', '.join(others)})" if others else ""
    return f"{worst.form}: {worst.sentence}{note}"

"""The gate on forms that consist of numbers only: its verdict, whether it passes or refuses."""

from typing import Any

from steps.errors import Refused
from steps.gate import gate
from steps.params.gate import GateParams
from steps.reports.verdict import FormVerdict, Verdict
from tests.parity.forms import ENGINES, Forms


def judged(forms: Forms, required: tuple[str, ...] = ("fuse", "export", *ENGINES), **limits: Any) -> Verdict:
    """Return the verdict that the step writes, or the verdict with which the step refuses."""
    out = forms.folder.parent / "gate"
    try:
        gate(GateParams(required=required, **limits), forms.engines, forms.folder, out)
    except Refused as refused:
        report = refused.report
    else:
        report = Verdict.read(out / "verdict.json")
    assert isinstance(report, Verdict)
    return report


def refusal(forms: Forms, required: tuple[str, ...] = ("fuse", "export", *ENGINES), **limits: Any) -> str:
    """Return the sentence with which the gate refuses."""
    sentence = judged(forms, required, **limits).refused
    assert sentence is not None, "the gate let it pass"
    return sentence


def of(verdict: Verdict, name: str) -> FormVerdict:
    return {form.form: form for form in verdict.forms}[name]

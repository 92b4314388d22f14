"""Judge every form of the model against the trained one, on the same test images; ship nothing that differs."""

import contextlib
from pathlib import Path

from steps.cli import run_step
from steps.errors import BadInput, Refused
from steps.files import write_whole
from steps.params.gate import GateParams
from steps.parity.criteria import AGAINST_CHAMPION, FLOORS, PAIRED
from steps.parity.judge import Terms, judge
from steps.progress import say
from steps.reports.evaluate import Latency
from steps.reports.verdict import LINE, Verdict, to_localise
from steps.reports.verdict_page import copies, page, table

LATENCIES = Path(".foldline/latency")


def gate(params: GateParams, engines: tuple[str, ...], evaluate: Path, out: Path) -> None:
    """Write verdict.json and verdict.md, from the FORM.json and FORM.parquet of each form in `evaluate`.

    Refuses when a form in `gate.required` fails, cannot be told (inconclusive) or was not run (deferred), or is
    missing; the sentence names form, metric, value, bound and key. Other engines are candidates: they ship if
    they pass.
    """
    limits = {key: getattr(params, key) for key in PAIRED | FLOORS | AGAINST_CHAMPION}
    terms = Terms(engines, params.required, limits, params.confidence, params.champion, params.classes)
    verdict = _with_command(judge(evaluate, terms))
    write_whole(out / "verdict.md", page(verdict).encode())
    say(f"verdict: {verdict.judgement.upper()}\n{table(verdict, _latencies(engines))}")
    if verdict.copies:
        say(copies(verdict))
    if verdict.refused is not None:
        raise Refused(verdict.refused, report=verdict)
    verdict.write(out / "verdict.json")


def _with_command(verdict: Verdict) -> Verdict:
    """Let a refusal for what a form computes name the command that looks into the form."""
    form = to_localise(verdict)
    if form is None or verdict.refused is None:
        return verdict
    said = f"{verdict.refused.rstrip('.')}. Where it begins: python -m tools.localise {form}"
    return verdict.model_copy(update={"refused": said})


def _latencies(engines: tuple[str, ...]) -> dict[str, str]:
    """Return what evaluate last measured on this machine: the median of a call at batch 1, on one thread.

    They are shown, not judged: a missing or unreadable measurement must not change the verdict.
    """
    shown = {}
    for form in (*LINE, *engines):
        with contextlib.suppress(BadInput):
            if (latency := Latency.read(LATENCIES / f"{form}.json").of_one_image()) is not None:
                shown[form] = latency
    return shown


if __name__ == "__main__":
    run_step(gate, report="verdict.json")

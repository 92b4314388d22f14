"""Judge every form of the model against the trained form, on the same test images; refuse what differs."""

import contextlib
from pathlib import Path

from steps.cli import run_step
from steps.errors import BadInput, Refused
from steps.files import write_whole
from steps.params.gate import GateParams
from steps.parity.judge import Terms, judge
from steps.progress import say
from steps.reports.evaluate import Latency
from steps.reports.verdict import LINE, Verdict, to_localise
from steps.reports.verdict_page import copies, page, table

LATENCIES = Path(".foldline/latency")


def gate(params: GateParams, engines: tuple[str, ...], evaluate: Path, out: Path) -> None:
    """Write verdict.json and verdict.md, from the FORM.json and FORM.parquet of each form in `evaluate`.

    Refuses when a form in `gate.required` fails, is inconclusive (too few test images), was not run (deferred), or
    is missing. The sentence names form, metric, value, bound and key. Other engines are candidates: a candidate
    ships if it passes.
    """
    verdict = _with_command(judge(evaluate, Terms.of(engines, params.model_dump())))
    write_whole(out / "verdict.md", page(verdict).encode())
    say(f"verdict: {verdict.judgement.upper()}\n{table(verdict, _latencies(engines))}")
    if verdict.copies:
        say(copies(verdict))
    if verdict.refused is not None:
        raise Refused(verdict.refused, report=verdict)
    verdict.write(out / "verdict.json")


def _with_command(verdict: Verdict) -> Verdict:
    """Add the command tools.localise to a refusal, if the outputs of the refused form differ."""
    form = to_localise(verdict)
    if form is None or verdict.refused is None:
        return verdict
    refused = f"{verdict.refused.rstrip('.')}. Where it begins: python -m tools.localise {form}"
    return verdict.model_copy(update={"refused": refused})


def _latencies(engines: tuple[str, ...]) -> dict[str, str]:
    """Return the latencies that evaluate measured last on this machine: the median for one image on one thread.

    The gate shows latencies and does not judge them: a missing or unreadable file never changes the verdict.
    """
    shown = {}
    for form in (*LINE, *engines):
        with contextlib.suppress(BadInput):
            if (latency := Latency.read(LATENCIES / f"{form}.json").of_one_image()) is not None:
                shown[form] = latency
    return shown


if __name__ == "__main__":
    run_step(gate, report="verdict.json")

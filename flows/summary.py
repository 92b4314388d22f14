"""The results of a run for people: artifacts in the Prefect UI, and a plain table for the terminal.

Only reports of stages that this run brought up to date are read, because other reports belong to earlier runs.
"""

import json
from collections.abc import Collection
from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from pydantic import BaseModel

from steps.errors import BadInput
from steps.files import write_whole
from steps.pages.report import as_markdown
from steps.pages.tables import aligned
from steps.reports.evaluate import FormReport, Latency
from steps.reports.verdict import FormVerdict, Verdict, plain

EVALUATE, GATE, LATENCIES = Path("data/evaluate"), Path("data/gate"), Path(".foldline/latency")
TABLE = Path(".foldline/summary.txt")
COLUMNS = ("form", "verdict", "top-1", "worst recall", "agreement", "size", "latency")
NOTHING = "-"
NOT_FAILED = {  # judgements that show no fault of the model, and the advice that follows the sentence
    "inconclusive": ". Add images, raise split.test, or raise that bound if a wider one is enough.",
    "deferred": "",
}


class Row(BaseModel):
    """One form for people; `latency` is the median for one image on one thread of this machine."""

    form: str
    verdict: str
    top1: float | None
    worst_recall: float | None
    agreement: float | None
    size_bytes: int
    latency: str | None

    def cells(self) -> dict[str, str]:
        """Return the row as text, in the order of COLUMNS."""
        percent = [_percent(share) for share in (self.top1, self.worst_recall, self.agreement)]
        size = f"{self.size_bytes / 1e6:.2f} MB" if self.size_bytes else NOTHING
        return dict(zip(COLUMNS, (self.form, self.verdict, *percent, size, self.latency or NOTHING), strict=True))


def rows(stages: Collection[str]) -> list[Row]:
    """Return a row for each form that these stages evaluated, with the verdict if they judged the form."""
    verdict = _verdict(stages)
    if verdict and verdict.forms:
        return [_judged(form, verdict.word(form)) for form in verdict.forms]
    evaluated = [stage.split("@")[1] for stage in stages if stage.startswith("evaluate")]
    reports = [EVALUATE / f"{form}.json" for form in evaluated]
    return [_measured(FormReport.read(report)) for report in reports if report.is_file()]


def headline(stages: Collection[str], sentence: str | None) -> str:
    """Return PASS, or FAIL (or the gate's judgement) with the sentence, or DONE if the gate did not run."""
    if sentence:
        return _not_passed(_verdict(stages), sentence)
    return "PASS  every required form passed the gate" if _verdict(stages) else "DONE  nothing was judged"


def as_text(stages: Collection[str], sentence: str | None) -> str:
    """Return the table of forms, aligned, with the headline below it."""
    cells = [list(row.cells().values()) for row in rows(stages)]
    lines = aligned(COLUMNS, cells, left=len(COLUMNS), rule="-") if cells else []
    return "\n".join([*lines, "", headline(stages, sentence)])


def publish(stages: Collection[str], sentence: str | None) -> None:
    """Create the run's artifacts `verdict` (markdown) and `metrics` (a table), and write the table to TABLE."""
    write_whole(TABLE, (as_text(stages, sentence) + "\n").encode())
    judged = GATE / "verdict.md"
    text = judged.read_text() if _verdict(stages) and judged.is_file() else ""
    title = headline(stages, plain(sentence) if sentence else None)
    create_markdown_artifact(key="verdict", markdown=f"**{title}**\n\n{text}")
    table = [row.cells() for row in rows(stages)]
    if table:
        create_table_artifact(key="metrics", table=table)


def publish_report(stage: str, report: Path | None) -> None:
    """Create the result page of a stage's task run, with the figures and tables of the stage's report."""
    if report is None:
        return
    key = "".join(letter if letter.isalnum() else "-" for letter in stage.lower())
    create_markdown_artifact(key=key, markdown=as_markdown(stage, json.loads(report.read_bytes())))


def _not_passed(verdict: Verdict | None, sentence: str) -> str:
    """Return the headline of a run that did not pass; too little evidence is not a failure of the model."""
    if verdict is None or verdict.judgement not in NOT_FAILED:
        return f"FAIL  {sentence}"
    return f"{verdict.judgement.upper()}  {sentence}{NOT_FAILED[verdict.judgement]}"


def _verdict(stages: Collection[str]) -> Verdict | None:
    report = GATE / "verdict.json"
    return Verdict.read(report) if "gate" in stages and report.is_file() else None


def _judged(form: FormVerdict, word: str) -> Row:
    figures = form.model_dump(include={"form", "top1", "worst_recall", "agreement", "size_bytes"})
    return Row(**figures, verdict=word, latency=_latency(form.form))


def _measured(report: FormReport) -> Row:
    figures = report.model_dump(include={"form", "top1", "worst_recall", "size_bytes"})
    word = "deferred" if report.deferred else "refused" if report.refused else "not judged"
    return Row(**figures, agreement=None, verdict=word, latency=_latency(report.form))


def _latency(form: str) -> str | None:
    try:
        return Latency.read(LATENCIES / f"{form}.json").of_one_image()
    except BadInput:  # the latency is only shown, so an unreadable file must not stop the run
        return None


def _percent(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.2f} %"

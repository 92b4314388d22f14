"""verdict.md: the verdict as a page and as a table for people."""

from collections.abc import Mapping

from steps.reports.verdict import FormVerdict, Verdict, plain

NONE = "-"
NOT_SHOWN = "is not shown to exceed"  # the relation of a pass whose bound is not shown to hold
MEANING = (
    "PASS means: every required form is the same model as trained, and not worse than the champion in production, "
    "if there is a champion. PASS does not mean good: the floors are `gate.min_top1` and `gate.min_worst_recall`. "
    "Accuracy is judged for future images like these, by confidence bounds. Agreement and scores are judged by "
    "their figures on these images."
)


def page(verdict: Verdict) -> str:
    """Return verdict.md: the judgement, the table, and a sentence for each criterion that did not pass."""
    parts = [
        f"# Verdict: {verdict.judgement.upper()}",
        f"{verdict.images} test images (test set {verdict.test_set[:12] or NONE}), each form paired with `train`; "
        f"bounds hold at {100 * verdict.confidence:g} %.",
        *([copies(verdict)] if verdict.copies else []),
        MEANING,
    ]
    if verdict.refused:
        parts.append(f"Refused: {plain(verdict.refused)}")
    parts.append(table(verdict))
    broken = [row for row in verdict.criteria if row.judgement != "pass"]
    if broken:
        rows = [f"- {row.form}: {row.judgement}: {plain(row.sentence)}" for row in broken]
        parts.append("\n".join(["## What did not pass", "", *rows]))
    undecided = [row for row in verdict.criteria if row.undecided]
    if undecided:
        rows = [f"- {row.form}, {row.metric}: {plain(', '.join(row.undecided))}" for row in undecided]
        parts.append("\n".join(["## Classes with too few test images to decide", "", *rows]))
    likely = [
        row
        for row in verdict.criteria
        if row.judgement == "pass" and not row.undecided and NOT_SHOWN in row.sentence
    ]
    if likely:
        rows = [f"- {row.form}: {plain(row.sentence)}" for row in likely]
        parts.append("\n".join(["## Likely within the bound, but not shown by the stored scores", "", *rows]))
    return "\n\n".join(parts) + "\n"


def copies(verdict: Verdict) -> str:
    """Return the sentence about the test images that were not counted."""
    whole = verdict.images + verdict.copies
    return f"{verdict.copies} of {whole} test images are copies of other test images and were not counted."


def table(verdict: Verdict, latency: Mapping[str, str] | None = None) -> str:
    """Return the forms as an aligned Markdown table, with a column of latencies if `latency` has any."""
    head = ["form", "judgement", "top-1", "worst recall", "agreement", "size"]
    rows = [head, *([_cell(text) for text in _row(form, verdict.word(form))] for form in verdict.forms)]
    columns = [[row[column] for row in rows] for column in range(len(head))]
    if latency:
        columns.append(["latency", *(latency.get(form.form, NONE) for form in verdict.forms)])
    columns.append(["why", *_without_repeats([_cell(form.why) or NONE for form in verdict.forms])])
    return "\n".join(_aligned(columns))


def _row(form: FormVerdict, word: str) -> list[str]:
    size = f"{form.size_bytes / 1e6:.2f} MB" if form.size_bytes else NONE
    figures = (_share(value) for value in (form.top1, form.worst_recall, form.agreement))
    return [form.form, word, *figures, size]


def _without_repeats(sentences: list[str]) -> list[str]:
    """Return the sentences; "as above" replaces a sentence that equals the last sentence above it."""
    shown, last = [], NONE
    for sentence in sentences:
        shown.append("as above" if sentence == last != NONE else sentence)
        last = last if sentence == NONE else sentence
    return shown


def _aligned(columns: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table; all columns but the last are padded."""
    widths = [*(max(map(len, column)) for column in columns[:-1]), 0]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in zip(*columns, strict=True)
    ]
    return [lines[0], "|" + "|".join("-" * max(width + 2, 5) for width in widths) + "|", *lines[1:]]


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def _cell(text: str) -> str:
    return plain(text).replace("|", "\\|")

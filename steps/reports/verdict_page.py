"""The verdict as a page and as a table that a person reads."""

from collections.abc import Mapping

from steps.reports.verdict import FormVerdict, Verdict, plain

NONE = "-"
OPEN = "is not shown to exceed"  # of what passes though its bound is not shown
MEANING = (
    "PASS means: every required form is the same model as trained, and not worse than the one in production, "
    "where there is one. It does not mean good: the floors are `gate.min_top1` and `gate.min_worst_recall`. "
    "Accuracy is judged for images like these, by bounds; agreement and scores by their figures on these."
)


def page(verdict: Verdict) -> str:
    """Return verdict.md: the judgement, the table, and a sentence for whatever did not pass."""
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
        parts.append("\n".join(["## Classes with too few test images to say", "", *rows]))
    bounded = [
        row for row in verdict.criteria if row.judgement == "pass" and not row.undecided and OPEN in row.sentence
    ]
    if bounded:
        rows = [f"- {row.form}: {plain(row.sentence)}" for row in bounded]
        parts.append("\n".join(["## Likely within the bound, and not shown by the scores kept", "", *rows]))
    return "\n\n".join(parts) + "\n"


def copies(verdict: Verdict) -> str:
    """Return the sentence that says how many test images were not counted."""
    whole = verdict.images + verdict.copies
    return f"{verdict.copies} of {whole} test images are copies of others and were not counted."


def table(verdict: Verdict, latency: Mapping[str, str] | None = None) -> str:
    """Return the forms as an aligned Markdown table; with a column of latencies where there are any."""
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
    """Return the sentences, "as above" for each that is the last one above it."""
    shown, last = [], NONE
    for sentence in sentences:
        shown.append("as above" if sentence == last != NONE else sentence)
        last = last if sentence == NONE else sentence
    return shown


def _aligned(columns: list[list[str]]) -> list[str]:
    """Return lines of a Markdown table; the last column is left as long as it is."""
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

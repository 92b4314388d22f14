"""The report of a stage as Markdown: its single figures, then a table for each list of rows."""

from collections.abc import Iterator
from typing import Any

from steps.pages.tables import markdown

MOST_ROWS = 20


def as_markdown(stage: str, report: dict[str, Any]) -> str:
    """Return the page of a report as its JSON holds it; of a long list the first rows, and how many follow."""
    figures = [(key, _cell(value)) for key, value in report.items() if _is_figure(value)]
    parts = [f"# {stage}"]
    if figures:
        parts.append(markdown(("figure", "value"), figures))
    for key, value in report.items():
        parts += _table(key, value)
    return "\n\n".join(parts) + "\n"


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float | str)


def _table(key: str, value: Any) -> Iterator[str]:
    """Yield a heading and a table of a list of objects, or of an object of figures; nothing of anything else."""
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        header = [name for name, cell in value[0].items() if not isinstance(cell, list | dict)]
        rows = [[_cell(row.get(name)) for name in header] for row in value]
    elif isinstance(value, dict) and value and all(map(_is_figure, value.values())):
        header, rows = [key, "value"], [[name, _cell(cell)] for name, cell in value.items()]
    else:
        return
    yield f"## {key}"
    yield markdown(header, rows[:MOST_ROWS])
    if len(rows) > MOST_ROWS:
        yield f"and {len(rows) - MOST_ROWS} more, in the stage's own report"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)

"""Tables as text: aligned columns for a terminal, and Markdown for the pages of Prefect and of pull requests."""

from collections.abc import Iterable, Sequence

Row = Sequence[str]


def aligned(header: Row, rows: Iterable[Row], left: int = 1, rule: str = "") -> list[str]:
    """Return the lines of a table: the first `left` columns flush left, numbers flush right; `rule` underlines."""
    whole = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in whole
    ]
    return [lines[0], "  ".join(rule * width for width in widths), *lines[1:]] if rule else lines


def markdown(header: Row, rows: Iterable[Row]) -> str:
    """Return a Markdown table; no cell can break out of its column, whatever it holds."""
    lines = [" | ".join(map(escaped, row)) for row in (header, *rows)]
    return "\n".join([f"| {lines[0]} |", "|" + "---|" * len(header), *(f"| {line} |" for line in lines[1:])])


def escaped(value: object) -> str:
    """Return the value on one line, with each letter that means something in Markdown escaped."""
    text = " ".join(str(value).split())
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in text)

"""What the tests read of a csv."""

import csv


def rows_of(text: str) -> list[dict[str, str]]:
    """Return a row a line, by the names of the columns."""
    return list(csv.DictReader(text.splitlines(keepends=True)))

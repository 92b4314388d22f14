"""Read a csv file for the tests."""

import csv


def rows_of(text: str) -> list[dict[str, str]]:
    """Return one row a line, keyed by the names of the columns."""
    return list(csv.DictReader(text.splitlines(keepends=True)))

"""Lists and tables with one column of 0 and 1 for each class, which are refused and never read as one label."""

from typing import Literal

import polars as pl

Found = tuple[Literal["one", "several"], int]
BRACKETS = " []()\"',;"


def columns_of_classes(unread: pl.DataFrame, label: pl.Series | None = None) -> Found | None:
    """Return whether a row has "one" class or "several", and the number of columns that stand for classes.

    Return None for ordinary columns. `unread` has the columns that no param names, and `label` is the label column
    of the source. Two columns stand for classes only if the 1 changes between them.
    """
    texts = unread.select(~(pl.selectors.nested() | pl.selectors.binary()))
    columns = [column for column in map(_flags, texts) if column is not None]
    if label is not None:
        label_flags = None if label.dtype.is_nested() else _flags(label)
        columns = [label_flags, *columns] if label_flags is not None else []
    if len(columns) < 2:
        return None
    flags = pl.DataFrame([column.alias(str(number)) for number, column in enumerate(columns)])
    if (flags.sum_horizontal() == 1).all() and (flags.width > 2 or flags.unique().height > 1):
        return "one", flags.width
    return ("several", flags.width) if flags.width > 2 else None


def _flags(values: pl.Series) -> pl.Series | None:
    """Return the column as 0 and 1, or None where the column holds anything else; -1 counts as 0."""
    texts = values.cast(pl.String).str.strip_chars(BRACKETS).str.to_lowercase()
    numbers = texts.replace({"true": "1", "false": "0"}).cast(pl.Float64, strict=False)
    if numbers.is_empty() or not numbers.is_in([-1.0, 0.0, 1.0]).fill_null(value=False).all():
        return None
    return (numbers == 1).cast(pl.Int64)


def one_hot_sentence(found: Found) -> str:
    """Return what is wrong with such a list or table, and what would be right."""
    kind, columns = found
    meaning = (
        "with one 1 in each line, so each column seems to stand for a class (one-hot)"
        if kind == "one"
        else "so each column seems to stand for a class, and an image has one class"
    )
    return (
        f"{columns} columns hold only 0 and 1, {meaning}. Write one column with the class of the image. If the "
        "label column alone holds the class id, set ingest.labels: ids"
    )

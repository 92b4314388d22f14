"""`ingest:` where the images are and how their labels are written down."""

from typing import Annotated, Literal

from pydantic import Field

from steps.params.base import Section

# Strict, as every section is: to Python true and -1 are numbers too, and would be taken for columns silently.
Number = Annotated[int, Field(ge=0)]
Column = Annotated[str | Number | None, Field(description="a column's name, or its number from 0")]


class Columns(Section):
    """Which column of a list or table holds what: a name in its first line, or a number from 0.

    Where nothing is said, a list has the path in column 0 and the label in column 1; a table has columns called
    path and label, and source, group and split where it has columns of these names.
    """

    path: Column = None
    label: Column = None
    source: Column = None
    group: Column = None
    split: Column = None


class IngestParams(Section):
    """`source` is a path: a folder, a list, a table, idx files, or a descriptor of a named sample.

    Lists and `label_names` (lines `id name`) lie in the source's folder, and their paths start there. With
    `labels: auto`, folder names are names, and the labels of lists and tables are ids where all are integers.
    """

    source: str = Field(min_length=1)
    layout: Literal["auto", "folders", "split_folders", "list", "table", "idx", "sample"] = "auto"
    lists: dict[Literal["all", "train", "val", "test"], str] = {}
    delimiter: str = Field(default="auto", min_length=1)
    columns: Columns = Columns()
    labels: Literal["auto", "ids", "names"] = "auto"
    label_names: str | None = None

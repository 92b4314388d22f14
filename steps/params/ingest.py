"""`ingest:` where the images are and how their labels are written down."""

from typing import Annotated, Literal

from pydantic import Field

from steps.params.base import Section

# Strict, as every section is: Python counts true and -1 as numbers, and would take them for columns silently.
Number = Annotated[int, Field(ge=0)]
Column = Annotated[
    str | Number | None, Field(json_schema_extra={"allowed": "a column's name, or its number from 0"})
]


class Columns(Section):
    """Which column of a list or table holds what: a name in the first line, or a number from 0."""

    path: Column = Field(
        None,
        description="The column with the path of the image. `null`: column 0 of a list, the column `path` of a "
        "table.",
    )
    label: Column = Field(
        None,
        description="The column with the class of the image. `null`: column 1 of a list, the column `label` of a "
        "table.",
    )
    source: Column = Field(
        None,
        description="The column that says where the image comes from, such as a camera, a site or `synthetic`. "
        "The report of ingest counts the sources, and the manifest keeps them. `null`: the column `source` of a "
        "table, or else the source is `real`.",
    )
    group: Column = Field(
        None,
        description="The column with the group of the image, such as a patient or a film. All images of a group "
        "stay in one split. `null`: the column `group` of a table, where there is one.",
    )
    split: Column = Field(
        None,
        description="The column with the ready-made split of the image: train, val, test, or nothing. `null`: "
        "the column `split` of a table, where there is one.",
    )


class IngestParams(Section):
    """Where the images are and how their labels are written down.

    The files of `lists` and `label_names` lie in the folder of the source, and the paths in lists start there.
    """

    source: str = Field(
        min_length=1,
        description="The folder, list, table, idx files or descriptor of a sample that ingest reads.",
        json_schema_extra={"allowed": "path"},
    )
    layout: Literal["auto", "folders", "split_folders", "list", "table", "idx", "sample"] = Field(
        "auto",
        description="How the source is laid out. `auto` finds the layout, and refuses a source that can be read "
        "in two ways.",
    )
    lists: dict[Literal["all", "train", "val", "test"], str] = Field(
        {},
        description="The list files, each under the split of its images. The split step deals out the images of "
        "`all`. Where nothing is given, ingest looks for `train_list.txt`, `val_list.txt` and `test_list.txt`.",
        json_schema_extra={
            "allowed": "`all`, `train`, `val`, `test`, each with a file in the folder of the source"
        },
    )
    delimiter: str = Field(
        "auto",
        min_length=1,
        description="The text between two fields of a list or table.",
        json_schema_extra={"allowed": "`auto`, or the delimiter itself"},
    )
    columns: Columns = Columns()
    labels: Literal["auto", "ids", "names"] = Field(
        "auto",
        description="Whether labels are class ids or class names. `auto`: the labels of a list or table are ids "
        "where all of them are integers; folder names are class names.",
    )
    label_names: str | None = Field(
        None,
        description="The file with the names of the class ids, `id name` in each line. Ingest refuses a label "
        "that is not in the file, and names the file and line of the label.",
        json_schema_extra={"allowed": "file in the folder of the source"},
    )
    alike_names: Literal["refuse", "keep"] = Field(
        "refuse",
        description="What ingest does where two class names differ only in upper and lower case, blanks, "
        "invisible letters, the Unicode form of their letters, or leading zeros. `refuse`: ingest refuses and "
        "names both. `keep`: the names are two classes, and ingest reports that. Blanks around a name are never "
        "part of the name.",
    )

"""Every layout that the params name is read, and an unclear case is refused, never guessed."""

from pathlib import Path
from typing import Any

import pytest

from steps.errors import BadInput, Refused, StepError
from steps.images.sources.layouts import LAYOUTS
from steps.params.ingest import IngestParams
from tests.images.sources.planted import listed, plant

REFUSED: dict[str, tuple[dict[str, str], dict[str, Any], type[StepError], str]] = {
    "nothing there": ({}, {}, Refused, "nothing to read"),
    "only notes": ({"notes.txt": ""}, {}, Refused, "nothing to read"),
    "images with no class": ({"cat/a.jpg": "", "b.jpg": ""}, {}, Refused, "b.jpg lies beside the class folders"),
    "images beside splits": (
        {"train/cat/a.jpg": "", "train/b.jpg": ""}, {}, Refused, "train/b.jpg lies beside the class folders",
    ),
    "splits and classes": ({"train/cat/a.jpg": "", "boat/b.jpg": ""}, {}, Refused, "ingest.layout"),
    "folders and a table": ({"cat/a.jpg": "", "t.csv": ""}, {}, Refused, "folders.*table.*ingest.layout"),
    "a list and a table": ({"val_list.txt": "", "t.csv": ""}, {}, Refused, "list.*table.*ingest.layout"),
    "two names for val": ({"val/cat/a.jpg": "", "valid/cat/a.jpg": ""}, {}, Refused, "val and valid"),
    "splits as classes": (
        {"train/cat/a.jpg": "", "test/cat/a.jpg": ""}, {"layout": "folders"}, BadInput, "split_folders",
    ),
    "an unknown class": (
        {"cat/a.jpg": "", "n.txt": "0 cats\n1 dogs"}, {"label_names": "n.txt"}, Refused, "Did you mean 'cats'",
    ),
    "a way out": ({"train_list.txt": "a.jpg 0\n../x.jpg 1", "a.jpg": ""}, {}, Refused, "line 2.*leads out"),
    "an absolute way out": ({"train_list.txt": "a.jpg 0\n/x/y 1", "a.jpg": ""}, {}, Refused, "line 2.*leads out"),
    "twice in a list": (
        {"train_list.txt": "a.jpg 0\nb.jpg 0\n./a.jpg 0", "a.jpg": ""}, {}, Refused, "line 3: 'a.jpg'.*line 1;",
    ),
    "twice with two labels": (
        {"train_list.txt": "a.jpg 0", "val_list.txt": "a.jpg 1", "a.jpg": ""},
        {}, Refused, "val_list.txt line 1.*train_list.txt line 1, with the labels 0 and 1",
    ),
    "a line without a label": (
        {"train_list.txt": "a.jpg 0\nb.jpg", "a.jpg": ""}, {}, Refused, r"line 2: 'b.jpg' has 1 field",
    ),
    "ids and names": ({"train_list.txt": "a.jpg 0\nb.jpg cat", "a.jpg": ""}, {}, Refused, "ingest.labels: names"),
    "several labels": ({"train_list.txt": "a.jpg\t0,1\nb.jpg\t0,0", "a.jpg": ""}, {}, Refused, "several classes"),
    "an endless id": ({"train_list.txt": "a.jpg 99999999999", "a.jpg": ""}, {}, Refused, "not a class id"),
    "a list of elsewhere": ({"train_list.txt": "x/a.jpg 0\nx/b.jpg 1"}, {}, Refused, "no image of.*x/a.jpg 0"),
    "an empty list": ({"train_list.txt": "\n"}, {}, Refused, "lists no images"),
    "a list outside": ({"a.jpg": ""}, {"lists": {"train": "../l.txt"}}, BadInput, "ingest.lists.train.*outside"),
    "a label file outside": (
        {"cat/a.jpg": ""}, {"label_names": "../n.txt"}, BadInput, "ingest.label_names: ../n.txt lies outside",
    ),
    "no such list": ({"a.jpg": ""}, {"lists": {"train": "l.txt"}}, BadInput, "ingest.lists.*cannot be read"),
    "no such column in a list": (
        {"train_list.txt": "path label\na.jpg 1", "a.jpg": ""},
        {"columns": {"label": "kind"}}, Refused, "ingest.columns 'kind'",
    ),
    "no such column in a table": (
        {"t.csv": "path,lable\na.jpg,1"}, {"layout": "table"}, BadInput, "columns.label.*Did you mean 'lable'",
    ),
    "an unknown split": ({"t.csv": "path,label,split\na.jpg,1,trian"}, {}, Refused, "2: 'trian' is not a split"),
    "a row without a label": ({"t.csv": "path,label\na.jpg,1\nb.jpg,"}, {}, Refused, "t.csv line 3 has no label"),
    "an empty table": ({"t.csv": "path,label\n"}, {}, Refused, "lists no images"),
    "no table at all": ({"t.parquet": "no"}, {}, Refused, "cannot be read as parquet"),
    "images without labels": ({"x-images-idx3-ubyte": ""}, {}, Refused, "not an idx file|file of labels"),
    "a control character": ({"a\nb/a.jpg": ""}, {}, Refused, "control characters"),
}  # fmt: skip


def test_every_layout_of_the_params_is_read() -> None:
    named = IngestParams.model_json_schema()["properties"]["layout"]["enum"]
    assert set(named) == {"auto", *LAYOUTS}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_rather_than_guessed(tmp_path: Path, case: str) -> None:
    files, options, kind, message = REFUSED[case]
    for file, content in files.items():
        plant(tmp_path, file).joinpath(file).write_text(content)
    with pytest.raises(StepError, match=message) as refusal:
        listed(tmp_path, **options)
    assert type(refusal.value) is kind
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("source", "content"), [("train_list.txt", "a.jpg 0\n"), ("t.csv", "path,label\na.jpg,0\n")]
)
def test_a_label_file_beside_a_source_that_is_one_file_would_not_be_watched(
    tmp_path: Path, source: str, content: str
) -> None:
    plant(tmp_path, "a.jpg")
    (tmp_path / source).write_text(content)
    (tmp_path / "n.txt").write_text("0 cat\n")
    with pytest.raises(
        BadInput, match=rf"one file; let ingest.source name the folder that holds {source} and n.txt"
    ):
        listed(tmp_path / source, label_names="n.txt")
    assert listed(tmp_path, label_names="n.txt")[1].class_names == {0: "cat"}


@pytest.mark.parametrize(
    ("source", "content"), [("train_list.txt", "a.jpg 0\n"), ("t.csv", "path,label\na.jpg,0\n")]
)
def test_a_source_that_is_one_file_says_that_its_images_are_not_watched(
    tmp_path: Path, source: str, content: str
) -> None:
    plant(tmp_path, "a.jpg")
    (tmp_path / source).write_text(content)
    assert listed(tmp_path)[1].notes == ()
    (note,) = listed(tmp_path / source)[1].notes
    assert "DVC watches only the file" in note and str(tmp_path / source) in note


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"ingest.source.*is not there"):
        listed(tmp_path / "nowhere")

"""Ids are checked against the label file, if there is one: a mistyped label is named by file and line."""

from pathlib import Path

import pytest

from steps.errors import Refused
from steps.images.sources.layouts import read_source
from steps.images.sources.listing import LabelKind, Listing, Source

NAMES = "0 ant\n1 bee\n2 cow\n"


def listed(root: Path, label_names: str | None = "names.txt", labels: LabelKind = "auto") -> Listing:
    (root / "names.txt").write_text(NAMES)
    return read_source(Source(path=root, label_names=label_names, labels=labels), "auto")[1]


def write_list(root: Path, *labels: object) -> None:
    rows = [f"{number}.jpg {label}" for number, label in enumerate(labels)]
    for number in range(len(labels)):
        (root / f"{number}.jpg").touch()
    (root / "train_list.txt").write_text("\n".join(rows))


def test_an_id_that_the_label_file_lacks_is_named_by_file_line_and_image(tmp_path: Path) -> None:
    write_list(tmp_path, 0, 1, 2, 0, 7, 1, 7)
    with pytest.raises(Refused) as refusal:
        listed(tmp_path)
    assert str(refusal.value).startswith(
        "train_list.txt line 5 ('4.jpg'), train_list.txt line 7 ('6.jpg'): the label file"
    )
    assert "no id 7; it has 3 ids from 0 to 2" in str(refusal.value)


def test_a_name_that_the_label_file_lacks_is_named_by_file_and_line(tmp_path: Path) -> None:
    write_list(tmp_path, "ant", "bea", "cow")
    with pytest.raises(Refused, match=r"train_list.txt line 2 \('1.jpg'\).* no class 'bea'.*Did you mean 'bee'"):
        listed(tmp_path)


def test_a_table_and_class_folders_are_held_against_it_too(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/t.csv").write_text("path,label\na.jpg,2\nb.jpg,-1\n")
    with pytest.raises(Refused, match=r"t.csv line 3 \('b.jpg'\).* no id -1"):
        listed(tmp_path / "t")
    (tmp_path / "f/7").mkdir(parents=True)
    with pytest.raises(Refused, match=r"class '7': .* no id 7"):
        listed(tmp_path / "f", labels="ids")


def test_ids_that_the_label_file_has_are_read_and_need_not_all_be_there(tmp_path: Path) -> None:
    write_list(tmp_path, 0, 2, 2)
    listing = listed(tmp_path)
    assert listing.rows["label"].to_list() == [0, 2, 2]
    assert listing.class_names == {0: "ant", 1: "bee", 2: "cow"}


def test_without_a_label_file_any_id_is_as_found_for_validate_to_judge(tmp_path: Path) -> None:
    write_list(tmp_path, 0, 1, 2, 7)
    assert listed(tmp_path, label_names=None).rows["label"].to_list() == [0, 1, 2, 7]

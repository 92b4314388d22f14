"""Lists: found by name, read with any delimiter, with the ids that the lists give."""

from pathlib import Path

import pytest

from tests.images.sources.planted import labels, listed, plant, splits


def test_paddle_lists_are_found_and_keep_their_ids(tmp_path: Path) -> None:
    plant(tmp_path, "jpg/1.jpg", "jpg/2.jpg", "jpg/3.jpg")
    (tmp_path / "train_list.txt").write_text("jpg/1.jpg 1\njpg/2.jpg 5\n\n")
    (tmp_path / "val_list.txt").write_text("./jpg/3.jpg 5\r\n")
    layout, listing = listed(tmp_path)
    assert layout == "list"
    assert labels(listing) == {"jpg/1.jpg": 1, "jpg/2.jpg": 5, "jpg/3.jpg": 5}
    assert splits(listing) == {"jpg/1.jpg": "train", "jpg/2.jpg": "train", "jpg/3.jpg": "val"}
    assert listing.class_names == {1: "1", 5: "5"}


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|", " ", "  ", " @@ "])
@pytest.mark.parametrize("path", ["a.jpg", "my pictures/a b.jpg"])
def test_any_delimiter_and_paths_with_blanks(tmp_path: Path, delimiter: str, path: str) -> None:
    plant(tmp_path, path, "c.jpg", "my pictures/other.jpg")
    (tmp_path / "list.txt").write_text(f"{path}{delimiter}7\nc.jpg{delimiter}8\n")
    asked = {"delimiter": "@@"} if "@" in delimiter else {}
    layout, listing = listed(tmp_path / "list.txt", **asked)
    assert layout == "list"
    assert labels(listing) == {path: 7, "c.jpg": 8}


def test_a_path_may_hold_the_delimiter(tmp_path: Path) -> None:
    plant(tmp_path, "a,b.jpg", "c,d,e.jpg", "f.jpg")
    (tmp_path / "list.txt").write_text("a,b.jpg,0\nc,d,e.jpg,1\nf.jpg,0\n")
    assert labels(listed(tmp_path / "list.txt")[1]) == {"a,b.jpg": 0, "c,d,e.jpg": 1, "f.jpg": 0}
    (tmp_path / "list.txt").write_text('"a,b.jpg",0\n"c,d,e.jpg",1\n')
    assert labels(listed(tmp_path / "list.txt", delimiter=",")[1]) == {"a,b.jpg": 0, "c,d,e.jpg": 1}


def test_lists_by_name_with_a_label_file_and_further_columns_by_number(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "mine.txt").write_text("a.jpg 0 real x1\nb.jpg 1 synthetic x1\n")
    (tmp_path / "held.txt").write_text("c.jpg 1 real x2\n")
    (tmp_path / "names.txt").write_text("0 great white shark\n1\thammerhead\n")
    lists = {"train": "mine.txt", "test": "held.txt"}
    _, listing = listed(tmp_path, lists=lists, label_names="names.txt", columns={"source": 2, "group": 3})
    assert listing.class_names == {0: "great white shark", 1: "hammerhead"}
    assert listing.rows["source"].to_list() == ["real", "synthetic", "real"]
    assert listing.rows["group"].to_list() == ["x1", "x1", "x2"]
    assert listing.rows["split"].to_list() == ["train", "train", "test"]


def test_columns_of_a_list_by_name(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "list.txt").write_text("kind;image;where\ncat;a.jpg;val\ndog;b.jpg;\n")
    _, listing = listed(tmp_path / "list.txt", columns={"path": "image", "label": "kind", "split": "where"})
    assert labels(listing) == {"a.jpg": 0, "b.jpg": 1}
    assert splits(listing) == {"a.jpg": "val", "b.jpg": None}


def test_an_absolute_path_inside_the_root_is_made_relative(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.jpg 0\nx/../b.jpg 1\n")
    assert sorted(labels(listed(tmp_path / "list.txt")[1])) == ["a.jpg", "b.jpg"]

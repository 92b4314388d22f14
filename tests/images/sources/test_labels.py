"""From written labels to class ids: a single map, without guesses."""

from collections import Counter
from pathlib import Path

import pytest

from steps.errors import Refused
from steps.images.sources.label_files import read_label_names
from steps.images.sources.labels import number_classes


def test_label_names_with_ids_or_without(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("3 a b\n\n0,c\n")
    assert read_label_names(path) == {3: "a b", 0: "c"}
    path.write_text("tench\ngreat white shark\n")
    assert read_label_names(path) == {0: "tench", 1: "great white shark"}
    path.write_text("0 a\n0 b\n")
    with pytest.raises(Refused, match="line 2: id 0 already has the name 'a'"):
        read_label_names(path)
    path.write_text("0 a\nb\n")
    with pytest.raises(Refused, match="line 2"):
        read_label_names(path)


def test_names_that_several_ids_share_are_told_apart() -> None:
    _, names, notes = number_classes(Counter(["0", "1"]), "auto", {0: "crane", 1: "crane", 2: "owl"})
    assert names == {0: "crane [0]", 1: "crane [1]", 2: "owl"}
    assert "crane" in notes[0]


def test_a_name_that_looks_like_one_told_apart_is_refused_where_both_are_there() -> None:
    with pytest.raises(Refused, match=r"2 classes are called 'crane \[0\]'"):
        number_classes(Counter(["0", "1"]), "auto", {0: "crane", 1: "crane", 2: "crane [0]"})


def test_negative_and_missing_ids_are_kept_for_validate_to_judge() -> None:
    ids, names, _ = number_classes(Counter(["-1", "7", "2.0"]), "auto", {})
    assert ids == {"-1": -1, "7": 7, "2.0": 2}
    assert names == {-1: "-1", 2: "2", 7: "7"}


def test_integers_may_be_names() -> None:
    ids, names, _ = number_classes(Counter(["10", "9", "x"]), "names", {})
    assert (ids, names) == ({"10": 0, "9": 1, "x": 2}, {0: "10", 1: "9", 2: "x"})


@pytest.mark.parametrize(
    "text",
    [
        "id,name\n0,cat\n1,great white shark\n",
        "name,id\ncat,0\ngreat white shark,1\n",
        "0,cat\n1,great white shark\n",
        "cat;0\ngreat white shark;1\n",
        "class_id,class,colour\n1,great white shark,grey\n0,cat,black\n",
        'id,name\n0,"cat"\n1,"great white shark"\n',
        "Class Name (str),Class ID (int),Coarse Name (str),Coarse ID (int),Icon (str)\n"
        "great white shark,1,fish,0,/a.jpg\ncat,0,mammal,1,/b.jpg\n",
        "name\ncat\ngreat white shark\n",
        "cat\ngreat white shark\n",
    ],
)
def test_a_csv_of_classes_is_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "classes.csv"
    path.write_text(text)
    assert read_label_names(path) == {0: "cat", 1: "great white shark"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("classes.csv", ",".join(f"class{number}" for number in range(99)), "a column of integer ids.*99 columns"),
        ("classes.csv", "a.jpg,cat\nb.jpg,dog\n", "a column of integer ids and a column of names"),
        ("classes.csv", "0,cat,1\n1,dog,2\n", "2 of these columns hold only integers"),
        ("classes.csv", "id,name\n0,cat\n1,dog,cow\n", "line 3 has 3 fields, but the first line has 2"),
        ("classes.csv", "id,name\n0,cat\n0,dog\n", "line 3: id 0 already has the name 'cat'"),
        ("classes.json", '["cat", "dog"]', "looks like JSON"),
        ("classes.txt", ",".join(f"class{number}" for number in range(99)), "has 781 letters; at most 200"),
    ],
)
def test_a_file_that_is_no_label_file_is_refused_by_its_name(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(Refused, match=message) as refusal:
        read_label_names(tmp_path / name)
    assert name in str(refusal.value)

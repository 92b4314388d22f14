"""From labels as written down to class ids: one map, no guess."""

from collections import Counter
from pathlib import Path

import pytest

from steps.errors import Refused
from steps.images.sources.labels import number_classes, read_label_names


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

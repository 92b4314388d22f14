"""Two class names that look the same to a reader are refused, unless `ingest.alike_names: keep` allows them."""

from pathlib import Path

import pytest

from steps.errors import Refused
from steps.images.sources.similar_names import similar_pairs, similarity
from tests.images.sources.planted import labels, listed, plant

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
PAIRS = {
    "case": ("Cat", "cat", "'Cat' and 'cat' differ only in upper and lower case"),
    "blanks inside": ("great  owl", "great owl", "differ only in blanks"),
    "no-break blank": ("great\u00a0owl", "great owl", "differ only in"),
    "composition": (COMPOSED, DECOMPOSED, r"'cafe\\u0301' and 'caf\\xe9' differ only in the Unicode form"),
    "zero width": ("cat", "c\u200bat", r"'cat' and 'c\\u200bat' differ only in invisible letters"),
    "mark": ("cat\ufeff", "cat", "differ only in invisible letters"),
    "soft hyphen": ("ca\u00adt", "cat", "differ only in invisible letters"),
    "full width": ("\uff43at", "cat", "the Unicode form"),
    "Cyrillic": ("c\u0430t", "cat", "letters of two alphabets"),
    "sharp s": ("Ma\u00dfe", "Masse", "upper and lower case"),
    "case and mark": ("CAT\u200d", "cat", "differ only in"),
    "leading zeros": ("01", "1", "leading zeros"),
}


@pytest.mark.parametrize("case", PAIRS)
def test_two_folders_with_similar_names_are_refused_unless_the_key_keeps_them(tmp_path: Path, case: str) -> None:
    first, second, message = PAIRS[case]
    plant(tmp_path, f"{first}/a.jpg", f"{second}/b.jpg", "dog/c.jpg")
    with pytest.raises(Refused, match=message) as refusal:
        listed(tmp_path)
    assert "ingest.alike_names: keep" in str(refusal.value)
    _, listing = listed(tmp_path, alike_names="keep")
    assert set(listing.class_names.values()) == {first, second, "dog"}
    assert any("two classes have similar names" in note for note in listing.notes)


@pytest.mark.parametrize("case", [case for case in PAIRS if case != "leading zeros"])
def test_two_labels_of_a_table_with_similar_names_are_refused_at_their_lines(tmp_path: Path, case: str) -> None:
    first, second, message = PAIRS[case]
    (tmp_path / "t.csv").write_text(f"path,label\na.jpg,{first}\nb.jpg,{second}\n")
    with pytest.raises(Refused, match=message) as refusal:
        listed(tmp_path / "t.csv")
    assert "t.csv line 2 ('a.jpg')" in str(refusal.value) and "t.csv line 3 ('b.jpg')" in str(refusal.value)
    assert len(listed(tmp_path / "t.csv", alike_names="keep")[1].class_names) == 2


def test_similar_names_in_two_splits_are_refused(tmp_path: Path) -> None:
    plant(tmp_path, "train/Cat/a.jpg", "train/dog/a.jpg", "val/cat/b.jpg")
    with pytest.raises(Refused, match="'Cat' and 'cat' differ only in upper and lower case"):
        listed(tmp_path)


def test_blanks_around_a_name_are_no_part_of_it_in_folders_and_lists(tmp_path: Path) -> None:
    folders = plant(tmp_path / "f", " cat/a.jpg", "dog /b.jpg")
    assert listed(folders)[1].class_names == {0: "cat", 1: "dog"}
    assert labels(listed(folders)[1]) == {" cat/a.jpg": 0, "dog /b.jpg": 1}
    plant(tmp_path / "l", "a.jpg", "b.jpg")
    (tmp_path / "l/train_list.txt").write_text("a.jpg\t cat\nb.jpg\tdog \n")
    assert listed(tmp_path / "l")[1].class_names == {0: "cat", 1: "dog"}


@pytest.mark.parametrize("alike_names", ["refuse", "keep"])
def test_two_folders_that_differ_in_blanks_around_the_name_are_refused(tmp_path: Path, alike_names: str) -> None:
    plant(tmp_path, " cat/a.jpg", "cat/b.jpg", "dog/c.jpg")
    with pytest.raises(Refused, match="' cat' and 'cat' differ only in the blanks around the name"):
        listed(tmp_path, alike_names=alike_names)


def test_similar_names_of_a_label_file_are_two_ids_and_are_reported(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b.jpg")  # ImageNet has Cardigan, a dog, and cardigan, a garment
    (tmp_path / "train_list.txt").write_text("a.jpg 0\nb.jpg 1\n")
    (tmp_path / "names.txt").write_text("0 Cardigan\n1 cardigan\n")
    _, listing = listed(tmp_path, label_names="names.txt")
    assert listing.class_names == {0: "Cardigan", 1: "cardigan"}
    assert "'Cardigan' and 'cardigan' differ only in upper and lower case" in listing.notes[0]


def test_ordinary_names_are_not_similar() -> None:
    names = [
        "n01440764",
        "n01443537",
        "cat",
        "cats",
        "golden_retriever",
        "golden retriever",
        "1",
        "10",
        "0",
        "100",
    ]
    assert similar_pairs([*names, "T-shirt/top", "m\u00fcde", "mude", "", "\u732b", "\u72ac"]) == []


def test_each_of_three_similar_names_is_found() -> None:
    pairs = similar_pairs(["cat", "CAT", "Cat"])
    assert pairs == [("CAT", "Cat"), ("Cat", "cat")]
    assert similarity(pairs[0]) == "'CAT' and 'Cat' differ only in upper and lower case"

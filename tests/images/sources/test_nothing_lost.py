"""No image, row or column is left out or merged silently: a note counts each, or ingest refuses."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from steps.errors import BadInput, Refused
from tests.images.sources.planted import labels, listed, plant
from tests.images.sources.test_idx_and_samples import plant_idx


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a folder unreadable, even for root, whom permissions do not stop."""

    def forbid(folder: Path) -> None:
        def guarded(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
            def guard(path: Any = ".") -> Any:
                if Path(path) == folder:
                    raise PermissionError(13, "Permission denied", str(path))
                return function(path)

            return guard

        monkeypatch.setattr(os, "scandir", guarded(os.scandir))
        monkeypatch.setattr(os, "listdir", guarded(os.listdir))

    return forbid


@pytest.mark.parametrize("folder", ["cat/more", "cat", ".", "cat/more/deeper", ".hidden"])
@pytest.mark.parametrize("layout", ["auto", "folders"])
def test_a_folder_that_cannot_be_read_is_refused_by_name(
    tmp_path: Path, forbid: Any, folder: str, layout: str
) -> None:
    plant(tmp_path, "cat/a.jpg", "cat/more/b.jpg", "cat/more/deeper/c.jpg", "dog/d.jpg")
    (tmp_path / ".hidden").mkdir()
    forbid(tmp_path / folder)
    with pytest.raises(Refused, match="cannot be read") as refusal:
        listed(tmp_path, layout)
    assert str(tmp_path / folder) in str(refusal.value)


@pytest.mark.parametrize("folder", ["train", "train/cat", "val/dog/more"])
def test_a_folder_of_a_split_that_cannot_be_read_is_refused(tmp_path: Path, forbid: Any, folder: str) -> None:
    plant(tmp_path, "train/cat/a.jpg", "train/dog/a.jpg", "val/dog/more/b.jpg")
    forbid(tmp_path / folder)
    with pytest.raises(Refused, match=f"{folder} cannot be read"):
        listed(tmp_path)


def one_note(path: Path, *words: str, **options: Any) -> str:
    notes = [note for note in listed(path, **options)[1].notes if all(word in note for word in words)]
    assert len(notes) == 1, listed(path, **options)[1].notes
    return notes[0]


def test_folders_below_class_folders_are_counted(tmp_path: Path) -> None:
    plant(tmp_path, "a/x/1.jpg", "a/y/1.jpg", "a/y/2.jpg", "b/x/1.jpg")
    note = one_note(tmp_path, "below the class folders")
    assert "4 images in 3 folder(s) below the class folders were merged into 2 class(es): a/x, a/y, b/x" in note
    plant(
        tmp_path / "s",
        "train/Fruit/Apple/1.jpg",
        "train/Fruit/Pear/1.jpg",
        "val/Fruit/Apple/2.jpg",
        "val/Nut/1.jpg",
    )
    note = one_note(tmp_path / "s", "below the class folders")
    assert (
        "3 images in 3 folder(s) below the class folders were merged into 1 class(es): train/Fruit/Apple" in note
    )


def test_flat_class_folders_need_no_note(tmp_path: Path) -> None:
    plant(tmp_path, "n01440764/n01440764_1.JPEG", "n01443537/n01443537_2.JPEG")
    assert listed(tmp_path)[1].notes == ()


def test_splits_below_a_class_folder_are_refused(tmp_path: Path) -> None:
    plant(tmp_path, "cat/train/1.jpg", "cat/test/2.jpg", "dog/train/3.jpg", "dog/test/4.jpg")
    with pytest.raises(Refused, match=r"class folder cat holds the folders test, train.*test/cat"):
        listed(tmp_path)


def test_split_folders_without_a_split_folder_says_which_folders_are_needed(tmp_path: Path) -> None:
    plant(tmp_path, "Fruit/Apple/1.jpg", "Fruit/Pear/1.jpg")
    with pytest.raises(BadInput, match="needs a folder called train, val or test"):
        listed(tmp_path, "split_folders")


def test_files_beside_the_splits_are_counted(tmp_path: Path) -> None:
    plant(tmp_path, "train/cat/a.jpg", "extra/b.jpg", "extra/more/c.jpg", "extra/notes.txt")
    note = one_note(tmp_path, "beside the splits", layout="split_folders")
    assert note == "2 file(s) in folders beside the splits were left out: extra/"


def test_class_folders_without_images_are_named(tmp_path: Path) -> None:
    plant(tmp_path, "cat/a.jpg", "dog/.a.jpg", "dog/notes.txt")
    assert one_note(tmp_path, "hold no images") == "1 class folder(s) hold no images: dog"


ONE_HOT = "a.jpg 1 0 0\nb.jpg 0 1 0\nc.jpg 0 0 1\n"
COLUMNS_OF_CLASSES = {
    "one-hot": ONE_HOT,
    "tabs": ONE_HOT.replace(" ", "\t"),
    "commas": ONE_HOT.replace(" ", ","),
    "floats": ONE_HOT.replace("1", "1.0"),
    "words": ONE_HOT.replace("1", "True").replace("0", "False"),
    "brackets": "a.jpg [1, 0, 0]\nb.jpg [0, 1, 0]\nc.jpg [0, 0, 1]\n",
    "two classes": "a.jpg 1 0\nb.jpg 0 1\n",
    "one class is seen": "a.jpg 1 0 0\nb.jpg 1 0 0\n",
    "several classes": "a.jpg 1 1 0\nb.jpg 0 1 1\n",
    "CelebA": "a.jpg -1 1 1 -1\nb.jpg -1 -1 1 1\n",
    "and a text": "a.jpg 1 0 0 left\nb.jpg 0 1 0 right\n",
}


@pytest.mark.parametrize("case", COLUMNS_OF_CLASSES)
def test_a_list_with_a_column_for_each_class_is_refused(tmp_path: Path, case: str) -> None:
    plant(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "list.txt").write_text(COLUMNS_OF_CLASSES[case])
    with pytest.raises(Refused, match=r"hold only 0 and 1.*each column seems to stand for a class"):
        listed(tmp_path / "list.txt")


@pytest.mark.parametrize("label", ["[1, 0, 0]", "1,0,0", "1 0 0", "(0; 1)", "0.5 0.5"])
def test_one_field_with_several_numbers_is_refused(tmp_path: Path, label: str) -> None:
    plant(tmp_path, "a.jpg")
    (tmp_path / "list.txt").write_text(f"a.jpg\t{label}\n")
    with pytest.raises(Refused, match="names several classes"):
        listed(tmp_path / "list.txt", delimiter="\t")


def test_a_flag_beside_the_class_id_is_no_second_class(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "list.txt").write_text("a.jpg 1 0\nb.jpg 1 1\nc.jpg 0 0\n")
    assert labels(listed(tmp_path / "list.txt")[1]) == {"a.jpg": 1, "b.jpg": 1, "c.jpg": 0}
    (tmp_path / "list.txt").write_text(ONE_HOT)
    assert labels(listed(tmp_path / "list.txt", labels="ids")[1]) == {"a.jpg": 1, "b.jpg": 0, "c.jpg": 0}


def test_a_table_with_a_column_for_each_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,cat,dog,cow,site\na.jpg,1,0,0,x\nb.jpg,0,1,0,y\n")
    with pytest.raises(
        BadInput, match=r"no column 'label'.*3 of these columns hold only 0 and 1: write one column"
    ):
        listed(tmp_path / "t.csv")
    with pytest.raises(Refused, match=r"t\.csv: 3 columns hold only 0 and 1.*one-hot"):
        listed(tmp_path / "t.csv", columns={"label": "cat"})
    assert len(listed(tmp_path / "t.csv", columns={"label": "cat"}, labels="ids")[1].class_names) == 2
    table = pl.DataFrame({"path": ["a.jpg", "b.jpg"], "cat": [True, False], "dog": [False, True]})
    for kind in (pl.Boolean, pl.Int8, pl.Float32):
        table.with_columns(pl.col("cat").cast(kind)).write_parquet(tmp_path / "t.parquet")
        with pytest.raises(Refused, match="2 columns hold only 0 and 1"):
            listed(tmp_path / "t.parquet", columns={"label": "cat"})
    plant(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "t.csv").write_text("a.jpg,1,1,0\nb.jpg,0,1,1\n")
    with pytest.raises(Refused, match="3 columns hold only 0 and 1, so each column seems to stand for a class"):
        listed(tmp_path / "t.csv", columns={"path": 0, "label": 1})


def test_flags_beside_a_label_of_a_table_are_no_classes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label,male,smoker\na.jpg,1,0,0\nb.jpg,0,1,0\nc.jpg,0,0,1\n")
    assert listed(tmp_path / "t.csv")[1].rows.height == 3


def test_columns_that_are_not_read_are_named(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "t.csv").write_text("path,label,Group,site\na.jpg,1,p1,\nb.jpg,0,p2,north\n")
    note = one_note(tmp_path / "t.csv", "not read")
    assert note == (
        "t.csv: 2 column(s) are not read: 'Group' (such as 'p1'), 'site' (such as 'north'); see ingest.columns"
    )
    (tmp_path / "t.csv").unlink()
    (tmp_path / "train_list.txt").write_text("a.jpg 1 9 x\nb.jpg 0 8 y\n")
    note = one_note(tmp_path, "not read")
    assert "train_list.txt: 2 column(s) are not read: column 2 (such as '9'), column 3 (such as 'x')" in note
    (tmp_path / "train_list.txt").write_text("a.jpg,1,\nb.jpg,0,\n")
    assert listed(tmp_path)[1].notes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg great owl\nb.jpg great shark\n", r"line 1.*1 more field\(s\).*separate the fields by tabs"),
        ("a.jpg great white shark\nb.jpg tench\n", r"line 2.*has 2 fields, separated by blanks, but line 1 has 4"),
        ("a.jpg,0\nb.jpg,1,note\n", r"line 2.*has 3 fields, separated by a comma, but line 1 has 2"),
    ],
)
def test_names_that_would_lose_their_end_are_refused(tmp_path: Path, text: str, message: str) -> None:
    plant(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(Refused, match=message):
        listed(tmp_path / "list.txt")


def test_a_stated_delimiter_allows_further_fields_beside_names(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "list.txt").write_text("a.jpg cat 0.9\nb.jpg dog 0.8\n")
    assert labels(listed(tmp_path / "list.txt", delimiter=" ")[1]) == {"a.jpg": 0, "b.jpg": 1}


def test_a_delimiter_at_the_end_of_some_lines_is_no_field(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "list.txt").write_text("a.jpg,0,\nb.jpg,1\nc.jpg,1,\n")
    assert labels(listed(tmp_path / "list.txt")[1]) == {"a.jpg": 0, "b.jpg": 1, "c.jpg": 1}
    (tmp_path / "list.txt").write_text("a.jpg,0,note\nb.jpg,1,\nc.jpg,1,\n")
    assert listed(tmp_path / "list.txt")[1].rows.height == 3


def test_images_that_no_list_names_are_counted(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b.jpg", "more/c.PNG", "more/notes.txt", ".git/d.jpg")
    (tmp_path / "train_list.txt").write_text("a.jpg 0\n")
    note = one_note(tmp_path, "in no list")
    assert note == f"2 image(s) of {tmp_path} are in no list or table and were left out: b.jpg, more/c.PNG"


@pytest.mark.parametrize("group", ["nan", "NaN", "none", "None", "null", "NULL", '""', "'nan'", "<NA>", "N/A"])
@pytest.mark.parametrize("layout", ["list", "table", "parquet"])
def test_a_group_that_stands_for_no_group_is_refused(tmp_path: Path, group: str, layout: str) -> None:
    plant(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    groups = ["p1", group, group]
    if layout == "list":
        path, columns = tmp_path / "list.txt", {"group": 2}
        path.write_text("".join(f"{name}.jpg 0 {value}\n" for name, value in zip("abc", groups, strict=True)))
    else:
        path, columns = tmp_path / f"t.{'csv' if layout == 'table' else layout}", {}
        table = pl.DataFrame({"path": ["a.jpg", "b.jpg", "c.jpg"], "label": [0, 1, 1], "group": groups})
        table.write_csv(path) if layout == "table" else table.write_parquet(path)
    with pytest.raises(Refused, match=r"\(2 images\) seems to stand for a missing value\. Leave the field empty"):
        listed(path, columns=columns)


def test_an_empty_group_is_no_group_and_other_names_are_groups(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        'path,label,group\na.jpg,0,""\nb.jpg,1,\nc.jpg,1,nano\nd.jpg,0,P1\ne.jpg,0,p1\n'
    )
    _, listing = listed(tmp_path / "t.csv")
    assert listing.rows["group"].to_list() == [None, None, "nano", "P1", "p1"]
    assert any("1 pair(s) of groups have similar names" in note for note in listing.notes)


@pytest.mark.parametrize("label", ["0.5", "+1", "1e3", ".5", "nan", "NULL", "''"])
@pytest.mark.parametrize("others", [[], ["cat"]])
def test_a_number_that_is_no_class_id_is_no_class_name(tmp_path: Path, label: str, others: list[str]) -> None:
    rows = [f"{number}.jpg,{value}\n" for number, value in enumerate([label, *others])]
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(rows))
    with pytest.raises(Refused, match=r"t\.csv line 2 \('0.jpg'\).*neither a class id.*ingest.labels: names"):
        listed(tmp_path / "t.csv")
    assert label in listed(tmp_path / "t.csv", labels="names")[1].class_names.values()


def test_folders_that_are_numbers_of_any_form_are_names(tmp_path: Path) -> None:
    assert listed(plant(tmp_path, "0.5/a.jpg", "+1/a.jpg"))[1].class_names == {0: "+1", 1: "0.5"}


def test_one_id_written_in_two_ways_is_reported(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\na.jpg,1\nb.jpg,1.0\nc.jpg,0\n")
    note = one_note(tmp_path / "t.csv", "several ways")
    assert note == "1 class id(s) are written in several ways, such as '1', '1.0'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.jpg,0\nb.jpg,1,2\n", r"t\.csv line 3 has 3 fields, but line 1 has 2"),
        ('path,label\n"a.jpg,0\nb.jpg,1\n', r"t\.csv line 2: a field has a line break"),
        ('path,label\na.jpg,"0\nb.jpg,1\nc.jpg,"2\n', r"t\.csv line 2: a field has a line break"),
        ('path,label\n"a.jpg\n",0\n', "a field has a line break"),
    ],
)
def test_a_broken_csv_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(Refused, match=message) as refusal:
        listed(tmp_path / "t.csv")
    assert "Schema" not in str(refusal.value) and "dtype" not in str(refusal.value)


HINTS = {
    "backslashes": ("x\\A b.jpg", "write /"),
    "percent": ("x/A%20b.jpg", "not %"),
    "case": ("X/a B.JPG", "upper and lower case"),
    "beginning": ("data/raw/x/A b.jpg", "paths start in"),
    "all": ("X\\a%20b.jpg", "upper and lower case"),
}


@pytest.mark.parametrize("case", HINTS)
def test_a_path_that_leads_nowhere_comes_with_a_hint(tmp_path: Path, case: str) -> None:
    written, reason = HINTS[case]
    plant(tmp_path, "x/A b.jpg")
    (tmp_path / "train_list.txt").write_text(f"{written}\t0\n")
    with pytest.raises(Refused, match="no image of its first 1 line") as refusal:
        listed(tmp_path)
    assert "'x/A b.jpg' is: " in str(refusal.value) and reason in str(refusal.value)


def test_several_tables_are_refused_as_several_layouts_are(tmp_path: Path) -> None:
    plant(tmp_path, "a.csv", "b.csv")
    with pytest.raises(Refused, match=r"several tables: a\.csv, b\.csv"):
        listed(tmp_path)


def test_idx_files_that_are_not_read_are_named(tmp_path: Path) -> None:
    plant_idx(tmp_path)
    assert listed(tmp_path)[1].notes == ()
    (tmp_path / "colour-images-idx4-ubyte").write_bytes(b"")
    note = one_note(tmp_path, "idx file")
    assert note == "1 idx file(s) are not read, because they hold no grey images: colour-images-idx4-ubyte"


def test_labels_that_differ_in_blanks_around_them_are_one_class_and_are_counted(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\na.jpg, cat\nb.jpg,cat\nc.jpg,dog\n")
    assert labels(listed(tmp_path / "t.csv")[1]) == {"a.jpg": 0, "b.jpg": 0, "c.jpg": 1}
    assert one_note(tmp_path / "t.csv", "blanks").startswith("1 label(s) differ from another label only in blanks")


def test_a_zero_byte_in_a_path_is_called_so(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg")
    (tmp_path / "list.txt").write_text("a.jpg 0\nb\0.jpg 1\n")
    with pytest.raises(Refused, match=r"list\.txt line 2: the path contains a zero byte"):
        listed(tmp_path / "list.txt")


def test_class_folders_below_splits_are_not_merged_into_two_classes(tmp_path: Path) -> None:
    plant(tmp_path, "train/cat/a.jpg", "val/cat/b.jpg", "meta/c.jpg")
    with pytest.raises(BadInput, match=r"would take train, val .* as classes.*split_folders"):
        listed(tmp_path, "folders")
    vehicles = plant(tmp_path / "vehicles", "train/a.jpg", "boat/b.jpg")
    assert listed(vehicles, "folders")[1].class_names == {0: "boat", 1: "train"}


def test_images_without_a_class_folder_are_not_called_nothing(tmp_path: Path) -> None:
    plant(tmp_path, "b.jpg", "a.jpg", "notes.txt")
    with pytest.raises(Refused, match=r"holds 2 image\(s\), such as a\.jpg, and no class folder"):
        listed(tmp_path)


USUAL: dict[str, tuple[tuple[str, ...], int]] = {
    "ImageNet": (("train/n01440764/a.JPEG", "train/n01443537/a.JPEG", "val/n01440764/b.JPEG"), 2),
    "CIFAR-10": (("train/airplane/0.png", "train/automobile/1.png", "test/airplane/2.png"), 2),
    "digits": (tuple(f"{number}/a.png" for number in range(12)), 12),
    "flowers": (("daisy/a.jpg", "dandelion/b.jpg", "rose/c.jpg", "LICENSE.txt"), 3),
    "letters": (tuple(f"{letter}/a.png" for letter in "ABCXYZ"), 6),
    "other scripts": (("\u732b/a.jpg", "\u72ac/a.jpg", "\u043a\u043e\u0442/a.jpg", "kot/a.jpg"), 4),
}


@pytest.mark.parametrize("case", USUAL)
def test_usual_folders_need_neither_a_refusal_nor_a_note(tmp_path: Path, case: str) -> None:
    files, classes = USUAL[case]
    _, listing = listed(plant(tmp_path, *files))
    assert len(listing.class_names) == classes
    assert [note for note in listing.notes if "has the id" not in note] == []


def test_a_folder_for_the_images_of_each_class_is_kept(tmp_path: Path) -> None:
    plant(tmp_path, "train/n01443537/images/a.JPEG", "train/n01629819/images/b.JPEG")  # Tiny ImageNet
    assert set(labels(listed(tmp_path)[1]).values()) == {0, 1}


def test_a_folder_of_the_file_system_that_only_root_reads_does_not_matter(tmp_path: Path, forbid: Any) -> None:
    plant(tmp_path, "cat/a.jpg", "lost+found/x")
    forbid(tmp_path / "lost+found")
    assert sorted(labels(listed(tmp_path)[1])) == ["cat/a.jpg"]
    (tmp_path / "train_list.txt").write_text("cat/a.jpg 0\n")
    assert sorted(labels(listed(tmp_path)[1])) == ["cat/a.jpg"]


@pytest.mark.parametrize("layout", ["folders", "table", "list"])
def test_a_csv_of_classes_is_no_table_of_images(tmp_path: Path, layout: str) -> None:
    plant(tmp_path, "cat/a.jpg", "dog/b.jpg")
    (tmp_path / "classes.csv").write_text("id,name\n0,dog\n1,cat\n")
    if layout == "table":
        (tmp_path / "t.csv").write_text("path,label\ncat/a.jpg,1\ndog/b.jpg,0\n")
    if layout == "list":
        (tmp_path / "train_list.txt").write_text("cat/a.jpg 1\ndog/b.jpg 0\n")
    found = "auto" if layout != "table" else "table"  # class folders beside a table are two layouts
    _, listing = listed(tmp_path, found, label_names="classes.csv")
    assert labels(listing) == {"cat/a.jpg": 1, "dog/b.jpg": 0}
    assert listing.class_names == {0: "dog", 1: "cat"}

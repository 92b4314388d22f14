"""Folders: each is a class, also below ready-made splits; only files that are clearly no images are left out."""

import re
from pathlib import Path

import pytest

from steps.errors import Refused
from tests.images.sources.planted import labels, listed, plant, splits


def test_a_folder_a_class(tmp_path: Path) -> None:
    layout, listing = listed(plant(tmp_path, "dog/b.jpg", "cat/a.jpg", "cat/deeper/c.jpg", "cat/B.PNG"))
    assert layout == "folders"
    assert listing.class_names == {0: "cat", 1: "dog"}
    assert labels(listing) == {"cat/a.jpg": 0, "cat/B.PNG": 0, "cat/deeper/c.jpg": 0, "dog/b.jpg": 1}
    assert set(splits(listing).values()) == {None}


def test_ready_made_splits_are_kept_and_share_one_class_map(tmp_path: Path) -> None:
    plant(
        tmp_path, "train/dog/1.jpg", "train/cat/1.jpg", "validation/dog/2.jpg", "Test/ant/3.jpg", "Test/dog/4.jpg"
    )
    layout, listing = listed(tmp_path)
    assert layout == "split_folders"
    assert listing.class_names == {0: "ant", 1: "cat", 2: "dog"}  # ant is in test only, and shifts no id
    assert labels(listing) == {
        "train/dog/1.jpg": 2, "train/cat/1.jpg": 1, "validation/dog/2.jpg": 2, "Test/ant/3.jpg": 0,
        "Test/dog/4.jpg": 2,
    }  # fmt: skip
    assert splits(listing)["validation/dog/2.jpg"] == "val"
    assert splits(listing)["Test/ant/3.jpg"] == "test"


def test_folders_that_are_numbers_are_ordered_by_value_and_say_that_they_are_names(tmp_path: Path) -> None:
    root = plant(tmp_path, "1/a.jpg", "2/a.jpg", "10/a.jpg")
    _, listing = listed(root)
    assert listing.class_names == {0: "1", 1: "2", 2: "10"}
    assert "'1' has the id 0" in listing.notes[0]
    _, listing = listed(root, labels="ids")
    assert labels(listing) == {"1/a.jpg": 1, "2/a.jpg": 2, "10/a.jpg": 10}
    assert listing.notes == ()


def test_a_label_file_gives_folders_their_ids(tmp_path: Path) -> None:
    plant(tmp_path, "cat/a.jpg", "dog/b.jpg")
    (tmp_path / "labels.txt").write_text("0 dog\n1 cat\n2 cow\n")
    _, listing = listed(tmp_path, label_names="labels.txt")
    assert labels(listing) == {"cat/a.jpg": 1, "dog/b.jpg": 0}
    assert listing.class_names == {0: "dog", 1: "cat", 2: "cow"}


def test_what_is_clearly_no_image_is_skipped_by_name_and_all_else_is_listed(tmp_path: Path) -> None:
    plant(
        tmp_path, "README.md", "cat/Thumbs.db", "cat/.DS_Store", "cat/notes.txt", "cat/a.jpg", "cat/b.dat", "cat/c"
    )
    _, listing = listed(tmp_path)
    assert sorted(labels(listing)) == ["cat/a.jpg", "cat/b.dat", "cat/c"]
    assert sorted(listing.skipped) == ["README.md", "cat/.DS_Store", "cat/Thumbs.db", "cat/notes.txt"]


ODD_NAMES = ["passport", "license", "visa", "readme", "v1.list", "notes.txt", "data.csv", "Makefile", "thumbs.db"]


def test_a_folder_is_a_class_whatever_it_is_called(tmp_path: Path) -> None:
    _, listing = listed(plant(tmp_path, *(f"{name}/a.jpg" for name in ODD_NAMES)), "folders")
    assert set(listing.class_names.values()) == set(ODD_NAMES)
    assert (listing.rows.height, listing.skipped) == (len(ODD_NAMES), ())
    splits = [f"{split}/{name}/a.jpg" for split in ("train", "val") for name in ODD_NAMES]
    _, listing = listed(plant(tmp_path / "ready", *splits))
    assert set(listing.class_names.values()) == set(ODD_NAMES)


def test_inside_a_class_too_only_files_are_skipped_by_their_names(tmp_path: Path) -> None:
    files = [f"cat/{name}/a.jpg" for name in ODD_NAMES] + ["cat/license.jpg", "cat/readme.png"]
    _, listing = listed(plant(tmp_path, *files, "cat/README", "cat/v1.list/urls.txt"))
    assert sorted(labels(listing)) == sorted(files)
    assert listing.skipped == ("cat/README", "cat/v1.list/urls.txt")


def test_what_programs_keep_beside_images_is_left_out_and_said(tmp_path: Path) -> None:
    plant(tmp_path, "cat/a.jpg", "__MACOSX/cat/a.jpg", "cat/@eaDir/a.jpg", "cat/b/.ipynb_checkpoints/a.jpg")
    plant(tmp_path, ".git/HEAD", ".dvc/tmp/x")
    (tmp_path / ".empty").mkdir()
    _, listing = listed(tmp_path)
    assert sorted(labels(listing)) == ["cat/a.jpg"]
    left_out = [".dvc/", ".empty/", ".git/", "__MACOSX/", "cat/@eaDir/", "cat/b/.ipynb_checkpoints/"]
    assert sorted(listing.skipped) == left_out


@pytest.mark.parametrize("hidden", [".net/a.jpg", "..x/a.jpg", ".net/deeper/a.jpg", "cat/.more/a.jpg"])
@pytest.mark.parametrize("others", [["cat/b.jpg", "dog/b.jpg"], []])
def test_another_hidden_folder_that_holds_files_is_refused_by_name(
    tmp_path: Path, hidden: str, others: list[str]
) -> None:
    plant(tmp_path, hidden, *others)
    (name,) = [part for part in Path(hidden).parts if part.startswith(".")]
    with pytest.raises(Refused, match=rf"{re.escape(name)}' is hidden but contains files"):
        listed(tmp_path)


def test_a_hidden_link_is_refused_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    root = plant(tmp_path / "root", "cat/a.jpg")
    (root / ".link").symlink_to(tmp_path / "outside")
    with pytest.raises(Refused, match=r"\.link' is hidden"):
        listed(root)


def test_a_split_without_class_folders_loses_no_image_silently(tmp_path: Path) -> None:
    plant(tmp_path, "train/cat/a.jpg", "val/b.jpg")
    with pytest.raises(Refused, match=r"val/b\.jpg lies beside the class folders"):
        listed(tmp_path)


def test_folders_beside_the_splits_are_said(tmp_path: Path) -> None:
    plant(tmp_path, "train/cat/a.jpg", "extra/b.jpg")
    assert listed(tmp_path, "split_folders")[1].skipped == ("extra/",)


def test_an_empty_class_folder_keeps_its_place_in_the_map(tmp_path: Path) -> None:
    plant(tmp_path, "ant/a.jpg", "cow/a.jpg")
    (tmp_path / "bee").mkdir()
    _, listing = listed(tmp_path)
    assert labels(listing) == {"ant/a.jpg": 0, "cow/a.jpg": 2}


def test_a_name_in_another_encoding_is_listed_and_marked(tmp_path: Path) -> None:
    plant(tmp_path, "cat/a.jpg", "cat/caf\udce9.jpg")
    _, listing = listed(tmp_path)
    assert sorted(labels(listing)) == ["cat/a.jpg", "cat/caf\\xe9.jpg"]
    assert listing.bad_names == ("cat/caf\\xe9.jpg",)


def test_a_skipped_name_in_another_encoding_can_be_written_down(tmp_path: Path) -> None:
    _, listing = listed(plant(tmp_path, "cat/a.jpg", "cat/caf\udce9.txt"))
    assert listing.skipped == ("cat/caf\\xe9.txt",)


def test_a_linked_folder_is_not_walked(tmp_path: Path) -> None:
    outside = plant(tmp_path / "outside", "x.jpg")
    root = plant(tmp_path / "root", "cat/a.jpg")
    (root / "cat/more").symlink_to(outside)
    assert sorted(labels(listed(root)[1])) == ["cat/a.jpg", "cat/more"]  # inspection reports the link
    (root / "dog").symlink_to(outside)
    with pytest.raises(Refused, match="a link to a place outside"):
        listed(root)


def test_folders_are_listed_in_one_order(tmp_path: Path) -> None:
    names = [f"{letter}/{number}.jpg" for letter in "cab" for number in range(9)]
    one = listed(plant(tmp_path / "one", *names))[1].rows
    other = listed(plant(tmp_path / "other", *reversed(names)))[1].rows
    assert one.equals(other)

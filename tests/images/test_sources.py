"""Each layout that images come in, and what is refused rather than guessed."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from steps.errors import BadInput, Refused, StepError
from steps.images.sources.labels import number_classes, read_label_names
from steps.images.sources.layouts import LAYOUTS, read_source
from steps.images.sources.listing import ROWS, Listing, Source
from steps.images.sources.samples import SAMPLES
from steps.params.ingest import IngestParams


def plant(root: Path, *files: str) -> Path:
    """Make `files` below `root`. What is in them does not matter: listing opens none."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.encode(errors="surrogateescape"))
    return root


def listed(path: Path, layout: str = "auto", **options: Any) -> tuple[str, Listing]:
    layout, listing = read_source(Source(path=path, **options), layout)
    assert dict(listing.rows.schema) == ROWS
    return layout, listing


def labels(listing: Listing) -> dict[str, int]:
    return dict(listing.rows.select("name", "label").iter_rows())


def splits(listing: Listing) -> dict[str, str | None]:
    return dict(listing.rows.select("name", "split").iter_rows())


def test_every_layout_of_the_params_is_read() -> None:
    named = IngestParams.model_json_schema()["properties"]["layout"]["enum"]
    assert set(named) == {"auto", *LAYOUTS}


# --- folders


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
    assert listing.class_names == {0: "ant", 1: "cat", 2: "dog"}  # ant is in test only, and shifts no other split
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


def test_a_linked_folder_is_not_walked(tmp_path: Path) -> None:
    outside = plant(tmp_path / "outside", "x.jpg")
    root = plant(tmp_path / "root", "cat/a.jpg")
    (root / "cat/more").symlink_to(outside)
    assert sorted(labels(listed(root)[1])) == ["cat/a.jpg", "cat/more"]  # which inspection finds outside the root
    (root / "dog").symlink_to(outside)
    with pytest.raises(Refused, match="leads out of"):
        listed(root)


def test_folders_are_listed_in_one_order(tmp_path: Path) -> None:
    names = [f"{letter}/{number}.jpg" for letter in "cab" for number in range(9)]
    one = listed(plant(tmp_path / "one", *names))[1].rows
    other = listed(plant(tmp_path / "other", *reversed(names)))[1].rows
    assert one.equals(other)


# --- lists


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


# --- tables


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet"])
def test_tables_with_names_or_ids(tmp_path: Path, name: str) -> None:
    table = pl.DataFrame(
        {"label": ["dog", "cat"], "path": ["a.jpg", "b.jpg"], "group": ["g", None], "else": [1, 2]}
    )
    write_table(table, tmp_path / name)
    layout, listing = listed(tmp_path / name)
    assert layout == "table"
    assert labels(listing) == {"a.jpg": 1, "b.jpg": 0}
    assert listing.rows["group"].to_list() == ["g", None]
    assert listing.rows["source"].to_list() == ["real", "real"]
    write_table(table.with_columns(label=pl.Series([3.0, 1.0])), tmp_path / name)
    assert labels(listed(tmp_path / name)[1]) == {"a.jpg": 3, "b.jpg": 1}


def write_table(table: pl.DataFrame, path: Path) -> None:
    if path.suffix == ".parquet":
        table.write_parquet(path)
    else:
        table.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")


def test_columns_of_a_table_by_name_and_number(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,kind,origin,part\nx/a.jpg,cat,synthetic,Training\nx/b.jpg,dog,,valid\n")
    columns = {"path": "file", "label": 1, "source": "origin", "split": "part"}
    _, listing = listed(tmp_path, "table", columns=columns)
    assert labels(listing) == {"x/a.jpg": 0, "x/b.jpg": 1}
    assert listing.rows["source"].to_list() == ["synthetic", "real"]
    assert splits(listing) == {"x/a.jpg": "train", "x/b.jpg": "val"}


# --- idx and samples


def idx(array: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def plant_idx(root: Path) -> Path:
    images = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    (root / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images[:3])))
    (root / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.array([0, 2, 0], np.uint8))))
    (root / "t10k-images-idx3-ubyte").write_bytes(idx(images[3:]))
    (root / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([2, 1], np.uint8)))
    return root


def test_idx_files_with_their_splits(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("shirt\ncoat\nbag\n")
    layout, listing = listed(plant_idx(tmp_path), label_names="names.txt")
    assert layout == "idx"
    assert listing.rows.sort("split")["label"].to_list() == [2, 1, 0, 2, 0]
    assert listing.rows["split"].value_counts().sort("split").rows() == [("test", 2), ("train", 3)]
    assert listing.class_names == {0: "shirt", 1: "coat", 2: "bag"}
    assert listing.pixels is not None
    assert listing.pixels[0].tolist()[0] == [36, 37, 38]  # t10k is before train


def test_one_idx_file(tmp_path: Path) -> None:
    _, listing = listed(plant_idx(tmp_path) / "train-images-idx3-ubyte.gz", layout="idx")
    assert listing.rows["label"].to_list() == [0, 2, 0]


@pytest.mark.parametrize("damage", [b"", b"\0\0\x08\x03\0\0", idx(np.array([1, 2], np.uint8))[:-1]])
def test_a_damaged_idx_file_is_refused(tmp_path: Path, damage: bytes) -> None:
    (plant_idx(tmp_path) / "t10k-labels-idx1-ubyte").write_bytes(damage)
    with pytest.raises(Refused, match="no idx file of bytes"):
        listed(tmp_path)


@pytest.mark.parametrize(("name", "images", "fewest"), [("mnist5k", 5000, 500), ("digits", 1797, 174)])
def test_samples_that_are_always_there(name: str, images: int, fewest: int) -> None:
    listing = SAMPLES[name]()
    counts = listing.rows["label"].value_counts()["count"]
    assert (listing.rows.height, len(counts), counts.min()) == (images, 10, fewest)
    assert listing.pixels is not None
    assert max(image.max() for image in listing.pixels) == 255


def test_descriptors_in_git_name_samples(tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "data/samples"
    assert {path.read_text().rpartition("sample: ")[2].strip() for path in folder.iterdir()} == set(SAMPLES)
    (tmp_path / "x.yaml").write_text("sample: mnist5")
    with pytest.raises(BadInput, match=r"no sample 'mnist5'.*Did you mean 'mnist5k'"):
        listed(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text("- mnist5k")
    with pytest.raises(BadInput, match="`sample: <name>`"):
        listed(tmp_path / "x.yaml")


# --- what is not guessed

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
    "two names for val": ({"val/cat/a.jpg": "", "valid/cat/a.jpg": ""}, {}, BadInput, "val and valid"),
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
    "an endless id": ({"train_list.txt": "a.jpg 99999999999", "a.jpg": ""}, {}, Refused, "no class id"),
    "a list of elsewhere": ({"train_list.txt": "x/a.jpg 0\nx/b.jpg 1"}, {}, Refused, "none of.*x/a.jpg 0"),
    "an empty list": ({"train_list.txt": "\n"}, {}, Refused, "names no image"),
    "a list outside": ({"a.jpg": ""}, {"lists": {"train": "../l.txt"}}, BadInput, "ingest.lists.train.*outside"),
    "no such list": ({"a.jpg": ""}, {"lists": {"train": "l.txt"}}, BadInput, "ingest.lists.*cannot be read"),
    "no such column in a list": (
        {"train_list.txt": "path label\na.jpg 1", "a.jpg": ""},
        {"columns": {"label": "kind"}}, Refused, "ingest.columns 'kind'",
    ),
    "no such column in a table": (
        {"t.csv": "path,lable\na.jpg,1"}, {"layout": "table"}, BadInput, "columns.label.*Did you mean 'lable'",
    ),
    "an unknown split": ({"t.csv": "path,label,split\na.jpg,1,trian"}, {}, Refused, "line 2: 'trian' is no split"),
    "a row without a label": ({"t.csv": "path,label\na.jpg,1\nb.jpg,"}, {}, Refused, "t.csv line 3 has no label"),
    "an empty table": ({"t.csv": "path,label\n"}, {}, Refused, "names no image"),
    "no table at all": ({"t.parquet": "no"}, {}, Refused, "cannot be read as parquet"),
    "images without labels": ({"x-images-idx3-ubyte": ""}, {}, Refused, "no idx file|file of labels"),
    "a control character": ({"a\nb/a.jpg": ""}, {}, Refused, "control characters"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_rather_than_guessed(tmp_path: Path, case: str) -> None:
    files, options, kind, message = REFUSED[case]
    for file, content in files.items():
        plant(tmp_path, file).joinpath(file).write_text(content)
    with pytest.raises(StepError, match=message) as refusal:
        listed(tmp_path, **options)
    assert type(refusal.value) is kind
    assert "\n" not in str(refusal.value)


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"ingest.source.*is not there"):
        listed(tmp_path / "nowhere")


# --- labels


def test_label_names_with_ids_or_without(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("3 a b\n\n0,c\n")
    assert read_label_names(path) == {3: "a b", 0: "c"}
    path.write_text("tench\ngreat white shark\n")
    assert read_label_names(path) == {0: "tench", 1: "great white shark"}
    path.write_text("0 a\n0 b\n")
    with pytest.raises(Refused, match="line 2: id 0 was already 'a'"):
        read_label_names(path)
    path.write_text("0 a\nb\n")
    with pytest.raises(Refused, match="line 2"):
        read_label_names(path)


def test_names_that_several_ids_share_are_told_apart() -> None:
    _, names, notes = number_classes(["0", "1"], "auto", {0: "crane", 1: "crane", 2: "owl"})
    assert names == {0: "crane [0]", 1: "crane [1]", 2: "owl"}
    assert "crane" in notes[0]


def test_negative_and_missing_ids_are_kept_for_validate_to_judge() -> None:
    ids, names, _ = number_classes(["-1", "7", "2.0"], "auto", {})
    assert ids == {"-1": -1, "7": 7, "2.0": 2}
    assert names == {-1: "-1", 2: "2", 7: "7"}


def test_integers_may_be_names() -> None:
    ids, names, _ = number_classes(["10", "9", "x"], "names", {})
    assert (ids, names) == ({"10": 0, "9": 1, "x": 2}, {0: "10", 1: "9", 2: "x"})

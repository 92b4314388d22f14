"""Tables: csv, tsv and parquet, with columns given by name or number."""

from pathlib import Path

import polars as pl
import pytest

from steps.errors import Refused
from tests.images.sources.planted import labels, listed, plant, splits


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


@pytest.mark.parametrize("begin", ["", "\ufeff"])
@pytest.mark.parametrize("there", [["a.jpg", "b.jpg"], ["b.jpg"], ["a.jpg"]])
def test_a_table_without_a_header_keeps_its_first_image(tmp_path: Path, there: list[str], begin: str) -> None:
    plant(tmp_path, *there)
    (tmp_path / "t.csv").write_text(f"{begin}a.jpg,7\nb.jpg,8\n")
    _, listing = listed(tmp_path / "t.csv", columns={"path": 0, "label": 1})
    assert labels(listing) == {"a.jpg": 7, "b.jpg": 8}


def test_places_in_a_table_without_a_header_are_counted_from_its_first_line(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg")
    (tmp_path / "t.csv").write_text("a.jpg,7\nb.jpg,\n")
    with pytest.raises(Refused, match=r"t\.csv line 2 has no label"):
        listed(tmp_path / "t.csv", columns={"path": 0, "label": 1})


@pytest.mark.parametrize("header", ["image,kind", "image.path,kind", ",kind"])
def test_a_header_is_no_image_though_columns_are_numbers(tmp_path: Path, header: str) -> None:
    plant(tmp_path, "a.jpg")
    (tmp_path / "t.csv").write_text(f"{header}\na.jpg,7\n")
    assert labels(listed(tmp_path / "t.csv", columns={"path": 0, "label": 1})[1]) == {"a.jpg": 7}


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label,label,,\na.jpg,7,8,,\n")
    with pytest.raises(Refused, match="several columns called 'label'"):
        listed(tmp_path / "t.csv")


@pytest.mark.parametrize("kind", [pl.Float64, pl.Float32])
@pytest.mark.parametrize("known", [3.0, 0.5])
def test_a_label_that_is_no_number_is_no_label(tmp_path: Path, kind: pl.DataType, known: float) -> None:
    table = pl.DataFrame({"path": ["a.jpg", "b.jpg"], "label": pl.Series([known, float("nan")], dtype=kind)})
    table.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(Refused, match=r"t\.parquet line 2 has no label"):
        listed(tmp_path / "t.parquet")


@pytest.mark.parametrize("infinity", ["inf", "-inf"])
def test_an_infinite_label_is_refused_with_its_row(tmp_path: Path, infinity: str) -> None:
    table = pl.DataFrame({"path": ["a.jpg", "b.jpg", "c.jpg"], "label": [1.0, None, float(infinity)]})
    table.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(Refused, match=rf"t\.parquet line 3: the column 'label' holds {infinity}"):
        listed(tmp_path / "t.parquet")


def test_a_label_that_passes_every_integer_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"path": ["a.jpg"], "label": [1e300]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(Refused, match=r"label '1e\+?300' is not an integer"):
        listed(tmp_path / "t.parquet", labels="ids")


def test_columns_of_a_table_by_name_and_number(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,kind,origin,part\nx/a.jpg,cat,synthetic,Training\nx/b.jpg,dog,,valid\n")
    columns = {"path": "file", "label": 1, "source": "origin", "split": "part"}
    _, listing = listed(tmp_path, "table", columns=columns)
    assert labels(listing) == {"x/a.jpg": 0, "x/b.jpg": 1}
    assert listing.rows["source"].to_list() == ["synthetic", "real"]
    assert splits(listing) == {"x/a.jpg": "train", "x/b.jpg": "val"}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["0", "1", "2", "0", "crak"],
            "table.csv line 6 ('4.png'): the label 'crak' is not an integer, but 4 images have labels such as "
            "'0', '1', '2'. Correct the label, or set ingest.labels: names if all labels are names.",
        ),
        (
            ["ok", "3", "crack", "ok", "3"],
            "table.csv line 3 ('1.png'), table.csv line 6 ('4.png'): the label '3' is an integer, but 3 images "
            "have labels such as 'crack', 'ok'. Correct the label",
        ),
        (
            ["0", "1", "1.5", "x"],
            "line 4 ('2.png'): the label '1.5' is not an integer (also 'x'), but 2 images have labels",
        ),
        (
            ["0", "99999999"],
            "table.csv line 3 ('1.png'): the label 99999999 is not a class id; the largest id is 10000000",
        ),
        (
            ["0", '"1,2"', "1"],
            "table.csv line 3 ('1.png'): the label '1,2' names several classes, but an image has one class.",
        ),
    ],
)
def test_a_wrong_label_is_named_with_its_rows_and_the_right_ones_are_not_blamed(
    tmp_path: Path, labels: list[str], message: str
) -> None:
    rows = [f"{number}.png,{label}" for number, label in enumerate(labels)]
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    with pytest.raises(Refused) as refused:
        listed(tmp_path / "table.csv")
    assert message in str(refused.value)

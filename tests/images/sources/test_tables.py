"""Tables: csv, tsv and parquet, their columns by name or number."""

from pathlib import Path

import polars as pl
import pytest

from tests.images.sources.planted import labels, listed, splits


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

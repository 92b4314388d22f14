"""History: equal trainings give equal bytes, for the table and for the picture."""

import csv
from pathlib import Path
from xml.etree import ElementTree

from steps.training.history import EpochRow, write_history
from steps.training.plot import plot_history

ROWS = [EpochRow(1, 0.1, 0.7, 0.6, 0.8, 0.75, 0.5), EpochRow(2, 0.05, 0.3, 1 / 3, 0.9, 0.85, 0.7)]
MEASURED_ONLY = [EpochRow(0, 0.0, None, 0.6, 0.8, 0.75, 0.5)]


def test_the_table_keeps_every_bit(tmp_path: Path) -> None:
    write_history(ROWS, tmp_path / "history.csv")
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    assert [float(row["val_loss"]) for row in rows] == [0.6, 1 / 3]


def test_what_was_not_measured_is_empty(tmp_path: Path) -> None:
    write_history(MEASURED_ONLY, tmp_path / "history.csv")
    (row,) = csv.DictReader((tmp_path / "history.csv").read_text().splitlines())
    assert row["train_loss"] == ""


def test_the_picture_is_the_same_bytes_each_time_and_holds_no_date(tmp_path: Path) -> None:
    for name, rows in [("one", ROWS), ("two", ROWS), ("three", MEASURED_ONLY)]:
        plot_history(rows, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    text = (tmp_path / "one").read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "val_macro_recall" in text
    assert "dc:date" not in text

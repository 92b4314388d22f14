"""The ledger: its contents, and the messages for a missing ledger and for a file that is no ledger."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from steps.errors import BadInput
from steps.splitting.ledger import (
    SCHEMA,
    UNPLACED,
    content_keys,
    extended,
    group_keys,
    look_up,
    no_ledger,
    read_ledger,
)
from tests.images.rows import checksum, manifest

GOOD = {"key": [1, 5, 2**63], "split": [0, 2, 1]}
FAULTY = {
    "unsorted": pl.DataFrame({"key": [5, 1], "split": [0, 0]}, schema=SCHEMA),
    "a key twice": pl.DataFrame({"key": [5, 5], "split": [0, 1]}, schema=SCHEMA),
    "no such split": pl.DataFrame({"key": [5], "split": [3]}, schema=SCHEMA),
    "a hole": pl.DataFrame({"key": [5, None], "split": [0, 1]}, schema=SCHEMA),
    "empty": pl.DataFrame(schema=SCHEMA),
    "other columns": pl.DataFrame({"name": ["a"]}),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_what_is_no_ledger_is_said(tmp_path: Path, fault: str) -> None:
    FAULTY[fault].write_parquet(tmp_path / "ledger.parquet")
    with pytest.raises(BadInput, match="is not a ledger"):
        read_ledger(tmp_path / "ledger.parquet")


def test_a_missing_or_broken_ledger_is_never_taken_for_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_ledger(tmp_path / "ledger.parquet")
    (tmp_path / "ledger.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(BadInput, match="cannot be read"):
        read_ledger(tmp_path / "ledger.parquet")


def test_a_ledger_finds_what_it_holds() -> None:
    ledger = pl.DataFrame(GOOD, schema=SCHEMA)
    found = look_up(ledger, np.array([0, 1, 4, 5, 2**63, 2**64 - 1], np.uint64))
    assert found.tolist() == [UNPLACED, 0, UNPLACED, 2, 1, UNPLACED]


def test_extending_keeps_what_was_there_and_forgets_what_has_no_one_place() -> None:
    ledger = extended(
        pl.DataFrame(GOOD, schema=SCHEMA),
        np.array([9, 9, 7, 7, 1], np.uint64),
        np.array([1, 1, 0, 2, 2], np.uint8),
    )
    assert ledger.to_dict(as_series=False) == {"key": [1, 5, 9, 2**63], "split": [0, 2, 1, 1]}


def test_keys_are_contents_and_groups_and_no_group_passes_for_a_content() -> None:
    images = manifest([0, 0], contents=["a", "b"], groups=["a", None])
    keys, grouped = group_keys(images)
    assert content_keys(images).tolist() == [int(checksum(content)[:16], 16) for content in "ab"]
    assert grouped.tolist() == [True, False]
    assert keys[0] != content_keys(images)[0]


def test_no_release_is_no_memory() -> None:
    assert (look_up(no_ledger(), np.array([3], np.uint64)) == UNPLACED).all()

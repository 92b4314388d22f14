"""The test images are decoded once for all forms, and what is kept is used only while it is what was written."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import steps.images.cache
from steps.images.dataset import load_all
from steps.images.evaluation_cache import kept_batches
from tests.images.test_cache import HOW, manifest

__all__ = ["manifest"]  # the fixture


def read(manifest: pl.DataFrame, folder: Path) -> np.ndarray:
    return np.concatenate(list(kept_batches(manifest, folder, HOW, 5, folder / "kept")))


def test_batches_are_the_reference_preprocessing_in_the_manifests_order(
    manifest: pl.DataFrame, tmp_path: Path
) -> None:
    sizes = [len(batch) for batch in kept_batches(manifest, tmp_path, HOW, 5, tmp_path / "kept")]
    assert sizes == [5, 5, 2]
    assert (read(manifest, tmp_path) == load_all(manifest, tmp_path, HOW)).all()


def test_a_second_form_decodes_nothing(
    manifest: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(manifest, tmp_path)
    monkeypatch.setattr(steps.images.cache, "batches", None)
    assert (read(manifest, tmp_path) == first).all()


@pytest.mark.parametrize("spoil", ["the images", "the checksum"])
def test_what_was_changed_since_is_decoded_again(manifest: pl.DataFrame, tmp_path: Path, spoil: str) -> None:
    first = read(manifest, tmp_path)
    (entry,) = (tmp_path / "kept").glob("*.npy")
    if spoil == "the images":
        content = bytearray(entry.read_bytes())
        content[-1] ^= 255
        entry.write_bytes(content)
    else:
        entry.with_suffix(".sha256").unlink()
    assert (read(manifest, tmp_path) == first).all()


def test_other_images_are_another_entry_and_checksums_of_dropped_ones_go(
    manifest: pl.DataFrame, tmp_path: Path
) -> None:
    read(manifest, tmp_path)
    (entry,) = (tmp_path / "kept").glob("*.npy")
    entry.unlink()
    read(manifest.head(3), tmp_path)
    assert [path.stem for path in (tmp_path / "kept").glob("*.sha256")] == [
        path.stem for path in (tmp_path / "kept").glob("*.npy")
    ]
    assert not entry.with_suffix(".sha256").exists()

"""The test images are decoded once for all forms, and the cache is used only while its bytes are unchanged."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import steps.images.cache
from steps.images.dataset import load_all
from steps.images.evaluation_cache import kept_batches
from tests.full_disk import SIZE, small_disk
from tests.images.test_cache import HOW, LARGE, manifest

__all__ = ["manifest"]  # imported as a fixture


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


def test_on_a_full_disk_the_images_are_decoded_in_every_run(manifest: pl.DataFrame, tmp_path: Path) -> None:
    with small_disk(tmp_path / "kept") as kept:
        found = np.concatenate(list(kept_batches(manifest, tmp_path, LARGE, 5, kept)))
        assert (found == load_all(manifest, tmp_path, LARGE)).all()
        assert [path.name for path in kept.iterdir()] == ["lock"]


def test_an_entry_whose_checksum_finds_no_space_is_read_once_and_deleted(
    manifest: pl.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = HOW.model_copy(update={"size": 8, "resize": 8})
    entry_bytes = 12 * 8 * 8 * 3 + 128
    with small_disk(tmp_path / "kept") as kept:
        (kept / "lock").touch()
        (kept / "filling").write_bytes(bytes(SIZE - entry_bytes // 4096 * 4096 - 4096))
        found = np.concatenate(list(kept_batches(manifest, tmp_path, how, 5, kept)))
        assert sorted(path.name for path in kept.iterdir()) == ["filling", "lock"]
    assert (found == load_all(manifest, tmp_path, how)).all()
    assert "the decoded test images are not cached" in capsys.readouterr().err

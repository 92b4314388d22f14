"""The training cache: an entry is whole or not there, right for its images, bounded, and never stale."""

import hashlib
import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import steps.images.cache
import steps.images.dataset
from steps.errors import BadInput
from steps.images.cache import CachedImages, StreamedImages, cache_key, open_images
from steps.images.dataset import Images, Row, load_all
from steps.reports.card import Preprocessing

HALF = (0.5, 0.5, 0.5)
HOW = Preprocessing(size=8, resize=8, interpolation="bilinear", mean=HALF, std=HALF)
ROWS = [np.array([5, 0, 5]), np.array([11]), np.array([3, 2])]


@pytest.fixture
def manifest(tmp_path: Path) -> pl.DataFrame:
    draw = np.random.default_rng(0)
    rows = []
    for number in range(12):
        file = tmp_path / f"{number:02}.png"
        Image.fromarray(draw.integers(0, 256, (12, 10, 3), np.uint8)).save(file)
        content = file.read_bytes()
        rows.append((file.name, file.name, 0, len(content), hashlib.sha256(content).hexdigest()))
    return pl.DataFrame(rows, ["name", "file", "offset", "length", "checksum"], orient="row")


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "lock")


@pytest.mark.parametrize("bound", [10**6, 0])
def test_images_are_the_reference_preprocessing_in_any_order(
    manifest: pl.DataFrame, tmp_path: Path, bound: int
) -> None:
    reader = open_images(manifest, tmp_path, HOW, tmp_path / "cache", bound)
    assert isinstance(reader, CachedImages if bound else StreamedImages)
    expected = load_all(manifest, tmp_path, HOW)
    for rows, images in zip(ROWS, reader.read(iter(ROWS)), strict=True):
        assert (images == expected[rows]).all()


def test_a_second_run_decodes_nothing(
    manifest: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_images(manifest, tmp_path, HOW, tmp_path / "cache")
    monkeypatch.setattr(steps.images.cache, "batches", None)
    open_images(manifest, tmp_path, HOW, tmp_path / "cache")


def test_what_is_read_stays_in_the_file(manifest: pl.DataFrame, tmp_path: Path) -> None:
    reader = open_images(manifest, tmp_path, HOW, tmp_path / "cache")
    with pytest.raises(ValueError, match="read-only"):
        reader.images_NHWC_u8[0] = 0  # type: ignore[attr-defined]
    next(reader.read(iter(ROWS)))[:] = 0
    assert next(reader.read(iter(ROWS))).any()


def test_a_filling_that_is_cut_off_leaves_no_entry_and_the_next_run_fills(
    manifest: pl.DataFrame, tmp_path: Path
) -> None:
    bad = tmp_path / "11.png"
    content = bad.read_bytes()
    bad.write_bytes(content[:40] + bytes(len(content) - 40))
    with pytest.raises(BadInput, match=r"11\.png"):
        open_images(manifest, tmp_path, HOW, tmp_path / "cache")
    assert not [name for name in entries(tmp_path / "cache") if name.endswith(".npy")]
    bad.write_bytes(content)
    open_images(manifest, tmp_path, HOW, tmp_path / "cache")
    assert entries(tmp_path / "cache") == [f"{cache_key(manifest, HOW)}.npy"]


def test_the_key_changes_with_contents_order_and_preprocessing(manifest: pl.DataFrame) -> None:
    other = manifest.with_columns(checksum=pl.col("checksum").str.reverse())
    keys = {
        cache_key(manifest, HOW),
        cache_key(other, HOW),
        cache_key(manifest.reverse(), HOW),
        cache_key(manifest, HOW.model_copy(update={"resize": 9})),
        cache_key(manifest, HOW.model_copy(update={"interpolation": "bicubic"})),
    }
    assert len(keys) == 5
    assert cache_key(manifest.with_columns(label=pl.lit(3)), HOW) in keys


def test_the_normalisation_is_the_networks_and_needs_no_other_entry(manifest: pl.DataFrame) -> None:
    assert cache_key(manifest, HOW.model_copy(update={"mean": (0.1, 0.2, 0.3)})) == cache_key(manifest, HOW)


def test_entries_unused_for_longest_go_when_the_bound_is_passed(manifest: pl.DataFrame, tmp_path: Path) -> None:
    size = len(manifest) * 8 * 8 * 3
    others = [manifest, manifest.reverse(), pl.concat([manifest.tail(6), manifest.head(6)])]
    for images in others:
        open_images(images, tmp_path, HOW, tmp_path / "cache", bound_bytes=2 * (size + 128))
    assert entries(tmp_path / "cache") == sorted(f"{cache_key(images, HOW)}.npy" for images in others[1:])


def test_streaming_reads_no_further_ahead_than_a_few_batches(
    manifest: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = steps.images.dataset.load_image

    def noted(root: Path, row: Row, how: Preprocessing) -> Images:
        asked.append(1)
        return real(root, row, how)

    monkeypatch.setattr(steps.images.cache, "load_image", noted)
    endless = (np.array([number % 12]) for number in itertools.count())
    reader = StreamedImages(manifest, tmp_path, HOW, threads=2).read(endless)
    next(reader)
    assert len(asked) <= steps.images.cache.READ_AHEAD + 1
    reader.close()  # type: ignore[attr-defined]


def test_an_unreadable_image_is_named_and_never_replaced(manifest: pl.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "05.png").write_bytes(b"")
    reader = StreamedImages(manifest, tmp_path, HOW, threads=2)
    with pytest.raises(BadInput, match=r"05\.png"):
        list(reader.read(iter(ROWS)))

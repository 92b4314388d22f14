"""The training cache: an entry is complete or absent, matches its images, has a size limit, is never stale."""

import errno
import hashlib
import itertools
import os
import subprocess
import sys
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
from tests.full_disk import fill, small_disk

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


LARGE = HOW.model_copy(update={"size": 400, "resize": 400})  # 12 images need 5.8 MB, and the disk has 4.2 MB
READ = """
import sys
from pathlib import Path
import numpy as np
import polars as pl
from steps.images.cache import open_images
from steps.reports.card import Preprocessing
manifest, root, how, cache = sys.argv[1:]
reader = open_images(pl.read_parquet(manifest), Path(root), Preprocessing.model_validate_json(how), Path(cache))
print(type(reader).__name__, int(sum(batch.sum(dtype=np.int64) for batch in reader.read([np.arange(12)]))))
"""


def read_in_a_process(manifest: pl.DataFrame, root: Path, cache: Path) -> "subprocess.CompletedProcess[str]":
    """Read all images in another process, because SIGBUS would kill this process."""
    manifest.write_parquet(root / "manifest.parquet")
    arguments = [root / "manifest.parquet", root, LARGE.model_dump_json(), cache]
    return subprocess.run(
        [sys.executable, "-c", READ, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_images_that_do_not_fit_on_the_disk_are_streamed_with_a_line_that_says_so(
    manifest: pl.DataFrame, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "cache") as cache:
        ran = read_in_a_process(manifest, tmp_path, cache)
        assert ran.returncode == 0, f"{ran.returncode}: {ran.stderr}"  # -7 is SIGBUS
        expected = load_all(manifest, tmp_path, LARGE).sum(dtype=np.int64)
        assert ran.stdout.split() == ["StreamedImages", str(expected)]
        (line,) = ran.stderr.splitlines()
        assert f"{cache_key(manifest, LARGE)}.npy needs 5,760,000 bytes, but only 4,194,304 bytes are free" in line
        assert line.endswith("the images are not cached, and each epoch decodes them again")
        assert entries(cache) == []


def test_a_disk_that_fills_during_the_decoding_leaves_no_entry(
    manifest: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps.images.cache, "reserve", lambda *_: None)  # another process takes the free space
    with small_disk(tmp_path / "cache") as cache:
        assert isinstance(open_images(manifest, tmp_path, LARGE, cache), StreamedImages)
        assert entries(cache) == []


def test_a_full_disk_still_gives_the_entry_that_is_there(manifest: pl.DataFrame, tmp_path: Path) -> None:
    with small_disk(tmp_path / "cache") as cache:
        open_images(manifest, tmp_path, HOW, cache)
        fill(cache)
        assert isinstance(open_images(manifest, tmp_path, HOW, cache), CachedImages)


def test_a_folder_that_the_quota_forbids_is_no_cache(
    manifest: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def over_quota(*_: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr("os.posix_fallocate", over_quota)
    assert isinstance(open_images(manifest, tmp_path, HOW, tmp_path / "cache"), StreamedImages)
    assert "the disk quota is used up" in capsys.readouterr().err


def test_an_entry_is_the_file_that_numpy_writes(manifest: pl.DataFrame, tmp_path: Path) -> None:
    open_images(manifest, tmp_path, HOW, tmp_path / "cache")
    np.save(tmp_path / "expected.npy", load_all(manifest, tmp_path, HOW))
    entry = tmp_path / "cache" / f"{cache_key(manifest, HOW)}.npy"
    assert entry.read_bytes() == (tmp_path / "expected.npy").read_bytes()

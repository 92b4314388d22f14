"""The training cache: every image decoded once, at the network's size, in one memory-mapped uint8 file.

A cache entry is complete or absent. When the images need more bytes than the bound or the disk has, threads decode
the image files again in each epoch.
Letters: N images, H and W pixels, C = 3 channels (RGB).
"""

import fcntl
import hashlib
import itertools
import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

import steps.images.dataset
import steps.images.preprocessing
from steps.cores import usable_cores
from steps.files import NoSpace, reserve, space_for
from steps.images.dataset import PLACE, Images, Row, batches, load_image
from steps.images.draws import Positions
from steps.images.manifest import SCHEMA
from steps.progress import say, track
from steps.reports.card import Preprocessing

BOUND_BYTES = 16 * 2**30
FILL_BATCH = 256
READ_AHEAD = 4  # batches that the threads decode in advance


class ImageReader(Protocol):
    """Yields images_NHWC_u8 for each array of row numbers, in order."""

    def read(self, rows: Iterable[Positions]) -> Iterator[Images]: ...


class CachedImages:
    """Images from the memory-mapped file. The operating system keeps frequent pages in memory."""

    def __init__(self, images_NHWC_u8: Images) -> None:
        self.images_NHWC_u8 = images_NHWC_u8

    def read(self, rows: Iterable[Positions]) -> Iterator[Images]:
        """Yield one batch for each array of row numbers."""
        for rows_N in rows:
            yield self.images_NHWC_u8[rows_N]


class StreamedImages:
    """Images decoded from their files by threads. Worker processes would need shared memory."""

    def __init__(self, manifest: pl.DataFrame, root: Path, how: Preprocessing, threads: int) -> None:
        self.places = manifest.select(PLACE)
        self.root, self.how, self.threads = root, how, threads

    def read(self, rows: Iterable[Positions]) -> Iterator[Images]:
        """Yield one batch for each array of row numbers; READ_AHEAD batches are decoded in advance."""
        remaining = iter(rows)
        with ThreadPoolExecutor(self.threads) as pool:
            submitted = [self._submit(pool, rows_N) for rows_N in itertools.islice(remaining, READ_AHEAD)]
            while submitted:
                batch = submitted.pop(0)
                submitted += [self._submit(pool, rows_N) for rows_N in itertools.islice(remaining, 1)]
                yield np.stack([future.result() for future in batch])

    def _submit(self, pool: ThreadPoolExecutor, rows_N: Positions) -> "list[Future[Images]]":
        places: Iterator[Row] = (self.places.row(number) for number in rows_N.tolist())
        return [pool.submit(load_image, self.root, place, self.how) for place in places]


def open_images(
    manifest: pl.DataFrame, root: Path, how: Preprocessing, folder: Path, bound_bytes: int = BOUND_BYTES
) -> ImageReader:
    """Return a reader of the manifest's images, with the cache in `folder` if the images fit in `bound_bytes`."""
    threads = usable_cores()
    needed = manifest.height * how.size * how.size * 3
    if needed > bound_bytes:
        say(f"the images need {needed / 2**30:.1f} GiB, more than the cache holds; each epoch decodes them again")
        return StreamedImages(manifest, root, how, threads)
    entry = folder / f"{cache_key(manifest, how)}.npy"
    try:
        with space_for(entry, needed), _locked(folder):
            if not entry.is_file():
                _prune(folder, bound_bytes - needed)
                _fill(entry, manifest, root, how, threads)
            os.utime(entry)
            _prune(folder, bound_bytes, keep=entry)
    except NoSpace as fault:
        say(f"{fault.figures()}; the images are not cached, and each epoch decodes them again")
        return StreamedImages(manifest, root, how, threads)
    return CachedImages(np.asarray(np.load(entry, mmap_mode="r")))


def cache_key(manifest: pl.DataFrame, how: Preprocessing) -> str:
    """Return the name of a cache entry, which depends on the images' bytes, their order and the decoding code."""
    digest = hashlib.sha256(how.model_dump_json(exclude={"mean", "std"}).encode())  # the cache is not normalised
    digest.update(version("pillow").encode())
    for module in (steps.images.preprocessing, steps.images.dataset):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update("\n".join(manifest.get_column("checksum").cast(SCHEMA["checksum"]).to_list()).encode())
    return digest.hexdigest()[:32]


def _fill(entry: Path, manifest: pl.DataFrame, root: Path, how: Preprocessing, threads: int) -> None:
    """Decode every image into `entry`; the file has a hidden name until all images are on the disk.

    The file is written, not mapped: on a full disk, a write raises an error, but a map ends the process (SIGBUS).
    """
    temporary = entry.with_name(f".{entry.name}.tmp")
    shape = (manifest.height, how.size, how.size, 3)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
    total = -(-manifest.height // FILL_BATCH)
    try:
        with temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            reserve(file, entry, math.prod(shape))
            for batch in track(batches(manifest, root, how, FILL_BATCH, threads), "decode", total, "batch"):
                file.write(np.ascontiguousarray(batch).data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(entry)
    finally:
        temporary.unlink(missing_ok=True)


def _prune(folder: Path, bound_bytes: int, keep: Path | None = None) -> None:
    """Delete leftovers of killed runs, then the least recently used entries, until `bound_bytes` is enough."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink()
    entries = sorted(folder.glob("*.npy"), key=lambda path: (path == keep, path.stat().st_mtime_ns), reverse=True)
    used = 0
    for entry in entries:
        used += entry.stat().st_size
        if used > bound_bytes and entry != keep:
            entry.unlink()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time write into the cache. The lock ends when its process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

"""A cache of preprocessed test images: each form is evaluated in a separate run, but images are decoded only once.

Letters: N images, H and W pixels, C = 3 channels (RGB).
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from steps.files import NO_SPACE, NoSpace, write_whole
from steps.images.cache import CachedImages, ImageReader, cache_key, open_images
from steps.images.dataset import Images
from steps.progress import say
from steps.reports.card import Preprocessing

FOLDER = Path(".foldline/test-images")


def kept_batches(
    manifest: pl.DataFrame, root: Path, how: Preprocessing, size: int, folder: Path = FOLDER
) -> Iterator[Images]:
    """Yield images_NHWC_u8 of at most `size` images, in the manifest's order, from the cache if possible.

    `cache_key` names a cache entry after the images' checksums, their order, the preprocessing and its code.
    An entry is used only if its checksum is still correct, because the gate's evidence depends on these bytes.
    Images that exceed the cache's bound are decoded in every run. Raises BadInput if an image cannot be decoded.
    """
    reader = _verified(manifest, root, how, folder)
    begins = range(0, manifest.height, size)
    yield from reader.read(np.arange(begin, min(begin + size, manifest.height)) for begin in begins)


def _verified(manifest: pl.DataFrame, root: Path, how: Preprocessing, folder: Path) -> ImageReader:
    entry = folder / f"{cache_key(manifest, how)}.npy"
    written = entry.with_suffix(".sha256")
    if entry.is_file():
        if written.is_file() and written.read_text() == _digest(entry):
            return open_images(manifest, root, how, folder)
        entry.unlink()
    reader = open_images(manifest, root, how, folder)
    if isinstance(reader, CachedImages):
        _forget_pruned(folder)
        _write_checksum(written, entry)
    return reader


def _write_checksum(written: Path, entry: Path) -> None:
    """Write the entry's checksum; on a full disk, delete the entry, because the next run would not use the entry.

    This run still reads the deleted file through its map.
    """
    try:
        write_whole(written, _digest(entry).encode())
    except OSError as fault:
        if fault.errno not in NO_SPACE:
            raise
        entry.unlink()
        say(f"{NoSpace(written, number=fault.errno).figures()}; the decoded test images are not cached")


def _digest(entry: Path) -> str:
    with entry.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _forget_pruned(folder: Path) -> None:
    """Delete the checksum files of entries that the cache has deleted."""
    for written in folder.glob("*.sha256"):
        if not written.with_suffix(".npy").is_file():
            written.unlink(missing_ok=True)

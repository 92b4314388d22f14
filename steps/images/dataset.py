"""The images of a manifest, decoded and preprocessed, in the manifest's order.

A manifest may be hostile and files change: only bytes inside the root that are still those of ingest are decoded.
Letters: N images, H and W pixels, C = 3 channels (RGB).
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from steps.errors import BadInput
from steps.images.preprocess import decode_rgb, preprocess
from steps.reports.card import Preprocessing
from steps.reports.ingest import IngestReport

Images = npt.NDArray[np.uint8]
Row = tuple[str, str, int, int, str]  # the columns PLACE
PLACE = ("name", "file", "offset", "length", "checksum")


def image_root(ingest: Path) -> Path:
    """Return the folder that manifest paths are relative to, as ingest's report names it."""
    root = IngestReport.read(ingest / "report.json").root
    return ingest if root == "." else Path(root)


def read_bytes(root: Path, row: Row) -> bytes:
    """Return one image's bytes, the very ones that were ingested, or raise BadInput naming it."""
    name, file, offset, length, checksum = row
    path = Path(os.path.realpath(root / file))
    if not path.is_relative_to(os.path.realpath(root)):
        raise BadInput(f"image {name}: {file} leads out of {root}, where nothing is read; run ingest again.")
    try:
        with path.open("rb") as opened:
            opened.seek(offset)
            content = opened.read(length)
    except OSError as fault:
        raise BadInput(f"image {name} cannot be read from {root / file}: {fault.strerror}.") from fault
    if len(content) < length:
        raise BadInput(f"image {name}: {root / file} is shorter than when it was ingested; run ingest again.")
    if hashlib.sha256(content).hexdigest() != checksum:
        raise BadInput(f"image {name}: {root / file} has changed since it was ingested; run ingest again.")
    return content


def load_image(root: Path, row: Row, how: Preprocessing) -> Images:
    """Return one image as images_HWC_u8, or raise BadInput naming it: it is never replaced by another."""
    try:
        return preprocess(decode_rgb(read_bytes(root, row)), how)
    except (OSError, ValueError) as fault:
        raise BadInput(f"image {row[0]} in {root} cannot be decoded: {fault}. Run validate again.") from fault


def batches(
    manifest: pl.DataFrame, root: Path, how: Preprocessing, size: int, threads: int = 2
) -> Iterator[Images]:
    """Yield images_NHWC_u8 of at most `size` images, in the manifest's order, a few decoded ahead."""
    rows = iter(manifest.select(PLACE).rows())
    with ThreadPoolExecutor(threads) as pool:
        ahead = [pool.submit(load_image, root, row, how) for row in islice(rows, 2 * size)]
        while ahead:
            now, ahead = ahead[:size], ahead[size:]
            ahead += [pool.submit(load_image, root, row, how) for row in islice(rows, size)]
            yield np.stack([future.result() for future in now])


def load_all(manifest: pl.DataFrame, root: Path, how: Preprocessing) -> Images:
    """Return every image of the manifest as images_NHWC_u8 in memory."""
    shape = (manifest.height, how.size, how.size, 3)
    images = np.empty(shape, np.uint8)
    begin = 0
    for batch in batches(manifest, root, how, size=256):
        images[begin : begin + len(batch)] = batch
        begin += len(batch)
    return images

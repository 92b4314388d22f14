"""The images of a manifest, decoded and preprocessed, in the manifest's order.

A manifest may be hostile and files change: only bytes inside the root that are still those of ingest are decoded.
Letters: N images, H and W pixels, C = 3 channels (RGB).
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from steps.errors import BadInput
from steps.images.preprocessing import decode_rgb, preprocess
from steps.reports.card import Preprocessing
from steps.reports.ingest import IngestReport

Images = npt.NDArray[np.uint8]
Row = tuple[str, str, int, int, str]  # the columns PLACE
PLACE = ("name", "file", "offset", "length", "checksum")
MOST_PIXELS = 2**24  # of a batch of images as they are: 50 MB, and 200 MB where each number becomes a float32
Loaded = TypeVar("Loaded")


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
    return _load(root, row, lambda image: preprocess(image, how))


def _load(root: Path, row: Row, then: Callable[[Image.Image], Loaded]) -> Loaded:
    try:
        return then(decode_rgb(read_bytes(root, row)))
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


def batches_as_they_are(manifest: pl.DataFrame, root: Path, size: int, threads: int = 2) -> Iterator[Images]:
    """Yield decoded images_NHWC_u8, neither resized nor cropped, in the manifest's order.

    A batch holds neighbours of one height and width: at most `size` images, and MOST_PIXELS (or one image).
    """
    for (height, width, _), alike in groupby(_decoded(manifest, root, threads), lambda image: image.shape):
        most = max(1, min(size, MOST_PIXELS // (height * width)))
        while some := list(islice(alike, most)):
            yield np.stack(some)


def _decoded(manifest: pl.DataFrame, root: Path, threads: int) -> Iterator[Images]:
    """Yield each image as images_HWC_u8; few are decoded ahead, as each may be large."""
    rows = iter(manifest.select(PLACE).rows())
    with ThreadPoolExecutor(threads) as pool:
        ahead = [pool.submit(_load, root, row, np.asarray) for row in islice(rows, 2 * threads)]
        while ahead:
            image_HWC_u8 = ahead.pop(0).result()
            ahead += [pool.submit(_load, root, row, np.asarray) for row in islice(rows, 1)]
            yield image_HWC_u8


def load_all(manifest: pl.DataFrame, root: Path, how: Preprocessing) -> Images:
    """Return every image of the manifest as images_NHWC_u8 in memory."""
    shape = (manifest.height, how.size, how.size, 3)
    images = np.empty(shape, np.uint8)
    begin = 0
    for batch in batches(manifest, root, how, size=256):
        images[begin : begin + len(batch)] = batch
        begin += len(batch)
    return images

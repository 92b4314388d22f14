"""The images of a manifest, decoded and preprocessed, in the manifest's order.

A manifest may be hostile, and files may change after ingest. So an image is decoded only if its file lies inside
the root (or is a link into the DVC cache) and its bytes have the checksum that ingest recorded.
Letters: N images, H and W pixels, C = 3 channels (RGB).
"""

import hashlib
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
from steps.images.inside import real_path_inside
from steps.images.preprocessing import decode_rgb, preprocess
from steps.reports.card import Preprocessing
from steps.reports.ingest import IngestReport

Images = npt.NDArray[np.uint8]
Row = tuple[str, str, int, int, str]  # the columns PLACE
PLACE = ("name", "file", "offset", "length", "checksum")
MOST_PIXELS = 2**24  # in a batch of images at their stored size: 50 MB as uint8, 200 MB as float32
Loaded = TypeVar("Loaded")


def image_root(ingest: Path) -> Path:
    """Return the folder that manifest paths are relative to; ingest's report names that folder."""
    root = IngestReport.read(ingest / "report.json").root
    return ingest if root == "." else Path(root)


def read_bytes(root: Path, row: Row) -> bytes:
    """Return one image's bytes; raise BadInput with the image's name if the bytes changed since ingest."""
    name, file, offset, length, checksum = row
    path = real_path_inside(root, root / file)
    if path is None:
        raise BadInput(
            f"image {name}: {file} lies outside {root} and outside this project's DVC cache, so the file is not "
            f"read. Copy the file itself into {root}, then run ingest again."
        )
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
    """Return one image as images_HWC_u8; raise BadInput with the image's name if decoding fails."""
    return _load(root, row, lambda image: preprocess(image, how))


def _load(root: Path, row: Row, convert: Callable[[Image.Image], Loaded]) -> Loaded:
    try:
        return convert(decode_rgb(read_bytes(root, row)))
    except (OSError, ValueError) as fault:
        raise BadInput(f"image {row[0]} in {root} cannot be decoded: {fault}. Run validate again.") from fault


def batches(
    manifest: pl.DataFrame, root: Path, how: Preprocessing, size: int, threads: int = 2
) -> Iterator[Images]:
    """Yield images_NHWC_u8 of at most `size` images, in the manifest's order; next batches are decoded ahead."""
    rows = iter(manifest.select(PLACE).rows())
    with ThreadPoolExecutor(threads) as pool:
        submitted = [pool.submit(load_image, root, row, how) for row in islice(rows, 2 * size)]
        while submitted:
            batch, submitted = submitted[:size], submitted[size:]
            submitted += [pool.submit(load_image, root, row, how) for row in islice(rows, size)]
            yield np.stack([future.result() for future in batch])


def batches_as_they_are(manifest: pl.DataFrame, root: Path, size: int, threads: int = 2) -> Iterator[Images]:
    """Yield decoded images_NHWC_u8 in the manifest's order, not resized and not cropped.

    A batch holds consecutive images of one height and width. A batch has at most `size` images and at most
    MOST_PIXELS pixels, but always at least one image.
    """
    for (height, width, _), same_shape in groupby(_decoded(manifest, root, threads), lambda image: image.shape):
        most = max(1, min(size, MOST_PIXELS // (height * width)))
        while batch := list(islice(same_shape, most)):
            yield np.stack(batch)


def _decoded(manifest: pl.DataFrame, root: Path, threads: int) -> Iterator[Images]:
    """Yield each image as images_HWC_u8. Only 2 * threads images are decoded ahead, because each may be large."""
    rows = iter(manifest.select(PLACE).rows())
    with ThreadPoolExecutor(threads) as pool:
        submitted = [pool.submit(_load, root, row, np.asarray) for row in islice(rows, 2 * threads)]
        while submitted:
            image_HWC_u8 = submitted.pop(0).result()
            submitted += [pool.submit(_load, root, row, np.asarray) for row in islice(rows, 1)]
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

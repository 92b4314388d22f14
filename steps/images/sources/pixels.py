"""Images from arrays instead of image files (samples, idx): named, and packed as PNG into one tar file.

Letters: N images, H and W pixels.
"""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from steps.files import space_for
from steps.images.sources.listing import REAL, ROWS, Listing

TAR = "images.tar"


class PixelSet(NamedTuple):
    """Grey images of one size with their class ids; `split` is set for ready-made splits."""

    name: str
    images_NHW_u8: npt.NDArray[np.uint8]
    labels_N: npt.NDArray[np.int64]
    split: str | None = None


def pixel_listing(sets: Sequence[PixelSet], class_names: dict[int, str], notes: tuple[str, ...] = ()) -> Listing:
    """Return the images of all sets, called <set>/<class id>/<number>.png."""
    return Listing(
        root=Path(),
        rows=pl.concat([_rows(pixels) for pixels in sets]),
        class_names=class_names,
        pixels=[image for pixels in sets for image in pixels.images_NHW_u8],
        notes=notes,
    )


def pack_pixels(listing: Listing, out: Path) -> Listing:
    """Write the listing's pixels as PNG files into one tar file in `out`, and return the listing of the PNG files.

    The tar headers have no times and owners, so equal pixels give equal bytes. The (file, offset, length) of a row
    is the place of the PNG inside the tar file.
    """
    assert listing.pixels is not None
    names = listing.rows["name"].to_list()
    with space_for(out / TAR), (out / TAR).open("wb") as tar:
        places = [_append(tar, name, _png(image_HW)) for name, image_HW in zip(names, listing.pixels, strict=True)]
        tar.write(bytes(-tar.tell() % tarfile.RECORDSIZE or tarfile.RECORDSIZE))  # the format: two empty blocks
    offsets, lengths = zip(*places, strict=True) if places else ((), ())
    rows = listing.rows.with_columns(
        file=pl.lit(TAR), offset=pl.Series(offsets, dtype=pl.Int64), length=pl.Series(lengths, dtype=pl.Int64)
    )
    return Listing(root=out, rows=rows, class_names=listing.class_names, notes=listing.notes)


def _rows(pixels: PixelSet) -> pl.DataFrame:
    labels = pixels.labels_N.tolist()
    names = [f"{pixels.name}/{label}/{number:06d}.png" for number, label in enumerate(labels)]
    rows = pl.DataFrame({"name": names, "label": labels}, schema_overrides={"label": pl.Int64})
    absent = [pl.lit(None, dtype=ROWS[name]).alias(name) for name in ("file", "offset", "length", "group")]
    split = pl.lit(pixels.split, dtype=pl.String).alias("split")
    return rows.with_columns(*absent, split, source=pl.lit(REAL)).select(list(ROWS))


def _png(image_HW_u8: npt.NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image_HW_u8).save(content, "PNG")
    return content.getvalue()


def _append(tar: BinaryIO, name: str, content: bytes) -> tuple[int, int]:
    """Write one member, with only name, size and mode in its header; return (offset, length) of its content."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.write(member.tobuf(tarfile.USTAR_FORMAT))
    offset = tar.tell()
    tar.write(content + bytes(-len(content) % tarfile.BLOCKSIZE))
    return offset, len(content)

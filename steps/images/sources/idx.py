"""Images in idx files, the format of MNIST (LeCun et al. 1998): <prefix>-images-idx3-ubyte, possibly with .gz."""

import gzip
import re
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from steps.errors import Refused
from steps.images.sources.label_files import names_in_label_file
from steps.images.sources.labels import number_classes
from steps.images.sources.listing import Listing, Source
from steps.images.sources.pixels import PixelSet, pixel_listing

IMAGES_FILE = re.compile(r"(?P<prefix>.*?)-?images?[-.]idx3-ubyte(\.gz)?")
SPLIT_WORDS = {"train": "train", "val": "val", "test": "test", "t10k": "test"}
MAX_BYTES = 4 * 2**30


def find_idx(folder: Path) -> list[Path]:
    """Return the idx files of images in `folder`, sorted."""
    return sorted(path for path in folder.iterdir() if IMAGES_FILE.fullmatch(path.name) and path.is_file())


def read_idx(source: Source) -> Listing:
    """Return the images of all idx files in the folder `source`, or of `source` itself if it is an idx file."""
    folder = source.path if source.path.is_dir() else source.path.parent
    files = find_idx(folder) if source.path.is_dir() else [source.path]
    if not files:
        raise Refused(
            f"{folder} holds no idx file called <prefix>-images-idx3-ubyte or <prefix>-images-idx3-ubyte.gz."
        )
    sets = [read_pair(path) for path in files]
    labels = {str(label) for pixels in sets for label in np.unique(pixels.labels_N).tolist()}
    _, names, notes = number_classes(Counter(labels), "ids", names_in_label_file(source))
    return pixel_listing(sets, names, notes + _unread(folder if source.path.is_dir() else None, files))


def _unread(folder: Path | None, images: list[Path]) -> tuple[str, ...]:
    """Return a note about the idx files of `folder` that belong to no pair that was read."""
    known = {*images, *(_labels_of(path) for path in images)}
    unread = sorted(path.name for path in folder.glob("*[-.]idx[0-9]-*") if path not in known) if folder else []
    if not unread:
        return ()
    return (f"{len(unread)} idx file(s) are not read, because they hold no grey images: {', '.join(unread[:5])}",)


def _labels_of(images: Path) -> Path:
    return images.with_name(re.sub(r"images?([-.])idx3", r"labels\1idx1", images.name))


def read_pair(images: Path) -> PixelSet:
    """Return the images of one idx file, with the labels from the idx file beside it."""
    labels = _labels_of(images)
    images_NHW_u8, labels_N = read_array(images), read_array(labels)
    if images_NHW_u8.ndim != 3 or labels_N.ndim != 1 or len(images_NHW_u8) != len(labels_N):
        raise Refused(
            f"{images} has shape {images_NHW_u8.shape} and {labels} has shape {labels_N.shape}; these must be "
            "(N, H, W) and (N,)."
        )
    prefix = _prefix(images)
    split = next((split for word, split in SPLIT_WORDS.items() if word in prefix.lower()), None)
    return PixelSet(prefix or "images", images_NHW_u8, labels_N.astype(np.int64), split)


def read_array(path: Path) -> npt.NDArray[np.uint8]:
    """Return the array of bytes in an idx file; refuse any other file."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MAX_BYTES)
    except FileNotFoundError as fault:
        raise Refused(f"{path} is not there; each idx file of images needs its file of labels.") from fault
    except (OSError, EOFError, zlib.error) as fault:
        raise Refused(f"{path} cannot be read: {fault}.") from fault
    return parse_array(content, path)


def parse_array(content: bytes, path: Path) -> npt.NDArray[np.uint8]:
    """Return the array in an idx file: two zero bytes, the type (8: bytes), the rank, the sizes, the data."""
    rank = content[3] if len(content) >= 4 and content[:3] == b"\0\0\x08" else 0
    begin = 4 + 4 * rank
    shape = struct.unpack(f">{rank}I", content[4:begin]) if rank and len(content) >= begin else ()
    if not shape or len(content) - begin != int(np.prod(shape, dtype=object)):
        raise Refused(f"{path} is not an idx file of bytes, or is incomplete.")
    return np.frombuffer(content, np.uint8, offset=begin).reshape(shape)


def _prefix(images: Path) -> str:
    match = IMAGES_FILE.fullmatch(images.name)
    return match["prefix"] if match else images.name.partition(".")[0]

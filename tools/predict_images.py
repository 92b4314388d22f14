"""The images that tools.predict is to classify: found below folders, decoded ahead, as the engine takes them.

Letters: N images, H and W pixels, C = 3 channels (RGB).
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from steps.engines.contract import Images, TooLarge
from steps.errors import StepError
from steps.images.dataset import MOST_PIXELS
from steps.images.preprocessing import FORMATS, decode_rgb, preprocess
from steps.reports.card import Card

MOST_BYTES = 512 * 2**20  # of an image file, as ingest has it
MOST_AT_ONCE = 1024  # images that an engine is given


@dataclass(frozen=True)
class Unusable:
    """Something named, or found below a folder, that is no image; `why` is a sentence that names it."""

    why: str


@dataclass(frozen=True)
class Feed:
    """How an engine takes an image, and how many such images may lie in memory at once."""

    prepare: Callable[[Image.Image, Card], Images]
    most: int


Decoded = tuple[Path, Images]


def images_of(named: Path) -> Iterator[Path | Unusable]:
    """Yield the path; of a folder all images below it, in the order of their paths, none hidden."""
    if not _is_folder(named):
        yield named
        return
    found = False
    for found_one in _below(named, _extensions()):
        found = True
        yield found_one
    if not found:
        yield Unusable(f"{named} holds no image.")


def decoded(
    images: Iterable[Path | Unusable], card: Card, batch: int, threads: int
) -> Iterator[list[Decoded | Unusable]]:
    """Yield lists of at most `batch` images as the engine takes them, in order, while others are being decoded."""
    feed = FEEDS[card.takes]
    size = min(batch, feed.most)
    with ThreadPoolExecutor(threads) as pool:
        ready = _ahead(pool, images, card, 2 * size)
        while some := list(islice(ready, size)):
            yield some


def load_image(path: Path, card: Card) -> Images | Unusable:
    """Return one image file as the engine takes it, image_HWC_u8, or why it cannot be classified."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
            return Unusable(f"{path} is no regular file.")
        if found.st_size > MOST_BYTES:
            return Unusable(f"{path} cannot be read as an image: it has more than {MOST_BYTES >> 20} MB.")
        return FEEDS[card.takes].prepare(decode_rgb(path.read_bytes()), card)
    except StepError as fault:
        return Unusable(f"{path} cannot be classified: {fault}")
    except UnidentifiedImageError:
        return Unusable(f"{path} is in no image format that is read here.")
    except FileNotFoundError:
        return Unusable(f"{path} is not there.")
    except Exception as fault:  # what decoders raise on broken files shares no base
        return Unusable(f"{path} cannot be read as an image: {' '.join(str(fault).split())}")


def alike(images: list[Images]) -> Iterator[Images]:
    """Yield images_NHWC_u8 of neighbours of one shape, at most MOST_PIXELS (or one image) together."""
    for (height, width, _), some in groupby(images, lambda image: image.shape):
        while batch := list(islice(some, max(1, MOST_PIXELS // (height * width)))):
            yield np.stack(batch)


def _sized(image: Image.Image, card: Card) -> Images:
    return preprocess(image, card.preprocessing)


def _as_it_is(image: Image.Image, card: Card) -> Images:
    assert card.max_side is not None, "an engine that takes any size says up to which"
    if max(image.size) > card.max_side:
        raise TooLarge(card.form, f"an image of {image.width} x {image.height}", card.max_side, max(image.size))
    return np.asarray(image)


FEEDS = {"sized": Feed(_sized, MOST_AT_ONCE), "any": Feed(_as_it_is, most=8)}


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # what lies above it may not be entered; reading it will say so
        return False


def _below(folder: Path, extensions: tuple[str, ...]) -> Iterator[Path | Unusable]:
    """Walk without recursion, one folder's names in memory at a time; a link to a folder is not followed."""
    ahead: list[tuple[str, bool]] = [(str(folder), True)]
    while ahead:
        path, is_folder = ahead.pop()
        if not is_folder:
            yield Path(path)
            continue
        try:
            with os.scandir(path) as entries:
                kept = [
                    (entry.path, entry.is_dir(follow_symlinks=False))
                    for entry in entries
                    if _wanted(entry, extensions)
                ]
        except OSError as fault:
            yield Unusable(f"{path} cannot be opened: {fault.strerror}.")
            continue
        ahead += sorted(kept, reverse=True)


def _wanted(entry: "os.DirEntry[str]", extensions: tuple[str, ...]) -> bool:
    if entry.name.startswith("."):
        return False
    return entry.is_dir(follow_symlinks=False) or (entry.name.lower().endswith(extensions) and entry.is_file())


def _extensions() -> tuple[str, ...]:
    Image.init()
    return tuple(extension for extension, kind in Image.EXTENSION.items() if kind in FORMATS)


def _ahead(
    pool: ThreadPoolExecutor, images: Iterable[Path | Unusable], card: Card, ahead: int
) -> Iterator[Decoded | Unusable]:
    """Yield each image decoded, in order, while up to `ahead` others are being decoded."""

    def load(image: Path | Unusable) -> Decoded | Unusable:
        if isinstance(image, Unusable):
            return image
        pixels = load_image(image, card)
        return pixels if isinstance(pixels, Unusable) else (image, pixels)

    waiting: deque[Future[Decoded | Unusable]] = deque()
    for image in images:
        waiting.append(pool.submit(load, image))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()

"""The images for tools.predict: found in folders, decoded ahead, in the form that the engine takes.

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

MOST_BYTES = 512 * 2**20  # of an image file, as in ingest
MOST_AT_ONCE = 1024  # images in one batch


@dataclass(frozen=True)
class Unusable:
    """A path that cannot be used as an image; `why` is a sentence with the path."""

    why: str


@dataclass(frozen=True)
class Feed:
    """How an image is prepared for an engine, and how many prepared images are in memory at most."""

    prepare: Callable[[Image.Image, Card], Images]
    most: int


Decoded = tuple[Path, Images]


def images_of(named: Path) -> Iterator[Path | Unusable]:
    """Yield the path, or, for a folder, all images below it in the order of paths, without hidden files."""
    if not _is_folder(named):
        yield named
        return
    found = False
    for image in _below(named, _extensions()):
        found = True
        yield image
    if not found:
        yield Unusable(f"{named} holds no image.")


def decoded(
    images: Iterable[Path | Unusable], card: Card, batch: int, threads: int
) -> Iterator[list[Decoded | Unusable]]:
    """Yield lists of at most `batch` prepared images, in order, while the next images are decoded."""
    feed = FEEDS[card.takes]
    size = min(batch, feed.most)
    with ThreadPoolExecutor(threads) as pool:
        ready = _ahead(pool, images, card, 2 * size)
        while decoded_batch := list(islice(ready, size)):
            yield decoded_batch


def load_image(path: Path, card: Card) -> Images | Unusable:
    """Return one prepared image file, image_HWC_u8, or the reason why it cannot be classified."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait forever
            return Unusable(f"{path} is no regular file.")
        if found.st_size > MOST_BYTES:
            return Unusable(f"{path} cannot be read as an image: it has more than {MOST_BYTES >> 20} MB.")
        return FEEDS[card.takes].prepare(decode_rgb(path.read_bytes()), card)
    except StepError as fault:
        return Unusable(f"{path} cannot be classified: {fault}")
    except UnidentifiedImageError:
        return Unusable(f"{path} has no supported image format.")
    except FileNotFoundError:
        return Unusable(f"{path} is not there.")
    except Exception as fault:  # errors of decoders on broken files share no base class
        return Unusable(f"{path} cannot be read as an image: {' '.join(str(fault).split())}")


def same_shape_batches(images: list[Images]) -> Iterator[Images]:
    """Yield images_NHWC_u8 of consecutive images with the same shape, at most MOST_PIXELS or one image each."""
    for (height, width, _), group in groupby(images, lambda image: image.shape):
        while batch := list(islice(group, max(1, MOST_PIXELS // (height * width)))):
            yield np.stack(batch)


def _sized(image: Image.Image, card: Card) -> Images:
    return preprocess(image, card.preprocessing)


def _as_it_is(image: Image.Image, card: Card) -> Images:
    assert card.max_side is not None, "the card refuses `any` without max_side"
    if max(image.size) > card.max_side:
        raise TooLarge(card.form, f"an image of {image.width} x {image.height}", card.max_side, max(image.size))
    return np.asarray(image)


FEEDS = {"sized": Feed(_sized, MOST_AT_ONCE), "any": Feed(_as_it_is, most=8)}


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a folder above may not be entered; load_image reports that
        return False


def _below(folder: Path, extensions: tuple[str, ...]) -> Iterator[Path | Unusable]:
    """Yield the images below a folder, with the names of one folder in memory; links to folders are skipped."""
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
                    if _is_candidate(entry, extensions)
                ]
        except OSError as fault:
            yield Unusable(f"{path} cannot be opened: {fault.strerror}.")
            continue
        ahead += sorted(kept, reverse=True)


def _is_candidate(entry: "os.DirEntry[str]", extensions: tuple[str, ...]) -> bool:
    if entry.name.startswith("."):
        return False
    return entry.is_dir(follow_symlinks=False) or (entry.name.lower().endswith(extensions) and entry.is_file())


def _extensions() -> tuple[str, ...]:
    Image.init()
    return tuple(extension for extension, kind in Image.EXTENSION.items() if kind in FORMATS)


def _ahead(
    pool: ThreadPoolExecutor, images: Iterable[Path | Unusable], card: Card, ahead: int
) -> Iterator[Decoded | Unusable]:
    """Yield each decoded image, in order, while up to `ahead` next images are decoded."""

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

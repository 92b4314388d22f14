"""Classify images, and all images of folders, with a release: `python -m tools.predict IMAGE_OR_FOLDER...`

    python -m tools.predict photos/ --top 3 --format csv --out classes.csv
    python -m tools.predict photo.jpg --release data/champion --engine openvino-fp32

Of each image it gives the most likely classes with their ids, names and probabilities: those of `evaluate`, by the
release's model or any engine that the release holds. Images come in the order named, those of a folder in the
order of their paths, hidden ones left out; a million of them take no more memory than one folder's names and a few
batches. Exit code 0: all were classified; 2: something could not be used, and a sentence on stderr says what. An
image that cannot be read is named there, and the others are classified all the same. --out is written whole or
not at all.

Letters: N images, H and W pixels, C = 3 channels (RGB), K classes.
"""

import argparse
import os
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from steps.backends.contract import Images, Runner
from steps.backends.runner import open_runner
from steps.errors import BadInput, StepError, did_you_mean
from steps.images.preprocess import FORMATS, decode_rgb, preprocess
from steps.metrics.agreement import log_softmax
from steps.progress import say, track
from steps.reports.card import Card, Preprocessing
from steps.reports.champion import Champion
from steps.reports.release import INDEX, ReleaseCard, check_sums
from tools.predict_output import WRITERS, Prediction, opened_for_writing

MODEL = "model"  # what the flag calls the release's own model, which every release holds
BATCH = 64
MOST_BYTES = 512 * 2**20  # of an image file, as ingest has it


@dataclass(frozen=True)
class Unusable:
    """Something named, or found below a folder, that is no image; `why` is a sentence that names it."""

    why: str


def open_release(release: Path, engine: str = MODEL, threads: int | None = None) -> tuple[Runner, Card]:
    """Return the runner and the card of a release's model or engine, after the whole release was verified.

    `release` may be the folder of the champion too. Raises BadInput, or CannotRunHere for an engine of others.
    """
    if (release / "champion.json").is_file():
        if not Champion.read(release / "champion.json").accepted:
            raise BadInput(
                f"{release} holds no accepted release yet; `make accept` makes data/release the champion."
            )
        release = release / "release"
    check_sums(release)
    known = (MODEL, *ReleaseCard.read(release / INDEX).engines)
    if engine not in known:
        raise BadInput(
            f"{release} holds no engine '{engine}'.{did_you_mean(engine, known)} It holds {', '.join(known)}."
        )
    return open_runner(release / MODEL if engine == MODEL else release / "engines" / engine, threads)


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


def predict(
    images: Iterable[Path | Unusable], run: Runner, card: Card, top: int = 1, batch: int = BATCH, threads: int = 2
) -> Iterator[Prediction | Unusable]:
    """Yield what the network says of each image, or why it says nothing, in the order of the images."""
    with ThreadPoolExecutor(threads) as pool:
        ready = _decoded_ahead(pool, images, card.preprocessing, 2 * batch)
        while some := list(islice(ready, batch)):
            yield from _predicted(some, run, card, top)


def load_image(path: Path, how: Preprocessing) -> Images | Unusable:
    """Return one image file as image_HWC_u8, or why it cannot be read."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return Unusable(f"{path} cannot be read as an image: it has more than {MOST_BYTES >> 20} MB.")
        return preprocess(decode_rgb(path.read_bytes()), how)
    except Exception as fault:  # what decoders raise on broken files shares no base
        return Unusable(f"{path} cannot be read as an image: {' '.join(str(fault).split())}")


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


def _decoded_ahead(
    pool: ThreadPoolExecutor, images: Iterable[Path | Unusable], how: Preprocessing, ahead: int
) -> Iterator[tuple[Path, Images] | Unusable]:
    """Yield each image decoded, in order, while up to `ahead` others are being decoded."""

    def decoded(image: Path | Unusable) -> tuple[Path, Images] | Unusable:
        if isinstance(image, Unusable):
            return image
        pixels = load_image(image, how)
        return pixels if isinstance(pixels, Unusable) else (image, pixels)

    waiting: deque[Future[tuple[Path, Images] | Unusable]] = deque()
    for image in images:
        waiting.append(pool.submit(decoded, image))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _predicted(
    some: list[tuple[Path, Images] | Unusable], run: Runner, card: Card, top: int
) -> Iterator[Prediction | Unusable]:
    """Yield one batch's predictions, and what cannot be used at its place among them."""
    pixels = [image[1] for image in some if not isinstance(image, Unusable)]
    logits_NK = run(np.stack(pixels)) if pixels else np.empty((0, card.class_num), np.float32)
    if logits_NK.shape != (len(pixels), card.class_num) or not np.isfinite(logits_NK).all():
        raise BadInput(f"{card.form} gives no {card.class_num} finite scores for each image; it must not be used.")
    best_NT = np.argsort(-logits_NK, axis=1, kind="stable")[:, :top]
    shares_NT = np.exp(np.take_along_axis(log_softmax(logits_NK), best_NT, axis=1)) if pixels else best_NT
    rows = iter(zip(best_NT.tolist(), shares_NT.tolist(), strict=True))
    for image in some:
        yield image if isinstance(image, Unusable) else Prediction(image[0], *map(tuple, next(rows)))


def _classify(flags: argparse.Namespace) -> int:
    """Do what the flags say; return the number of images that could not be used."""
    run, card = open_release(flags.release, flags.engine, flags.threads)
    images: Iterator[Path | Unusable] = (image for named in flags.images for image in images_of(named))
    if flags.out is not None or not sys.stdout.isatty():  # on a terminal the lines themselves show how far it is
        total = sum(1 for named in flags.images for _ in images_of(named))
        images = track(images, "predict", total, "images")
    failed = 0

    def readable(found: Iterator[Prediction | Unusable]) -> Iterator[Prediction]:
        nonlocal failed
        for one in found:
            if isinstance(one, Prediction):
                yield one
            else:
                failed += 1
                say(f"predict: {one.why}")

    with opened_for_writing(flags.out) as file:
        predictions = readable(predict(images, run, card, flags.top, flags.batch, flags.threads or 2))
        file.writelines(WRITERS[flags.format](predictions, card.class_names))
    return failed


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument("--release", type=Path, default=Path("data/release"), metavar="PATH")
    parser.add_argument("--engine", default=MODEL, metavar="NAME", help=f"one that the release holds ({MODEL})")
    parser.add_argument("--format", choices=sorted(WRITERS), default="table")
    parser.add_argument("--top", type=_count, default=1, metavar="N", help="classes to name for each image (1)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there, not to stdout")
    parser.add_argument("--batch", type=_count, default=BATCH, metavar="N", help=f"images at once ({BATCH})")
    parser.add_argument(
        "--threads", type=_count, metavar="N", help="of the engine, and of decoding (as many as it likes, and 2)"
    )
    return parser.parse_args()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)


def main() -> None:
    """Run the tool; what a person can cause ends in one sentence and exit code 2."""
    flags = _parse()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a decoder mutters
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            failed = _classify(flags)
    except StepError as error:
        say(f"predict: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        say("predict: interrupted; --out is as it was.")
        sys.exit(130)
    if failed:
        say(f"predict: {failed} could not be classified.")
    sys.exit(2 if failed else 0)


if __name__ == "__main__":
    main()

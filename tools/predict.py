"""Classify images, and all images of folders, with a release: `python -m tools.predict IMAGE_OR_FOLDER...`

    python -m tools.predict photos/ --top 3 --format csv --out classes.csv
    python -m tools.predict photo.jpg --release data/champion --engine openvino-fp32

Of each image it gives the most likely classes with their ids, names and probabilities: those of `evaluate`, by the
release's model or any engine that the release holds. Images come in the order named, those of a folder in the
order of their paths, hidden ones left out; a million of them take no more memory than one folder's names and a few
batches. Exit code 0: all were classified; 2: something could not be used, and a sentence on stderr says what. An
image that cannot be read is named there, and the others are classified all the same. --out is written whole or
not at all.

Letters: N images, K classes, T of them shown.
"""

import argparse
import os
import stat
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from steps.backends.runner import open_runner
from steps.engines.contract import Runner
from steps.errors import BadInput, StepError
from steps.metrics.agreement import log_softmax
from steps.progress import say, track
from steps.reports.card import Card
from steps.reports.release import INDEX, ReleaseCard
from tools.flags import count, cpu_threads
from tools.predict_images import Decoded, Unusable, alike, decoded, images_of
from tools.predict_output import WRITERS, Prediction, opened_for_writing
from tools.releases import MODEL, engine_folder, keep_out_of_releases, verified_release

BATCH = 64


def open_release(release: Path, engine: str = MODEL, threads: int | None = None) -> tuple[Runner, Card]:
    """Return the runner and the card of a release's model or engine, after the whole release was verified.

    `release` may be the folder of the champion too. Raises BadInput, or CannotRunHere for an engine of others.
    """
    release = verified_release(release)
    return open_runner(engine_folder(release, ReleaseCard.read(release / INDEX), engine), threads)


def predict(
    images: Iterable[Path | Unusable], run: Runner, card: Card, top: int = 1, batch: int = BATCH, threads: int = 2
) -> Iterator[Prediction | Unusable]:
    """Yield what the network says of each image, or why it says nothing, in the order of the images."""
    for some in decoded(images, card, batch, threads):
        yield from _predicted(some, run, card, top)


def _predicted(
    some: list[Decoded | Unusable], run: Runner, card: Card, top: int
) -> Iterator[Prediction | Unusable]:
    """Yield one batch's predictions, and what cannot be used at its place among them."""
    pixels = [image[1] for image in some if not isinstance(image, Unusable)]
    none_NK = np.empty((0, card.class_num), np.float32)
    logits_NK = np.concatenate([none_NK, *(run(images_NHWC_u8) for images_NHWC_u8 in alike(pixels))])
    if logits_NK.shape != (len(pixels), card.class_num) or not np.isfinite(logits_NK).all():
        raise BadInput(f"{card.form} gives no {card.class_num} finite scores for each image; it must not be used.")
    best_NT = np.argsort(-logits_NK, axis=1, kind="stable")[:, :top]
    shares_NT = np.exp(np.take_along_axis(log_softmax(logits_NK), best_NT, axis=1))
    rows = iter(zip(best_NT.tolist(), shares_NT.tolist(), strict=True))
    for image in some:
        yield image if isinstance(image, Unusable) else Prediction(image[0], *map(tuple, next(rows)))


def _classify(flags: argparse.Namespace) -> int:
    """Do what the flags say; return the number of images that could not be used."""
    if flags.out is not None:
        keep_out_of_releases("--out", flags.out)
        _spare_images(flags.out, flags.images)
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


def _spare_images(out: Path, named: list[Path]) -> None:
    """Raise BadInput where the answers would take the place of an image that they are about."""
    try:
        file = out.stat()
    except OSError:  # nothing is there; or nobody may look, which is said where it is to be written
        return
    images = (image for each in named for image in images_of(each) if isinstance(image, Path))
    if stat.S_ISREG(file.st_mode) and any(_is_that_file(image, file) for image in images):
        raise BadInput(f"--out {out} is one of the images, and would be replaced; name another file.")


def _is_that_file(image: Path, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(image.stat(), file)
    except OSError:  # it is not there, or not to be read: so it will be said of it
        return False


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument("--release", type=Path, default=Path("data/release"), metavar="PATH")
    parser.add_argument("--engine", default=MODEL, metavar="NAME", help=f"one that the release holds ({MODEL})")
    parser.add_argument("--format", choices=sorted(WRITERS), default="table")
    parser.add_argument("--top", type=count, default=1, metavar="N", help="classes to name for each image (1)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there, not to stdout")
    parser.add_argument("--batch", type=count, default=BATCH, metavar="N", help=f"images at once ({BATCH})")
    parser.add_argument(
        "--threads",
        type=cpu_threads,
        metavar="N",
        help="of the engine, and of decoding (as many as it likes, and 2)",
    )
    return parser.parse_args()


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

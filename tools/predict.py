"""Classify images, and all images of folders, with a release: `python -m tools.predict IMAGE_OR_FOLDER...`

    python -m tools.predict photos/ --top 3 --format csv --out classes.csv
    python -m tools.predict photo.jpg --release data/champion --engine openvino-fp32

For each image, the tool gives the most likely classes with ids, names and probabilities. The model is the
release's model, or any engine of the release; the probabilities are those of `evaluate`. Images come in the order
of the command line; images of a folder come in the order of their paths, without hidden files. A million images
need no more memory than the names of one folder and a few batches. Exit code 0: all images were classified. Exit
code 2: something could not be used, and a sentence on stderr names it. An image that cannot be read is named on
stderr, and all other images are classified. --out is written whole or not at all.

Letters: N images, K classes, T classes shown.
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
from tools.predict_images import Decoded, Unusable, decoded, images_of, same_shape_batches
from tools.predict_output import WRITERS, Prediction, opened_for_writing
from tools.releases import MODEL, engine_folder, keep_out_of_releases, verified_release

BATCH = 64


def open_release(release: Path, engine: str = MODEL, threads: int | None = None) -> tuple[Runner, Card]:
    """Return the runner and the card of a release's model or engine, after the check of the whole release.

    `release` can be the champion's folder. Raises BadInput, or CannotRunHere for an engine of another machine.
    """
    release = verified_release(release)
    return open_runner(engine_folder(release, ReleaseCard.read(release / INDEX), engine), threads)


def predict(
    images: Iterable[Path | Unusable], run: Runner, card: Card, top: int = 1, batch: int = BATCH, threads: int = 2
) -> Iterator[Prediction | Unusable]:
    """Yield each image's prediction, or the reason why it has none, in the order of the images."""
    for decoded_batch in decoded(images, card, batch, threads):
        yield from _predicted(decoded_batch, run, card, top)


def _predicted(
    decoded_batch: list[Decoded | Unusable], run: Runner, card: Card, top: int
) -> Iterator[Prediction | Unusable]:
    """Yield the predictions of one batch, and the unusable images in their order."""
    pixels = [image[1] for image in decoded_batch if not isinstance(image, Unusable)]
    none_NK = np.empty((0, card.class_num), np.float32)
    logits_NK = np.concatenate([none_NK, *(run(images_NHWC_u8) for images_NHWC_u8 in same_shape_batches(pixels))])
    if logits_NK.shape != (len(pixels), card.class_num) or not np.isfinite(logits_NK).all():
        raise BadInput(
            f"{card.form} does not give {card.class_num} finite scores for each image; it must not be used."
        )
    best_NT = np.argsort(-logits_NK, axis=1, kind="stable")[:, :top]
    shares_NT = np.exp(np.take_along_axis(log_softmax(logits_NK), best_NT, axis=1))
    rows = iter(zip(best_NT.tolist(), shares_NT.tolist(), strict=True))
    for image in decoded_batch:
        yield image if isinstance(image, Unusable) else Prediction(image[0], *map(tuple, next(rows)))


def _classify(flags: argparse.Namespace) -> int:
    """Classify the images that the flags name; return the number of images that could not be used."""
    if flags.out is not None:
        keep_out_of_releases("--out", flags.out)
        _check_out_is_no_image(flags.out, flags.images)
    run, card = open_release(flags.release, flags.engine, flags.threads)
    images: Iterator[Path | Unusable] = (image for named in flags.images for image in images_of(named))
    if flags.out is not None or not sys.stdout.isatty():  # on a terminal, the lines show the progress
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


def _check_out_is_no_image(out: Path, named: list[Path]) -> None:
    """Raise BadInput where --out is one of the images and would be replaced."""
    try:
        file = out.stat()
    except OSError:  # the file is missing, or may not be read; opened_for_writing reports the second
        return
    images = (image for each in named for image in images_of(each) if isinstance(image, Path))
    if stat.S_ISREG(file.st_mode) and any(_is_that_file(image, file) for image in images):
        raise BadInput(f"--out {out} is one of the images, and would be replaced; name another file.")


def _is_that_file(image: Path, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(image.stat(), file)
    except OSError:  # the image is missing or may not be read; load_image reports that
        return False


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument("--release", type=Path, default=Path("data/release"), metavar="PATH")
    parser.add_argument("--engine", default=MODEL, metavar="NAME", help=f"an engine of the release ({MODEL})")
    parser.add_argument("--format", choices=sorted(WRITERS), default="table")
    parser.add_argument("--top", type=count, default=1, metavar="N", help="classes to name for each image (1)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write to this file, not to stdout")
    parser.add_argument("--batch", type=count, default=BATCH, metavar="N", help=f"images in one batch ({BATCH})")
    parser.add_argument(
        "--threads",
        type=cpu_threads,
        metavar="N",
        help="threads of the engine (the runtime decides), and threads that decode (2)",
    )
    return parser.parse_args()


def main() -> None:
    """Run the tool; an error that a person can cause gives one sentence and exit code 2."""
    flags = _parse()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of image decoders
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
        say(f"predict: {failed} images could not be classified.")
    sys.exit(2 if failed else 0)


if __name__ == "__main__":
    main()

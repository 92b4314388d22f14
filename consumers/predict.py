"""Classify images with the release that holds this file: `python predict.py IMAGE_OR_FOLDER...`

The program needs only onnxruntime, pillow and numpy. For each image, and for each image in a folder, the program
prints the most likely classes, one a line: image, class id, class name and score, separated by tabs (a tab, a line
end or a backslash in a path or a name is written \\t, \\n, \\r, \\\\). The release's checksums are verified first.
Exit code 0: all images were classified. Exit code 2: something could not be read, and a sentence names it.

In a program: `Classifier("path/of/the/release").predict(content)` gives the probability of each of `class_names`
for the bytes of an image file.
"""

import argparse
import hashlib
import io
import json
import os
import stat
import sys
import warnings
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import onnxruntime
    from PIL import Image, ImageOps, UnidentifiedImageError
except ModuleNotFoundError as missing:
    print(f"predict: {missing}; this program needs `pip install onnxruntime pillow numpy`.", file=sys.stderr)
    raise SystemExit(2) from missing

RELEASE = Path(__file__).resolve().parent
CARD, MODEL = "model/card.json", "model/model.onnx"
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")
ORIENTATION = 0x0112  # the EXIF tag for the rotation of an image
ESCAPES = str.maketrans(
    {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
)  # a name must not break a line or a column
MAX_ASPECT = 50  # only the middle of a longer image is used
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class Unusable(Exception):
    """A release or an image that cannot be used, in one sentence."""


class Classifier:
    """The release's model; `predict` maps an encoded image to the probability of each of `class_names`."""

    def __init__(self, release: "str | Path" = RELEASE, threads: int = 0) -> None:
        release = Path(release)
        verify(release)
        self.class_names, self.how = read_card(release / CARD)
        content = (release / MODEL).read_bytes()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads  # 0: onnxruntime decides
        options.log_severity_level = 3  # errors only; they are raised as well
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads sleep
        try:
            self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as fault:  # onnxruntime's exceptions share no base
            raise Unusable(f"onnxruntime {onnxruntime.__version__} cannot run {MODEL}: {fault}") from fault
        takes, gives = self.session.get_inputs()[0].shape, self.session.get_outputs()[0].shape
        if takes[1:] != [self.how["size"], self.how["size"], 3] or gives[1:] != [len(self.class_names)]:
            raise Unusable(f"{release / CARD} is not the card of {MODEL}; fetch the release again.")

    def predict(self, content: bytes) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """Return the probability of each class for the bytes of an image file, or raise Unusable."""
        try:
            images_NHWC_u8 = preprocess(decode_rgb(content), self.how)[None]
        except UnidentifiedImageError as fault:
            raise Unusable("has no supported image format.") from fault
        except Exception as fault:  # errors of decoders on broken files share no base class
            raise Unusable(f"cannot be read as an image: {fault}") from fault
        name = self.session.get_inputs()[0].name
        logits_K = self.session.run(None, {name: images_NHWC_u8})[0][0].astype(np.float64)
        if not np.isfinite(logits_K).all():
            raise Unusable(f"cannot be classified: {MODEL} gives a score that is not finite.")
        shares_K = np.exp(logits_K - logits_K.max())
        probabilities_K: np.ndarray[Any, np.dtype[np.float64]] = shares_K / shares_K.sum()
        return probabilities_K


def read_card(path: Path) -> "tuple[list[str], dict[str, Any]]":
    """Return the class names and the preprocessing of a card, or raise Unusable."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        names, how = card["class_names"], card["preprocessing"]
        sound = isinstance(names, list) and all(isinstance(name, str) for name in names)
        sound &= how["interpolation"] in FILTERS and all(type(how[key]) is int for key in ("size", "resize"))
        sound = sound and 0 < how["size"] <= how["resize"]
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise Unusable(f"{path} lacks valid class names or a valid preprocessing; fetch the release again.")
    return names, how


def verify(release: Path) -> None:
    """Raise Unusable unless every file in SHA256SUMS exists and is unchanged."""
    sums = release / "SHA256SUMS"
    if not sums.is_file():
        raise Unusable(f"{release} is no release: it has no SHA256SUMS.")
    rows = (row.partition("  ") for row in sums.read_text(encoding="utf-8", errors="replace").splitlines())
    sealed = {name: checksum for checksum, _, name in rows}
    for name, checksum in ({CARD: "", MODEL: ""} | sealed).items():
        path = release / name
        if not path.is_file():
            raise Unusable(f"{path} is missing; fetch the release again.")
        if hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            raise Unusable(
                f"{path} is not the file that was released: its checksum differs; fetch the release again."
            )


def decode_rgb(content: bytes) -> Image.Image:
    """Return the upright RGB image: 16 bits scaled to 8, alpha over white, the first frame of an animation."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
        opened.load()
        rotated = ORIENTATION in opened.getexif()
        upright = ImageOps.exif_transpose(opened) if rotated else opened  # exif_transpose always copies
        if upright.mode.startswith("I") or upright.mode == "F":
            wide = np.asarray(upright).astype(np.float64)
            upright = Image.fromarray((wide / 257).round().clip(0, 255).astype(np.uint8))
        if upright.has_transparency_data:
            rgba = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return upright.convert("RGB")


def preprocess(image: Image.Image, how: dict[str, Any]) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Return the model's input, HWC uint8: short side resized to `resize`, then a centre crop of `size`."""
    size, resize, image = how["size"], how["resize"], middle(image)
    short = min(image.size)
    width, height = (max(resize, round(Fraction(side * resize, short))) for side in image.size)
    for sides in ((width, image.height), (width, height)):  # Pillow 13 would choose the order by the shape
        if sides != image.size:
            image = image.resize(sides, FILTERS[how["interpolation"]])
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def middle(image: Image.Image) -> Image.Image:
    """Return the middle of an image whose aspect ratio exceeds MAX_ASPECT, and any other image unchanged."""
    width, height = image.size
    if max(width, height) <= MAX_ASPECT * min(width, height):
        return image
    width, height = min(width, MAX_ASPECT * height), min(height, MAX_ASPECT * width)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def classify(classifier: Classifier, path: Path, top: int) -> Iterable[str]:
    """Return a line for each of the `top` most likely classes of one image file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait forever
            raise Unusable("is no regular file.")
        shares_K = classifier.predict(path.read_bytes())
    except OSError as fault:
        raise Unusable(f"{path} cannot be read: {fault.strerror}.") from fault
    except Unusable as fault:
        raise Unusable(f"{path} {fault}") from fault
    best = np.argsort(-shares_K, kind="stable")[:top]
    image, names = str(path).translate(ESCAPES), classifier.class_names
    return [f"{image}\t{number}\t{names[number].translate(ESCAPES)}\t{shares_K[number]:.6f}" for number in best]


def images_of(path: Path) -> "Iterator[Path]":
    """Yield the path, or, for a folder, all image files below it by extension, sorted, without hidden files."""
    Image.init()
    extensions = tuple(extension for extension, kind in Image.EXTENSION.items() if kind in FORMATS)
    found, ahead = False, [path]
    while ahead:  # holds the names of one folder at a time, so a million images need little memory
        here = ahead.pop()
        if is_folder(here) or (here == path and here.is_dir()):
            ahead += sorted((one for one in here.iterdir() if not one.name.startswith(".")), reverse=True)
        elif here == path or (here.name.lower().endswith(extensions) and here.is_file()):
            found = True
            yield here
    if not found:
        yield path


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder and no link: a link to a folder can be circular."""
    return path.is_dir() and not path.is_symlink()


def count(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of at least 1")
    return int(text)


def threads(text: str) -> int:
    """Return a number of threads, at most the number of CPUs: more threads wait for each other, for minutes."""
    number, cpus = count(text), os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # the CPUs that this process may use
        cpus = len(os.sched_getaffinity(0))
    if number > cpus:
        raise argparse.ArgumentTypeError(f"{number} threads are more than the {cpus} CPUs that may be used here")
    return number


def main(arguments: "list[str] | None" = None) -> int:
    """Classify the images named on the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument("--top", type=count, default=1, metavar="N", help="classes to print for each image (1)")
    parser.add_argument(
        "--threads", type=threads, default=0, metavar="N", help="CPU threads (onnxruntime decides)"
    )
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # warnings of image decoders
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    allow_any_name_on_stdout()
    try:
        failed = print_classes(Classifier(threads=options.threads), options.images, options.top)
        sys.stdout.flush()
    except BrokenPipeError:  # as with `| head`; Python must not flush the rest at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("predict: interrupted.", file=sys.stderr)
        return 130
    except (Unusable, OSError) as fault:
        print(f"predict: {fault}", file=sys.stderr)
        return 2
    return 2 if failed else 0


def allow_any_name_on_stdout() -> None:
    """Make stdout accept any file name: as UTF-8 or raw bytes; on a terminal, escaped where not printable."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        if sys.stdout.isatty():
            sys.stdout.reconfigure(errors="backslashreplace")
        else:
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")


def print_classes(classifier: Classifier, named: "list[Path]", top: int) -> int:
    """Print the lines of each image; name unusable images on stderr, and return their number."""
    failed = 0
    for path in (image for one in named for image in images_of(one)):
        try:
            if path.is_dir():
                raise Unusable(f"{path} holds no image.")
            print("\n".join(classify(classifier, path, top)))
        except Unusable as fault:
            failed += 1
            print(f"predict: {fault}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())

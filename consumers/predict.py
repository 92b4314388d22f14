"""Classify images with the release that this file lies in: `python predict.py IMAGE_OR_FOLDER...`

Needs onnxruntime, pillow and numpy, and nothing else. For each image, and each below a folder, it prints the
most likely classes, one a line: image, class id, class name and score, separated by tabs (a tab, a line end or a
backslash in a path or a name is written \\t, \\n, \\r, \\\\). The release's checksums are verified first.
Exit code 0: all images were classified; 2: something could not be read, and a sentence says what.

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
    print(f"predict: {missing}; it needs `pip install onnxruntime pillow numpy`.", file=sys.stderr)
    raise SystemExit(2) from missing

RELEASE = Path(__file__).resolve().parent
CARD, MODEL = "model/card.json", "model/model.onnx"
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")
ORIENTATION = 0x0112  # the tag of EXIF that says how an image is turned
ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})  # one a line, tabs between columns
MAX_ASPECT = 50  # of an image that is longer, the middle is used
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
        options.intra_op_num_threads = threads  # 0: as many as onnxruntime likes
        options.log_severity_level = 3  # errors only; they are raised as well
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait sleep
        try:
            self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as fault:  # onnxruntime's exceptions share no base
            raise Unusable(f"onnxruntime {onnxruntime.__version__} cannot run {MODEL}: {fault}") from fault
        takes, gives = self.session.get_inputs()[0].shape, self.session.get_outputs()[0].shape
        if takes[1:] != [self.how["size"], self.how["size"], 3] or gives[1:] != [len(self.class_names)]:
            raise Unusable(f"{release / CARD} is not the card of {MODEL}; fetch the release again.")

    def predict(self, content: bytes) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """Return the probability of each class, for the bytes of an image file; raises Unusable."""
        try:
            images_NHWC_u8 = preprocess(decode_rgb(content), self.how)[None]
        except UnidentifiedImageError as fault:
            raise Unusable("is in no image format that is read here.") from fault
        except Exception as fault:  # what decoders raise on broken files shares no base
            raise Unusable(f"cannot be read as an image: {fault}") from fault
        name = self.session.get_inputs()[0].name
        logits_K = self.session.run(None, {name: images_NHWC_u8})[0][0].astype(np.float64)
        if not np.isfinite(logits_K).all():
            raise Unusable(f"cannot be classified: {MODEL} gives it a score that is not finite.")
        shares_K = np.exp(logits_K - logits_K.max())
        probabilities_K: np.ndarray[Any, np.dtype[np.float64]] = shares_K / shares_K.sum()
        return probabilities_K


def read_card(path: Path) -> "tuple[list[str], dict[str, Any]]":
    """Return the class names and the preprocessing that a card says; raises Unusable."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        names, how = card["class_names"], card["preprocessing"]
        sound = isinstance(names, list) and all(isinstance(name, str) for name in names)
        sound &= how["interpolation"] in FILTERS and all(type(how[key]) is int for key in ("size", "resize"))
        sound = sound and 0 < how["size"] <= how["resize"]
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise Unusable(f"{path} does not say the class names and the preprocessing; fetch the release again.")
    return names, how


def verify(release: Path) -> None:
    """Raise Unusable unless every file that SHA256SUMS names is there, unchanged."""
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
            raise Unusable(f"{path} is not the file that was released: its checksum differs; fetch it again.")


def decode_rgb(content: bytes) -> Image.Image:
    """Return the image upright and in RGB: 16 bits scaled to 8, alpha over white, an animation's first frame."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
        opened.load()
        turned = ORIENTATION in opened.getexif()
        upright = ImageOps.exif_transpose(opened) if turned else opened  # else it would be a copy
        if upright.mode.startswith("I") or upright.mode == "F":
            wide = np.asarray(upright).astype(np.float64)
            upright = Image.fromarray((wide / 257).round().clip(0, 255).astype(np.uint8))
        if upright.has_transparency_data:
            rgba = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return upright.convert("RGB")


def preprocess(image: Image.Image, how: dict[str, Any]) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Return the model's input, HWC uint8: short side to `resize`, centre crop to `size`; it normalises itself."""
    size, resize, image = how["size"], how["resize"], middle(image)
    short = min(image.size)
    width, height = (max(resize, round(Fraction(side * resize, short))) for side in image.size)
    for sides in ((width, image.height), (width, height)):  # Pillow 13 would choose the order by the shape
        if sides != image.size:
            image = image.resize(sides, FILTERS[how["interpolation"]])
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def middle(image: Image.Image) -> Image.Image:
    """Return the middle of an image that is longer than MAX_ASPECT allows, and any other image itself."""
    width, height = image.size
    if max(width, height) <= MAX_ASPECT * min(width, height):
        return image
    width, height = min(width, MAX_ASPECT * height), min(height, MAX_ASPECT * width)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def classify(classifier: Classifier, path: Path, top: int) -> Iterable[str]:
    """Return a line for each of the `top` most likely classes of one image file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
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
    """Yield the path; of a folder all below it that are called as images of FORMATS are, sorted, none hidden."""
    Image.init()
    extensions = tuple(extension for extension, kind in Image.EXTENSION.items() if kind in FORMATS)
    found, ahead = False, [path]
    while ahead:  # the names of one folder at a time, however many there are below it
        here = ahead.pop()
        if is_folder(here) or (here == path and here.is_dir()):
            ahead += sorted((one for one in here.iterdir() if not one.name.startswith(".")), reverse=True)
        elif here == path or (here.name.lower().endswith(extensions) and here.is_file()):
            found = True
            yield here
    if not found:
        yield path


def is_folder(path: Path) -> bool:
    """Tell whether it is a folder that is looked into: a link to one may lead round in a circle."""
    return path.is_dir() and not path.is_symlink()


def count(text: str) -> int:
    """Return a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)


def threads(text: str) -> int:
    """Return a number of threads: more than there are CPUs only wait for each other, for minutes."""
    number, cpus = count(text), os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # those of them that this process may use
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
        "--threads", type=threads, default=0, metavar="N", help="of the CPU (as onnxruntime likes)"
    )
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # what decoders mutter
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    let_any_name_out()
    try:
        failed = print_classes(Classifier(threads=options.threads), options.images, options.top)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; what is left is not to be flushed at the exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("predict: interrupted.", file=sys.stderr)
        return 130
    except (Unusable, OSError) as fault:
        print(f"predict: {fault}", file=sys.stderr)
        return 2
    return 2 if failed else 0


def let_any_name_out() -> None:
    """Off a terminal every name is UTF-8, or its own bytes; a terminal shows escaped what it lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        if sys.stdout.isatty():
            sys.stdout.reconfigure(errors="backslashreplace")
        else:
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")


def print_classes(classifier: Classifier, named: "list[Path]", top: int) -> int:
    """Print the lines of each image, and on the error output what is none; return how many were none."""
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

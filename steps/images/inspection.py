"""What one image file is, and what is wrong with it: decoded once, judged by nobody here.

No single decoder finds everything: Pillow's verify finds a PNG without its end, its load a JPEG cut short, and
only a strict libjpeg finds garbage in the middle of a JPEG, so a file goes through all of them.
"""

import errno
import hashlib
import io
import os
import re
import stat
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import simplejpeg
from PIL import Image, UnidentifiedImageError

from steps.images.faults import FAULTS
from steps.images.preprocessing import FORMATS, MAX_ASPECT, decode_rgb

MAX_BYTES = 512 * 2**20  # of a file; the pixels are limited by Pillow (89 million)
ENDS_EARLY = re.compile(r"truncated|ends? of (file|image)|not enough|unexpected end|EOF", re.I)
EXTENSIONS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".apng": "PNG",
    ".gif": "GIF", ".webp": "WEBP", ".bmp": "BMP", ".dib": "BMP", ".tif": "TIFF", ".tiff": "TIFF",
    ".ppm": "PPM", ".pgm": "PPM", ".pbm": "PPM", ".pnm": "PPM", ".jp2": "JPEG2000", ".j2k": "JPEG2000",
    ".avif": "AVIF", ".tga": "TGA", ".ico": "ICO", ".heic": "HEIF", ".heif": "HEIF", ".mpo": "JPEG",
}  # fmt: skip
MODE_FAULTS = {
    "CMYK": "cmyk", "I": "sixteen_bit", "I;16": "sixteen_bit", "I;16B": "sixteen_bit", "I;16L": "sixteen_bit",
    "I;16N": "sixteen_bit", "F": "unusual_mode", "P": "palette", "PA": "palette", "LA": "alpha", "La": "alpha",
    "RGBA": "alpha", "RGBa": "alpha", "YCbCr": "unusual_mode", "LAB": "unusual_mode", "HSV": "unusual_mode",
}  # fmt: skip
JPEG_COLOURS = {"L": "GRAY", "CMYK": "CMYK"}
ORIENTATION_TAG = 0x0112
OS_FAULTS = {
    errno.ENOENT: "missing", errno.ENOTDIR: "missing", errno.EACCES: "no_permission", errno.EPERM: "no_permission",
    errno.ELOOP: "missing", errno.ENAMETOOLONG: "missing", errno.ENXIO: "not_a_file",
}  # fmt: skip


class FileRange(NamedTuple):
    """Where an image's bytes lie under the root; a negative `length` means the whole file."""

    file: str
    offset: int = 0
    length: int = -1


class Facts(NamedTuple):
    """What a file is: the columns of manifest.parquet from `length` to `detail`, but `label` and its like."""

    length: int
    checksum: str | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    format: str | None = None
    frames: int | None = None
    orientation: int | None = None
    faults: tuple[str, ...] = ()
    detail: str | None = None


class _Fault(Exception):
    """A fault that leaves nothing more to look at."""

    def __init__(self, name: str, detail: str | None = None) -> None:
        super().__init__(name, detail)
        self.name, self.detail = name, detail


def inspect_images(root: Path, places: Sequence[FileRange]) -> list[Facts]:
    """Return the facts of the images at `places`: a worker's task, so this module imports no table library."""
    return [inspect_image(root, place) for place in places]


def inspect_image(root: Path, place: FileRange) -> Facts:
    """Return the facts of one image under `root`, which must be a resolved path; never raises on a bad file."""
    try:
        content = _read(root, place)
    except _Fault as fault:
        return Facts(length=max(place.length, 0), faults=(fault.name,), detail=fault.detail)
    except (OSError, ValueError) as fault:
        name = OS_FAULTS.get(getattr(fault, "errno", None) or 0, "read_error")
        return Facts(length=max(place.length, 0), faults=(name,), detail=_one_line(fault))
    return inspect_bytes(content, place.file if place.length < 0 else "")


def inspect_bytes(content: bytes, name: str) -> Facts:
    """Return the facts of an image's bytes; `name` is only looked at for its extension."""
    facts = Facts(length=len(content), checksum=hashlib.sha256(content).hexdigest())
    if not content:
        return facts._replace(faults=("empty",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a decoder mutters is found below, or is no fault
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            facts = _header(content, name, facts)
            _decode(content, facts)
        except _Fault as fault:
            facts = facts._replace(faults=(fault.name, *facts.faults), detail=fault.detail)
    return facts


def _read(root: Path, place: FileRange) -> bytes:
    """Return the bytes at `place`, without opening what lies outside the root or is no plain file."""
    path = Path(os.path.realpath(root / place.file))  # resolve() raises RuntimeError on a loop of links
    if not path.is_relative_to(root):
        raise _Fault("outside_root", "the link's target lies outside the data set's folder")
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise _Fault("not_a_file")
    length = status.st_size if place.length < 0 else place.length
    if length > MAX_BYTES:
        raise _Fault("bomb", f"{length} bytes; at most {MAX_BYTES} are read")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # it may have become a pipe since
    with os.fdopen(descriptor, "rb") as file:
        file.seek(place.offset)
        return file.read(length)


def _header(content: bytes, name: str, facts: Facts) -> Facts:
    """Return the facts with size, mode, format, frames and orientation, and the faults that are no damage."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            deep = any(";16" in str(tile[3]) for tile in image.tile)  # Pillow cuts 16-bit RGB down silently
            facts = facts._replace(
                width=width,
                height=height,
                mode=image.mode,
                format=image.format,
                frames=_frames(image),
                orientation=_orientation(image),
            )
            transparent = image.has_transparency_data
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as fault:
        raise _Fault("bomb", _one_line(fault)) from fault
    except UnidentifiedImageError as fault:
        raise _Fault("not_an_image") from fault
    except Exception as fault:  # decoders of hostile bytes raise anything: struct.error, KeyError, SyntaxError ...
        raise _damage(fault) from fault
    return facts._replace(faults=tuple(_oddities(facts, name, deep, transparent)))


def _frames(image: Image.Image) -> int:
    return int(getattr(image, "n_frames", 1))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 where there is none or it is no orientation."""
    value = image.getexif().get(ORIENTATION_TAG, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _oddities(facts: Facts, name: str, deep: bool, transparent: bool) -> list[str]:
    """Return what is unusual about an image that may be sound; its pixels can be used by a stated rule."""
    assert facts.mode and facts.format and facts.frames and facts.width and facts.height
    sides = sorted((facts.width, facts.height))
    mode_fault = MODE_FAULTS.get(facts.mode)
    claimed = EXTENSIONS.get(Path(name).suffix.lower())
    is_photograph = facts.format == "MPO"  # a JPEG with a second picture behind it, as telephones make
    seen = {
        "wrong_extension": claimed is not None and claimed != ("JPEG" if is_photograph else facts.format),
        "sixteen_bit": deep,
        "alpha": transparent,
        "animated": facts.frames > 1 and not is_photograph,
        "elongated": sides[1] > MAX_ASPECT * sides[0],
        "rotated": facts.orientation != 1,
    }
    found = {fault for fault, is_so in seen.items() if is_so} | ({mode_fault} if mode_fault else set())
    return [fault for fault in FAULTS if fault in found]


def _decode(content: bytes, facts: Facts) -> None:
    """Decode the whole image by every decoder that finds something the others miss; raises _Fault."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            image.verify()
        decode_rgb(content)
        if facts.format in ("JPEG", "MPO"):
            simplejpeg.decode_jpeg(content, colorspace=JPEG_COLOURS.get(facts.mode or "", "RGB"), strict=True)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as fault:
        raise _Fault("bomb", _one_line(fault)) from fault
    except Exception as fault:  # as in _header
        raise _damage(fault) from fault


def _damage(fault: Exception) -> _Fault:
    """Return the fault that a decoder's words mean."""
    said = _one_line(fault)
    return _Fault("truncated" if ENDS_EARLY.search(said) else "corrupt", said)


def _one_line(fault: BaseException) -> str:
    """Return what was said, on one line, without the path (it stands in the row, and it may be absolute)."""
    said = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
    return " ".join(said.split())[:200] or type(fault).__name__

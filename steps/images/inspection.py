"""Facts and faults of one image file, found by decoding it. Nothing is judged here: validate judges.

No single decoder finds all faults, so three of them check each file. Pillow's verify finds a PNG without its end.
Pillow's load finds a truncated JPEG. Only a strict libjpeg finds garbage in the middle of a JPEG.
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
from steps.images.file_kinds import kind_of_file
from steps.images.inside import real_path_inside
from steps.images.preprocessing import FORMATS, MAX_ASPECT, decode_rgb

MAX_BYTES = 512 * 2**20  # of a file; Pillow limits the pixels (89 million)
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
    """The bytes of an image in a file under the root; a negative `length` means the whole file."""

    file: str
    offset: int = 0
    length: int = -1


class Facts(NamedTuple):
    """Facts of a file: those columns of manifest.parquet that only the file's content decides."""

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
    """A fault after which the inspection of the file ends."""

    def __init__(self, name: str, detail: str | None = None) -> None:
        super().__init__(name, detail)
        self.name, self.detail = name, detail


def inspect_images(root: Path, places: Sequence[FileRange]) -> list[Facts]:
    """Return the facts of the images at `places`. Worker processes run this, so the module imports no polars."""
    return [inspect_image(root, place) for place in places]


def inspect_image(root: Path, place: FileRange) -> Facts:
    """Return the facts of one image. `root` must be a resolved path. A bad file never raises an exception."""
    try:
        content = _read(root, place)
    except _Fault as fault:
        return Facts(length=max(place.length, 0), faults=(fault.name,), detail=fault.detail)
    except (OSError, ValueError) as fault:
        name = OS_FAULTS.get(getattr(fault, "errno", None) or 0, "read_error")
        return Facts(length=max(place.length, 0), faults=(name,), detail=_one_line(fault))
    return inspect_bytes(content, place.file if place.length < 0 else "")


def inspect_bytes(content: bytes, name: str) -> Facts:
    """Return the facts of an image's bytes; only the extension of `name` is used."""
    facts = Facts(length=len(content), checksum=hashlib.sha256(content).hexdigest())
    if not content:
        return facts._replace(faults=("empty",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the decoders' warnings, only the bomb warning is a fault
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            facts = _header(content, name, facts)
            _decode(content, facts)
        except _Fault as fault:
            facts = facts._replace(faults=(fault.name, *facts.faults), detail=fault.detail)
    return facts


def _read(root: Path, place: FileRange) -> bytes:
    """Return the bytes at `place`; a path outside the root and a path to a device or pipe are refused."""
    path = real_path_inside(root, root / place.file)
    if path is None:
        raise _Fault("outside_root", "the link's target lies outside the data set's folder")
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise _Fault("not_a_file")
    length = status.st_size if place.length < 0 else place.length
    if length > MAX_BYTES:
        raise _Fault("bomb", f"{length} bytes; at most {MAX_BYTES} are read")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # the path may have become a pipe since the check
    with os.fdopen(descriptor, "rb") as file:
        file.seek(place.offset)
        return file.read(length)


def _header(content: bytes, name: str, facts: Facts) -> Facts:
    """Return the facts with size, mode, format, frames, orientation, and with the faults that are not damage."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            deep = any(";16" in str(tile[3]) for tile in image.tile)  # Pillow silently reduces 16-bit RGB to 8
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
        raise _Fault("not_an_image", kind_of_file(content)) from fault
    except Exception as fault:  # on hostile bytes decoders raise anything: struct.error, KeyError, SyntaxError ...
        raise _damage(fault) from fault
    return facts._replace(faults=tuple(_oddities(facts, name, deep, transparent)))


def _frames(image: Image.Image) -> int:
    return int(getattr(image, "n_frames", 1))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, or 1 where the image has no valid orientation."""
    value = image.getexif().get(ORIENTATION_TAG, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _oddities(facts: Facts, name: str, deep: bool, transparent: bool) -> list[str]:
    """Return the names of peculiarities that are not damage: for each, a fixed rule makes the pixels usable."""
    assert facts.mode and facts.format and facts.frames and facts.width and facts.height
    sides = sorted((facts.width, facts.height))
    mode_fault = MODE_FAULTS.get(facts.mode)
    claimed = EXTENSIONS.get(Path(name).suffix.lower())
    is_photograph = facts.format == "MPO"  # a JPEG followed by a second picture, as phones write it
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
    """Decode the whole image with each of the decoders; raise _Fault if one of them fails."""
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
    """Return the fault that a decoder's error message describes."""
    message = _one_line(fault)
    return _Fault("truncated" if ENDS_EARLY.search(message) else "corrupt", message)


def _one_line(fault: BaseException) -> str:
    """Return the error message on one line, without the path: the row has the path, and it may be absolute."""
    message = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
    return " ".join(message.split())[:200] or type(fault).__name__

"""The names of all faults and peculiarities of an image file. Ingest records the names, validate judges them."""

from typing import Literal, NamedTuple

Kind = Literal["unreadable", "extension", "mode", "animated", "elongated", "rotated"]


class Fault(NamedTuple):
    """`meaning` completes the sentence "the file ...". The pixels of an "unreadable" file cannot be trusted."""

    kind: Kind
    meaning: str


FAULTS: dict[str, Fault] = {
    "missing": Fault("unreadable", "is not there"),
    "not_a_file": Fault("unreadable", "is a folder, a pipe, a socket or a device"),
    "outside_root": Fault("unreadable", "is a link to a place outside the data set's folder and was not opened"),
    "bad_name": Fault("unreadable", "has a name that is not UTF-8"),
    "no_permission": Fault("unreadable", "may not be read by this user"),
    "read_error": Fault("unreadable", "could not be read from the disk"),
    "empty": Fault("unreadable", "has no bytes"),
    "not_an_image": Fault("unreadable", "is not in a supported image format"),
    "bomb": Fault("unreadable", "claims more pixels or bytes than an image may have and was not decoded"),
    "truncated": Fault("unreadable", "ends before the image is complete"),
    "corrupt": Fault("unreadable", "has damaged image data"),
    "decoder_crash": Fault("unreadable", "crashed the decoder's process"),
    "wrong_extension": Fault("extension", "has a format that does not match its name"),
    "cmyk": Fault("mode", "is in CMYK and is converted to RGB without colour profiles"),
    "sixteen_bit": Fault("mode", "has more than 8 bits per channel and is reduced to 8 bits"),
    "palette": Fault("mode", "has a palette of colours"),
    "alpha": Fault("mode", "has transparency and is placed on a white background"),
    "unusual_mode": Fault("mode", "has a mode other than 8 or 16-bit grey, RGB and CMYK"),
    "animated": Fault("animated", "has several frames or pages; only the first is used"),
    "elongated": Fault("elongated", "is more than 50 times as long as wide; only the middle is used"),
    "rotated": Fault("rotated", "is stored rotated or mirrored; its EXIF orientation sets it upright"),
}


def faults_of(kind: Kind) -> tuple[str, ...]:
    """Return the names of all faults of one kind."""
    return tuple(name for name, fault in FAULTS.items() if fault.kind == kind)


UNREADABLE = frozenset(faults_of("unreadable"))

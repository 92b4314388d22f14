"""The names of what can be wrong or unusual with an image file. Ingest records them, validate judges them."""

from typing import Literal, NamedTuple

Kind = Literal["unreadable", "extension", "mode", "animated", "elongated", "rotated"]


class Fault(NamedTuple):
    """`meaning` completes the sentence "the file ..."; an "unreadable" one has no pixels that can be trusted."""

    kind: Kind
    meaning: str


FAULTS: dict[str, Fault] = {
    "missing": Fault("unreadable", "is not there"),
    "not_a_file": Fault("unreadable", "is a folder, a pipe, a socket or a device"),
    "outside_root": Fault("unreadable", "is a link that leads out of the data set's folder; it was not opened"),
    "bad_name": Fault("unreadable", "has a name that is not UTF-8"),
    "no_permission": Fault("unreadable", "may not be read by this user"),
    "read_error": Fault("unreadable", "could not be read from the disk"),
    "empty": Fault("unreadable", "has no bytes"),
    "not_an_image": Fault("unreadable", "is in no image format that is read here"),
    "bomb": Fault("unreadable", "claims more pixels or bytes than an image may have; it was not decoded"),
    "truncated": Fault("unreadable", "ends before its image does"),
    "corrupt": Fault("unreadable", "has damaged image data"),
    "decoder_crash": Fault("unreadable", "made the decoder's process die"),
    "wrong_extension": Fault("extension", "is in another format than its name says"),
    "cmyk": Fault("mode", "is in CMYK, converted to RGB by a formula without colour profiles"),
    "sixteen_bit": Fault("mode", "has more than 8 bits a channel, of which 8 are kept"),
    "palette": Fault("mode", "has a palette of colours"),
    "alpha": Fault("mode", "is transparent in places or could be; it is laid over white"),
    "unusual_mode": Fault("mode", "has numbers or colours other than 8 or 16-bit grey, RGB and CMYK"),
    "animated": Fault("animated", "has several frames or pages, of which the first is used"),
    "elongated": Fault("elongated", "is more than 50 times as long as it is wide, of which the middle is used"),
    "rotated": Fault("rotated", "is stored turned or mirrored, and set upright by its EXIF orientation"),
}


def faults_of(kind: Kind) -> tuple[str, ...]:
    """Return the names of all faults of one kind."""
    return tuple(name for name, fault in FAULTS.items() if fault.kind == kind)


UNREADABLE = frozenset(faults_of("unreadable"))

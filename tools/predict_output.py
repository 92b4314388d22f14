"""Predictions as a table, as CSV or as JSON, written one image at a time."""

import contextlib
import csv
import errno
import io
import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from steps.errors import BadInput

WIDEST_NAME = 40
COLUMNS = ("image", "rank", "class_id", "class", "probability")


@dataclass(frozen=True)
class Prediction:
    """The most likely classes of an image, best first, and their probabilities."""

    image: Path
    class_ids: tuple[int, ...]
    probabilities: tuple[float, ...]


Writer = Callable[[Iterable[Prediction], tuple[str, ...]], Iterator[str]]


def as_table(predictions: Iterable[Prediction], class_names: tuple[str, ...]) -> Iterator[str]:
    """Yield one line for each class, for people; the image is last, because the longest path is unknown."""
    shown = [_printable(name) for name in class_names]
    width = min(WIDEST_NAME, max(len("class"), *map(len, shown)))
    digits = max(len("id"), len(str(len(shown) - 1)))
    yield f"probability  {'id':>{digits}}  {'class':<{width}}  image\n"
    for found in predictions:
        for number, share in zip(found.class_ids, found.probabilities, strict=True):
            name, image = f"{shown[number]:<{width}}", _printable(str(found.image))
            yield f"{share:11.6f}  {number:>{digits}}  {name}  {image}\n"


def as_csv(predictions: Iterable[Prediction], class_names: tuple[str, ...]) -> Iterator[str]:
    """Yield a header and one row for each class."""
    yield _csv_row(COLUMNS)
    for found in predictions:
        for rank, (number, share) in enumerate(zip(found.class_ids, found.probabilities, strict=True), start=1):
            yield _csv_row((str(found.image), rank, number, class_names[number], f"{share:.6f}"))


def as_json(predictions: Iterable[Prediction], class_names: tuple[str, ...]) -> Iterator[str]:
    """Yield one JSON array, with one image a line."""
    before = "[\n"
    for found in predictions:
        classes = [
            {"class_id": number, "class": class_names[number], "probability": round(share, 6)}
            for number, share in zip(found.class_ids, found.probabilities, strict=True)
        ]
        yield before + json.dumps({"image": str(found.image), "classes": classes})
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


WRITERS: dict[str, Writer] = {"table": as_table, "csv": as_csv, "json": as_json}


@contextlib.contextmanager
def opened_for_writing(out: Path | None) -> Iterator[TextIO]:
    """Yield stdout, or a file that becomes `out` at the end; names that are not UTF-8 keep their bytes.

    Raises BadInput where the file cannot be written.
    """
    if out is None:
        _allow_any_name_on_stdout()
        yield sys.stdout
        sys.stdout.flush()
        return
    place = _output_file(out)
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place)
    except OSError as fault:
        raise BadInput(f"--out {out} cannot be written: {fault.strerror}.") from fault
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _allow_any_name_on_stdout() -> None:
    """Make stdout accept any file name: as UTF-8 or raw bytes; on a terminal, escaped where not printable."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        if sys.stdout.isatty():
            sys.stdout.reconfigure(errors="backslashreplace")
        else:
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")


def _output_file(out: Path) -> Path:
    """Return the file to write or replace; for a link to a file, the target of the link."""
    try:
        kind = out.stat().st_mode
    except OSError as fault:
        if fault.errno in (errno.ENOENT, errno.ELOOP):  # no file, a broken link or a circular link
            return out
        raise BadInput(f"--out {out} cannot be written: {fault.strerror}.") from fault
    if stat.S_ISDIR(kind):
        raise BadInput(f"--out {out} is a folder; name a file.")
    if not stat.S_ISREG(kind):
        raise BadInput(f"--out {out} is no regular file, and would be replaced; name another file.")
    return out.resolve()


def _csv_row(values: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _printable(text: str) -> str:
    """Return the text with control characters, and characters that cannot be printed, as escapes."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )

"""Paths that others wrote: kept inside the data set's folder, and in UTF-8."""

import os
import posixpath
from pathlib import Path


def is_inside(root: Path, path: Path) -> bool:
    """Tell whether `path`, its links followed, lies in `root`."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def relative_to_root(written: str, root: Path) -> str | None:
    """Return a path of a list relative to `root`, in its one normal form, or None where it leads out of it."""
    path = posixpath.normpath(written.strip())
    for beginning in (root.absolute(), root.resolve()):
        path = path.removeprefix(f"{beginning}/")
    if path.startswith(("/", "../")) or path in ("..", ".") or "\0" in path:
        return None
    return path


def is_there(root: Path, written: str) -> bool:
    """Tell whether a path of a list leads to a file; one out of the root may too, and is refused later."""
    try:
        return (root / written).is_file()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def is_utf8(name: str) -> bool:
    """Tell whether a name that the file system gave can be written down."""
    return as_utf8(name) == name


def as_utf8(name: str) -> str:
    """Return the name with bytes that are no UTF-8 written as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")

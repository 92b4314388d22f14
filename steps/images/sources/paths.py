"""Checks of paths that a user wrote: each must lie inside the data set's folder and be UTF-8."""

import os
import posixpath
from pathlib import Path


def is_inside(root: Path, path: Path) -> bool:
    """Tell whether `path` lies in `root` after all links are followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def relative_to_root(written: str, root: Path) -> str | None:
    """Return a list's path, normalised and relative to `root`; return None for a path outside `root`."""
    path = posixpath.normpath(written.strip())
    for beginning in (root.absolute(), root.resolve()):
        path = path.removeprefix(f"{beginning}/")
    if path.startswith(("/", "../")) or path in ("..", ".") or "\0" in path:
        return None
    return path


def is_there(root: Path, written: str) -> bool:
    """Tell whether a list's path leads to a file. A later check refuses paths outside the root."""
    try:
        return (root / written).is_file()
    except (OSError, ValueError):  # the path is too long or contains a zero byte
        return False


def is_utf8(name: str) -> bool:
    """Tell whether a name from the file system is valid UTF-8."""
    return as_utf8(name) == name


def as_utf8(name: str) -> str:
    """Return the name, with invalid UTF-8 bytes written as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")

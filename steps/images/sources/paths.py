"""Checks of paths that a user wrote: each must lie inside the data set's folder and be UTF-8."""

import os
import posixpath
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from steps.images.inside import real_path_inside
from steps.images.sources.similar_names import name_key


def is_inside(root: Path, path: Path) -> bool:
    """Tell whether `path` lies in `root` after all links are followed, or is a link into the DVC cache."""
    return real_path_inside(root, path) is not None


def relative_to_root(written: str, root: Path) -> str | None:
    """Return a list's path, normalised and relative to `root`; return None for a path outside `root`."""
    path = posixpath.normpath(written.strip())
    if path.startswith("/"):
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


def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what os.walk yields; raise OSError for a folder that cannot be read, which os.walk leaves out."""

    def fail(fault: OSError) -> None:
        raise fault

    return os.walk(folder, onerror=fail)


def path_hint(root: Path, written: str) -> str | None:
    """Return how the path `written`, which leads nowhere, can be corrected; None where no file is similar."""
    slashed = written.strip().replace("\\", "/")
    for path, reason in (
        (slashed, "write / and not \\"),
        (unquote(slashed), "write letters and not % with a number"),
        (_found_below(root, unquote(slashed)), "upper and lower case, blanks and Unicode forms count"),
        (_without_beginning(root, slashed), f"paths start in {root}"),
    ):
        if path and path != written and is_there(root, path) and relative_to_root(path, root):
            return f"'{written}' is not there, but '{path}' is: {reason}"
    return None


def _found_below(root: Path, path: str) -> str | None:
    """Return the path of the file whose name a person would read as `path`."""
    found = PurePosixPath()
    for part in PurePosixPath(path).parts:
        try:
            names = [path.name for path in (root / found).iterdir()]
        except (OSError, ValueError):
            return None
        similar = [name for name in sorted(names) if name_key(name) == name_key(part)]
        if part not in names and not similar:
            return None
        found /= part if part in names else similar[0]
    return str(found)


def _without_beginning(root: Path, path: str) -> str | None:
    parts = PurePosixPath(path).parts
    shorter = (str(PurePosixPath(*parts[begin:])) for begin in range(1, len(parts)))
    return next((path for path in shorter if is_there(root, path)), None)


def is_utf8(name: str) -> bool:
    """Tell whether a name from the file system is valid UTF-8."""
    return as_utf8(name) == name


def as_utf8(name: str) -> str:
    """Return the name, with invalid UTF-8 bytes written as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")

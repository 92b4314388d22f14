"""release.json, the index of a release, and SHA256SUMS, its seal."""

from pathlib import Path

from steps.errors import BadInput
from steps.files import sha256, write_whole
from steps.reports.base import Report
from steps.reports.card import Card

INDEX = "release.json"
SUMS = "SHA256SUMS"
ESCAPES = str.maketrans(
    {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
)  # a name must not break a line or a column


class ReleaseCard(Report):
    """The contents of a release: `files` has the sha256 of each path, except release.json and SHA256SUMS."""

    name: str = ""
    engines: tuple[str, ...] = ()
    withheld: dict[str, str] = {}  # engine -> why it did not ship
    files: dict[str, str] = {}


def plain_files(card: Card) -> dict[str, bytes]:
    """Return file name -> content of labels.txt and preprocessing.txt, for consumers without a JSON reader.

    labels.txt has one class name a line, in the order of class ids, with ESCAPES. preprocessing.txt has a key and
    a value a line.
    """
    how = card.preprocessing
    labels = "".join(name.translate(ESCAPES) + "\n" for name in card.class_names)
    preprocessing = f"size {how.size}\nresize {how.resize}\ninterpolation {how.interpolation}\n"
    return {"labels.txt": labels.encode(), "preprocessing.txt": preprocessing.encode()}


def checksums(folder: Path) -> dict[str, str]:
    """Return path -> sha256 of every file below `folder` except SHA256SUMS, sorted, with forward slashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS over all files of the release, in the format that `sha256sum --check` reads."""
    lines = [f"{checksum}  {path}\n" for path, checksum in checksums(folder).items()]
    write_whole(folder / SUMS, "".join(lines).encode())


def check_sums(folder: Path) -> dict[str, str]:
    """Return path -> sha256; raise BadInput unless the folder has exactly the files that its SHA256SUMS lists."""
    try:
        sealed, found = _sealed(folder), checksums(folder)
    except OSError as fault:
        raise BadInput(f"{fault.filename or folder} cannot be read: {fault.strerror}.") from fault
    for path in sorted(sealed.keys() | found.keys()):
        if sealed.get(path) != found.get(path):
            raise BadInput(f"{folder / path} {_difference(path, sealed, found)}; make the release again.")
    return found


def _sealed(folder: Path) -> dict[str, str]:
    """Return path -> sha256 from SHA256SUMS, or raise BadInput."""
    if not (folder / SUMS).is_file():
        raise BadInput(f"{folder} is no release: it has no {SUMS}.")
    lines = (folder / SUMS).read_text(errors="replace").splitlines()
    sealed = {path: checksum for checksum, _, path in (line.partition("  ") for line in lines)}
    if not sealed or "" in sealed:
        raise BadInput(f"{folder / SUMS} is no list of checksums and paths; make the release again.")
    return sealed


def _difference(path: str, sealed: dict[str, str], found: dict[str, str]) -> str:
    if path not in found:
        return f"is missing, but {SUMS} names it"
    if path not in sealed:
        return f"is not in {SUMS}: the file was added later"
    return f"is not the file that {SUMS} names: the file was changed or cut short"

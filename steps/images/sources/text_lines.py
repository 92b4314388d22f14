"""The lines of a person's text file: a list of images, or a file of class names."""

from pathlib import Path

from steps.errors import BadInput, Refused

Line = tuple[int, str]  # the line's number, from 1, and its text


def numbered_lines(path: Path, param: str) -> list[Line]:
    """Return the lines that are not blank, without their line ends.

    `param` is the parameter that names the file. Raises BadInput where the file cannot be read, and Refused where
    it is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as fault:
        raise BadInput(f"{param}: {path} cannot be read ({fault.strerror}).") from fault
    except UnicodeDecodeError as fault:
        raise Refused(f"{path} is not UTF-8 (byte {fault.start}); save it as UTF-8.") from fault
    lines = enumerate((line.rstrip("\r") for line in text.split("\n")), start=1)
    return [(number, line) for number, line in lines if line.strip()]

"""The output of tools.predict: three formats, for any names."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from consumers.predict import allow_any_name_on_stdout
from steps.errors import BadInput
from tests.backends.tiny import NAMES
from tests.tools.tables import rows_of
from tools.predict_output import Prediction, as_csv, as_json, as_table, opened_for_writing


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_names_survive_the_formats_for_programs(kind: str) -> None:
    names = ('comma, "quote"', "two\nlines", "ключ \x1b[31m")
    found = [Prediction(Path(f"a,b/{number}\n.png"), (number,), (0.5,)) for number in range(3)]
    text = "".join({"csv": as_csv, "json": as_json}[kind](found, names))
    if kind == "csv":
        rows = [(row["image"], row["class"]) for row in rows_of(text)]
    else:
        rows = [(image["image"], image["classes"][0]["class"]) for image in json.loads(text)]
    assert rows == [(str(one.image), names[one.class_ids[0]]) for one in found]


def test_a_table_holds_a_line_a_class_and_nothing_that_a_terminal_obeys() -> None:
    names = ("two\nlines", "\x1b[31mred")
    found = [Prediction(Path("a\x1b]0;b.png"), (1, 0), (0.75, 0.25))]
    lines = "".join(as_table(found, names)).splitlines()
    assert len(lines) == 3 and all(line.isprintable() for line in lines)


def test_nothing_to_say_is_still_valid() -> None:
    assert json.loads("".join(as_json([], NAMES))) == []
    assert "".join(as_csv([], NAMES)).splitlines() == ["image,rank,class_id,class,probability"]


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def written_by_the_tool(text: str) -> None:
    with opened_for_writing(None) as file:
        file.write(text)


def written_by_a_release(text: str) -> None:
    allow_any_name_on_stdout()
    print(text, end="", flush=True)


@pytest.mark.parametrize("write", [written_by_the_tool, written_by_a_release])
@pytest.mark.parametrize(
    ("kind", "expected"), [(io.TextIOWrapper, b"\xe7\x8c\xab\xff"), (Terminal, rb"\u732b\udcff")]
)
def test_any_name_is_written_whatever_the_encoding(
    monkeypatch: pytest.MonkeyPatch, write: Callable[[str], None], kind: type[io.TextIOWrapper], expected: bytes
) -> None:
    stream = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", kind(stream, encoding="cp1252"))
    write("猫" + os.fsdecode(b"\xff"))
    assert stream.getvalue() == expected


def test_a_name_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(BadInput, match="cannot be written: File name too long"),
        opened_for_writing(tmp_path / ("a" * 300)),
    ):
        pass


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (
        pytest.raises(BadInput, match="pipe is no regular file, and would be replaced"),
        opened_for_writing(tmp_path / "pipe"),
    ):
        pass
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_to_a_file_stays_one_and_the_file_is_replaced(tmp_path: Path) -> None:
    link, file = tmp_path / "link.csv", tmp_path / "there/file.csv"
    file.parent.mkdir()
    file.write_text("before")
    link.symlink_to(file)
    with opened_for_writing(link) as stream:
        stream.write("after")
    assert link.is_symlink() and file.read_text() == "after"
    assert list(file.parent.iterdir()) == [file]

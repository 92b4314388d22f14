"""How tools.predict writes: three formats, whatever the names."""

import json
from pathlib import Path

import pytest

from tests.backends.tiny import NAMES
from tests.tools.tables import rows_of
from tools.predict_output import Prediction, as_csv, as_json, as_table


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

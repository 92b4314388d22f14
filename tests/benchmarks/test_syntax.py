"""A fingerprint of code changes when the behaviour of the code can change, and in no other case."""

from pathlib import Path

import pytest

from benchmarks import fold_zoo
from benchmarks.syntax import code_of

CODE = '''"""A module."""

class Fold:
    """A fold."""

    def bound(self) -> float:
        """Return a bound."""
        return 1e-9  # relative

async def wait() -> None:
    """Wait."""
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another docstring."""'),
        ('"""A module."""\n', ""),
        ('    """A fold."""\n\n', ""),
        ('"""Return a bound."""', '"""Return the bound of a network."""'),
        ("  # relative", "  # relative, in float64"),
        ("return 1e-9", "return (\n            1e-9\n        )"),
        ("async def", "\n\nasync def"),
        ('"""Wait."""', '"""Wait for it."""'),
    ],
)
def test_a_sentence_or_a_line_break_changes_nothing(tmp_path: Path, old: str, new: str) -> None:
    assert _code(tmp_path, CODE.replace(old, new)) == _code(tmp_path, CODE)
    assert old in CODE


@pytest.mark.parametrize(
    ("old", "new"), [("1e-9", "1e-8"), ("bound", "limit"), ("return 1e-9", 'return "1e-9"'), ("async def", "def")]
)
def test_another_number_or_name_changes_it(tmp_path: Path, old: str, new: str) -> None:
    assert _code(tmp_path, CODE.replace(old, new)) != _code(tmp_path, CODE)


@pytest.mark.parametrize("room", ["reparam", "tracing", "models"])
def test_the_fingerprint_of_the_zoo_changes_with_the_code_of_its_rooms_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (*fold_zoo.ROOMS, fold_zoo.MAKERS[0].parent):
        folder.mkdir(parents=True)
    for path in (*(folder / "fold.py" for folder in fold_zoo.ROOMS), *fold_zoo.MAKERS):
        path.write_text(CODE)
    changed = Path("steps") / room / ("zoos.py" if room == "models" else "fold.py")
    before = fold_zoo.fingerprint()
    changed.write_text(CODE.replace("# relative", "# of the whole network").replace("A module", "A room"))
    assert fold_zoo.fingerprint() == before
    changed.write_text(CODE.replace("1e-9", "1e-8"))
    assert fold_zoo.fingerprint() != before


def _code(folder: Path, text: str) -> bytes:
    path = folder / "code.py"
    path.write_text(text)
    return code_of(path)

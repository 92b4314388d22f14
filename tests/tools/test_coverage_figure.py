"""tools.coverage_figure: the figure is written between its two markers, and the rest of the page stays."""

import json
import sys
from pathlib import Path

import pytest

from tools import coverage_figure

FILES = {
    "steps/train.py": (8, 4),
    "steps/images/cache.py": (10, 10),
    "tools/accept.py": (2, 1),
    "a/__init__.py": (0, 0),
}
ROWS = """\
| code | statements | run by the default tests |
|---|---|---|
| `steps/*.py` | 8 | 50.0 % |
| `steps/images/` | 10 | 100.0 % |
| `tools/` | 2 | 50.0 % |
| all | 20 | 75.0 % |
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    counts = {path: {"summary": {"num_statements": n, "covered_lines": k}} for path, (n, k) in FILES.items()}
    (tmp_path / "coverage.json").write_text(json.dumps({"files": counts}))
    (tmp_path / "figures.md").write_text("# Figures\n\n<!-- coverage -->\nold\n<!-- /coverage -->\n\nthe end\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["coverage_figure", "--report", "coverage.json", "--page", "figures.md"])
    return tmp_path / "figures.md"


def test_the_figure_replaces_what_stood_between_the_markers(page: Path) -> None:
    for _ in range(2):  # a second run changes nothing
        assert coverage_figure.main() == 0
        written = f"# Figures\n\n<!-- coverage -->\n\n{ROWS}\n<!-- /coverage -->\n\nthe end\n"
        assert page.read_text() == written


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("figures.md", "# Figures", "figures.md has no block 'coverage'"),
        ("coverage.json", "{}", "coverage.json is no report of coverage ('files'); run `make coverage`."),
        ("coverage.json", None, "coverage.json is no report of coverage"),
    ],
)
def test_a_missing_block_or_report_is_one_sentence(
    page: Path, capsys: pytest.CaptureFixture[str], file: str, content: str | None, message: str
) -> None:
    if content is None:
        (page.parent / file).unlink()
    else:
        (page.parent / file).write_text(content)
    assert coverage_figure.main() == 2
    assert message in capsys.readouterr().err

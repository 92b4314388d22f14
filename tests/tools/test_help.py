"""The help of every tool shows the full command line: the name `plan.py` alone would not run."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BY_OTHERS = {"bench_child"}  # only tools.bench starts it
TOOLS = sorted(
    {path.stem for path in (ROOT / "tools").glob("*.py") if "\ndef main(" in path.read_text()} - BY_OTHERS
)


def test_there_are_tools() -> None:
    assert {"cost", "plan", "predict", "prune"} <= set(TOOLS)


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_calls_itself_as_people_call_it(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tool.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"tools.{name}").main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m tools.{name} [-h]")

"""Every script in benchmarks/ answers --help, and states what it measures and how to call it."""

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SHARED = (
    "__init__",
    "bounds",
    "gain_training",
    "image_sets",
    "int8_networks",
    "random_sites",
    "small_training",
    "syntax",
    "zoo_networks",
    "zoo_way",
)
SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem not in SHARED)


def test_there_are_scripts() -> None:
    assert {"demo", "fashion_mnist", "noop"} <= set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_shows_its_command_line_and_every_flag_in_it(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module(f"benchmarks.{name}")
    text = _help(script.main, monkeypatch, capsys)
    assert text.startswith(f"usage: python -m benchmarks.{name} [-h]")
    assert script.__doc__ and script.__doc__.strip() in text
    documented = re.search(rf"^    python -m benchmarks\.{name}\b(.*)$", script.__doc__, re.MULTILINE)
    assert documented, f"benchmarks/{name}.py has no line `    python -m benchmarks.{name} ...` in its docstring"
    options = text.split(script.__doc__.strip())[1]
    flags = set(re.findall(r"--[a-z][a-z-]*", options)) - {"--help"}
    assert "--full" in flags
    assert flags == set(re.findall(r"--[a-z][a-z-]*", script.__doc__))


def _help(main: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    assert callable(main)
    monkeypatch.setattr(sys, "argv", ["benchmark", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    return capsys.readouterr().out

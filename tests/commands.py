"""Run a step's command line as `python -m steps.STEP` does, but in this process: slow imports happen only once."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from steps.cli import run_step
from tests.reference_params import reference_params

ROOT = Path(__file__).parent.parent


class Workspace:
    """A folder in which steps run, with a params.yaml and a champion file that says "none yet"."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._monkeypatch, self._capsys = folder, monkeypatch, capsys
        monkeypatch.chdir(folder)
        monkeypatch.setattr("steps.cli.end_with_parent", lambda _: None)  # would act on pytest's own process
        (folder / "data/champion").mkdir(parents=True)
        (folder / "data/champion/champion.json").write_text('{"accepted": false}')
        self.params = reference_params()

    def write_params(self) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.params))

    def run(self, step: Callable[..., None], **flags: str) -> tuple[int, str]:
        """Return the exit code and the messages of the step."""
        self.write_params()
        arguments = [text for flag, value in flags.items() for text in (f"--{flag}", value)]
        self._monkeypatch.setattr(sys, "argv", [step.__name__, *arguments])
        code = 0
        try:
            run_step(step)
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, self._capsys.readouterr().err

    def run_apart(self, step: str, **flags: str) -> tuple[int, str]:
        """Run the step in a separate process; return the exit code and the messages."""
        self.write_params()
        arguments = [text for flag, value in flags.items() for text in (f"--{flag}", value)]
        done = subprocess.run(
            [sys.executable, "-m", f"steps.{step}", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr

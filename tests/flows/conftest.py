"""A toy line to run, and a Prefect server for the session."""

import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.flows.toy import ROOT, Line, make_line


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_is_heard() -> None:
    """Let child processes receive SIGINT: a shell that runs pytest in the background makes children ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


RUNNING: list[AbstractContextManager[None]] = []


@pytest.fixture
def server() -> None:
    """Start a Prefect server unless one runs. An idle server uses CPU, so it ends before other folders' tests."""
    if not RUNNING:
        from prefect.testing.utilities import prefect_test_harness  # imports a whole server: 2 s a worker

        started = prefect_test_harness(server_startup_timeout=120)
        started.__enter__()
        RUNNING.append(started)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the server before the first test of another folder starts."""
    if RUNNING and (nextitem is None or nextitem.path.parent != item.path.parent):
        RUNNING.pop().__exit__(None, None, None)


@pytest.fixture(scope="session")
def new_line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    return make_line(tmp_path_factory.mktemp("toy") / "line")


@pytest.fixture(scope="session")
def done_line(new_line: Line, tmp_path_factory: pytest.TempPathFactory) -> Line:
    made = new_line.copy(tmp_path_factory.mktemp("toy") / "done")
    made.dvc("repro")
    made.ran()
    return made


@pytest.fixture
def line(new_line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    """Return a line in which nothing has run, in the current folder."""
    return _enter(new_line.copy(tmp_path / "line"), monkeypatch)


@pytest.fixture
def done(done_line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    """Return a line that `dvc repro` completed, in the current folder."""
    return _enter(done_line.copy(tmp_path / "done"), monkeypatch)


@pytest.fixture
def before_gate(done_line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    """Return a line in which everything except the gate has run, in the current folder."""
    line = done_line.copy(tmp_path / "before-gate")
    line.forget("gate")
    return _enter(line, monkeypatch)


def _enter(line: Line, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.chdir(line.root)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return line

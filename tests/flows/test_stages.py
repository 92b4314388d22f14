"""One stage as a task: how the exit of dvc is interpreted, and that no child process outlives the task."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flows import child, stages
from tests.flows.toy import Line

PATIENCE_SECONDS = 60.0
BEGIN = ["Running stage 'ingest':", "> ./step ingest data/ingest"]


def failed_with(code: int) -> str:
    return f"ERROR: failed to reproduce 'ingest': failed to run: ./step ingest data/ingest, exited with {code}"


@pytest.mark.parametrize(
    ("code", "lines", "name", "message"),
    [
        (0, BEGIN, "Completed", "ingest: done"),
        (
            255,
            [*BEGIN, "ingest: reading", "ingest: data/raw is empty; add images.", failed_with(2)],
            "BadInput",
            "ingest: data/raw is empty; add images.",
        ),
        (
            255,
            [*BEGIN, "ingest: params.yaml has 2 fault(s):", "  seed: wrong.", "  lr: wrong.", failed_with(2)],
            "BadInput",
            "ingest: params.yaml has 2 fault(s):\n  seed: wrong.\n  lr: wrong.",
        ),
        (255, [*BEGIN, failed_with(2)], "BadInput", "ingest: the step printed no message"),
        (255, [*BEGIN, failed_with(1)], "Failed", "ingest crashed (the step exited with 1)"),
        (255, [*BEGIN, failed_with(-9)], "Failed", "ingest crashed (the step was ended by SIGKILL)"),
        (255, [*BEGIN, failed_with(137)], "Failed", "ingest crashed (the step was ended by SIGKILL)"),
        (
            255,
            ["it exited with 3", "ERROR: no space left"],
            "Failed",
            "ingest crashed (dvc exited with 255: no space left); its log says where.",
        ),
        (255, [*BEGIN, failed_with(127)], "Failed", "ingest crashed (the step exited with 127)"),
        (255, [*BEGIN, failed_with(193)], "Failed", "ingest crashed (the step exited with 193)"),
        (-9, BEGIN, "Failed", "ingest crashed (dvc was ended by SIGKILL)"),
    ],
)
def test_the_end_of_a_stage_is_a_state_with_a_sentence(
    code: int, lines: list[str], name: str, message: str
) -> None:
    state = stages._state("ingest", code, lines)
    assert state.name == name and str(state.message).startswith(message)


def test_a_refusal_is_told_in_the_words_of_the_report_or_else_of_the_log(done: Line) -> None:
    lines = [*BEGIN, "ingest: said otherwise", failed_with(3)]
    assert stages._state("ingest", 255, lines).message == "ingest: said otherwise"
    done.write("data/ingest/report.json", '{"refused": "no images."}')
    state = stages._state("ingest", 255, lines)
    assert (state.name, state.message) == ("Refused", "ingest: no images.")


def test_what_dvc_leaves_running_when_it_is_killed_is_ended(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.write("sleep.ingest", "")
    monkeypatch.setattr(stages, "get_run_logger", lambda: logging.getLogger(__name__))
    ended: list[tuple[int, list[str]]] = []
    stage = threading.Thread(target=lambda: ended.append(stages.dvc("repro", "--single-item", "ingest")))
    stage.start()
    step = step_at_work(line)
    os.kill(dvc_of(step), signal.SIGKILL)
    stage.join(PATIENCE_SECONDS)
    assert ended and ended[0][0] == -signal.SIGKILL and "ingest: at work" in ended[0][1]
    assert not is_alive(step)


class Cancelled(BaseException):
    """Stands for the exception that Prefect raises in a cancelled run."""


@pytest.mark.parametrize("end", [Cancelled, KeyboardInterrupt])
def test_a_cancelled_run_ends_the_step_and_one_of_ctrl_c_lets_it_clear_up(
    line: Line, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    line.write("sleep.ingest", "")

    class Cancelling:
        def info(self, _form: str, sentence: str) -> None:
            if sentence == "ingest: at work":
                step_at_work(line)
                raise end

    monkeypatch.setattr(stages, "get_run_logger", Cancelling)
    with pytest.raises(end):
        stages.dvc("repro", "--single-item", "ingest")
    assert not is_alive(step_at_work(line))
    assert (line.root / "cleared.txt").exists() == (end is KeyboardInterrupt)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child when its parent is killed")
def test_dvc_ends_with_the_step_when_the_process_of_the_flow_is_killed(line: Line) -> None:
    line.write("sleep.ingest", "")
    run = (
        "import logging; from flows import stages; stages.get_run_logger = logging.getLogger; "
        "stages.dvc('repro', '--single-item', 'ingest')"
    )
    flow = subprocess.Popen([sys.executable, "-c", run])
    step = step_at_work(line)
    dvc = dvc_of(step)
    flow.kill()
    flow.wait()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while is_alive(step) or is_alive(dvc):
        assert time.monotonic() < deadline, "an orphan is at work"
        time.sleep(0.02)


def test_a_child_whose_parent_ended_before_it_looked_runs_nothing(line: Line) -> None:
    of_another = str(os.getppid())
    command = [sys.executable, "-P", str(Path(child.__file__)), of_another, "SIGTERM", "dvc", "repro"]
    assert subprocess.run(command, check=False).returncode == 1
    assert line.ran() == []


def step_at_work(line: Line) -> int:
    """Return the process id of the step once the step sleeps."""
    written = line.root / "pid.txt"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (written.exists() and written.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(written.read_text())


def dvc_of(step: int) -> int:
    """Return the nearest parent process of the step that is dvc: a shell may be between the two."""
    process = step
    while "child.py" not in command_of(process):
        process = int(status_of(process)["PPid"])
    return process


def command_of(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")


def status_of(process: int) -> dict[str, str]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}


def is_alive(process: int) -> bool:
    """Tell whether the process runs; a process that ended and was not yet waited for does not count."""
    try:
        return status_of(process)["State"][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False

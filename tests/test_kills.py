"""SIGKILL for a step, dvc or the flow: no partial output, no running process, and the next run continues."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clone import dvc, environment
from tests.finished import Line, hidden_of, processes_in, said_in, start_dvc

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child when its parent is killed"),
]
PATIENCE_SECONDS = 120.0  # for a step to begin, on a busy machine
ORPHANS_PATIENCE_SECONDS = 30.0  # for terminated processes to end
STAGES = [
    "ingest",
    "validate",
    "split",
    "train",
    "fuse",
    "export",
    "build@onnxruntime-fp32",
    "evaluate-onnx@export",
    "gate",
    "release",
]
REPRO = ("repro", "--single-item")


@pytest.fixture
def line(finished_line: Line, tmp_path: Path) -> Line:
    return finished_line.copy(tmp_path / "line")


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_step_leaves_nothing_half_written_and_running_again_finishes(
    stage: str, line: Line, finished_line: Line
) -> None:
    line.forget(stage)
    draw = random.Random(stage)  # the moments differ between stages and are the same in every run
    assert any(kill_step_in(line, stage, after=0.0) for _ in range(5)), "it was never caught at work"
    assert_whole_or_absent(line, finished_line, stage)
    for _ in range(2):
        kill_step_in(line, stage, after=draw.random() * line.seconds[stage])
        assert_whole_or_absent(line, finished_line, stage)
    assert_running_again_finishes(line, finished_line, stage)


@pytest.mark.parametrize("stage", ["ingest", "train", "build@onnxruntime-fp32", "evaluate-onnx@export"])
def test_a_killed_dvc_takes_its_step_with_it(stage: str, line: Line, finished_line: Line) -> None:
    line.forget(stage)
    for begun in (step_is_starting, step_is_writing):
        process = start_dvc(line.folder, *REPRO, stage)
        await_that(lambda: begun(line, stage), process)  # noqa: B023
        kill(process)
        assert_nothing_goes_on(line, stage, after=0.05)  # time for the kernel's signal to arrive on another core
        assert_whole_or_absent(line, finished_line, stage)
    assert_running_again_finishes(line, finished_line, stage)


@pytest.mark.parametrize("stage", ["train", "build@onnxruntime-fp32"])
def test_a_killed_flow_takes_dvc_and_the_step_with_it(stage: str, line: Line, finished_line: Line) -> None:
    line.forget(stage)
    process = start_flow(line, "--since", stage, "--until", stage)
    await_that(lambda: step_is_writing(line, stage), process)
    kill(process)
    assert_nothing_goes_on(line, stage, after=0.5)  # dvc's process gets the signal first and passes it on
    assert_whole_or_absent(line, finished_line, stage)
    assert start_flow(line).wait() == 0, said_in(line.folder).read_text()
    assert line.lock == finished_line.lock


def test_ctrl_c_in_the_flow_leaves_nothing_hidden_and_its_server_ends(line: Line, finished_line: Line) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores SIGINT
    line.forget("train")
    process = start_flow(line)
    await_that(lambda: step_is_writing(line, "train"), process)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_SECONDS) == 130
    assert_nothing_is_at_work(line)
    assert not list((line.folder / "data").rglob(".*.tmp"))
    assert "Traceback" not in said_in(line.folder).read_text()
    assert start_flow(line).wait() == 0, said_in(line.folder).read_text()
    assert line.lock == finished_line.lock


def test_a_flow_that_is_killed_while_its_server_starts_leaves_no_server(line: Line) -> None:
    process = start_flow(line)
    await_that(lambda: any("uvicorn" in command for command in processes_in(line.folder).values()), process)
    kill(process)
    assert_nothing_is_at_work(line)


def step_is_starting(line: Line, stage: str) -> bool:
    return bool(step_processes(line, stage))


def step_is_writing(line: Line, stage: str) -> bool:
    return (line.folder / hidden_of(stage)).exists()


def step_processes(line: Line, stage: str) -> list[int]:
    module = f"-m steps.{stage.split('@')[0].split('-')[0]} "
    return [pid for pid, command in processes_in(line.folder).items() if module in command]


def start_flow(line: Line, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "flows", *arguments]
    with said_in(line.folder).open("w") as log:
        return subprocess.Popen(command, cwd=line.folder, env=environment(), stdout=log, stderr=log, text=True)


def kill_step_in(line: Line, stage: str, after: float) -> bool:
    """Kill the stage's step after it wrote for `after` seconds; tell whether the step was still running."""
    process = start_dvc(line.folder, *REPRO, "--force", "--no-run-cache", stage)
    await_that(lambda: step_is_starting(line, stage), process)
    (step,) = step_processes(line, stage)
    await_that(lambda: step_is_writing(line, stage), process)
    time.sleep(after)
    kill_if_there(step)
    code = process.wait(PATIENCE_SECONDS)
    assert_nothing_is_at_work(line)
    return code != 0 and f"exited with {-signal.SIGKILL}" in said_in(line.folder).read_text()


def await_that(holds: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Return when `holds()` is true, or when `process` has ended: the process may end between two checks."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds() and process.poll() is None:
        assert time.monotonic() < deadline, "it never came so far"


def kill(process: "subprocess.Popen[str]") -> None:
    assert process.poll() is None, "it ended before it could be killed"
    process.kill()
    process.wait()


def kill_if_there(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def assert_nothing_is_at_work(line: Line) -> None:
    deadline = time.monotonic() + ORPHANS_PATIENCE_SECONDS
    while left := processes_in(line.folder):
        assert time.monotonic() < deadline, f"still at work: {left}"
        time.sleep(0.05)


def assert_nothing_goes_on(line: Line, stage: str, after: float) -> None:
    """Check that the step ended with its parent: after `after` seconds its outputs no longer change."""
    time.sleep(after)
    left = line.outputs(stage)
    assert_nothing_is_at_work(line)
    assert line.outputs(stage) == left, "an orphan wrote after its parent was killed"


def assert_whole_or_absent(line: Line, finished: Line, stage: str) -> None:
    """Check that each existing final name of the stage has the bytes of the line that was never killed."""
    expected = finished.outputs(stage)
    for out, contents in line.outputs(stage).items():
        assert contents == expected[out], f"{out} is not what a whole run writes"


def assert_running_again_finishes(line: Line, finished: Line, stage: str) -> None:
    done = dvc(line.folder, *REPRO, "--no-run-cache", stage)
    assert done.returncode == 0, done.stdout + done.stderr
    assert line.lock == finished.lock
    assert line.outputs(stage) == finished.outputs(stage)
    assert not list((line.folder / "data").rglob(".*.tmp"))

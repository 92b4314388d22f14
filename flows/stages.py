"""One stage as a Prefect task: unchanged, run by DVC, refused, or crashed and run again."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed, Failed
from prefect.tasks import Task

from flows import child, graph, summary

BAD_INPUT, REFUSED = 2, 3  # a step's exit codes
EXIT_CODES = {"BadInput": BAD_INPUT, "Refused": REFUSED}  # states that a retry would not change
RETRY_DELAYS_SECONDS = [10.0, 60.0]
GRACE_SECONDS = 10.0
KEPT_LINES = 200
EXITED = re.compile(r"exited with (-?\d+)$")  # dvc prints the step's exit code; dvc itself exits with 255
HINTS = re.compile(r"To track the changes|\s+git add |To enable auto|\s+dvc config core.autostage|Use `dvc push`")
STEP_LINE = re.compile(r"[a-z_]+: \S")  # a line of a step's log, such as "train: ..."
QUIET = {"DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1", "GX_ANALYTICS_ENABLED": "false"}


def is_crash(_task: Task[..., Any], _task_run: TaskRun, state: State[Any]) -> bool:
    """Tell whether a retry may help; it does not help after a refusal or a wrong parameter."""
    return state.name not in EXIT_CODES


@task(
    name="stage",
    task_run_name="{stage}",
    cache_policy=NO_CACHE,  # DVC is the cache
    retries=len(RETRY_DELAYS_SECONDS),
    retry_delay_seconds=RETRY_DELAYS_SECONDS,
    retry_condition_fn=is_crash,
)
def run_stage(stage: str) -> State[None]:
    """Bring one stage up to date; end as Cached, Completed, Refused, BadInput or Failed, with a sentence."""
    if graph.is_unchanged(stage):
        refused = graph.refusal(stage)  # `dvc commit` and `dvc exp save` record a refused stage as done
        if refused:
            return Failed(name="Refused", message=f"{stage}: {refused}")
        return Completed(name="Cached", message=f"{stage}: unchanged since its last run")
    code, lines = dvc("repro", "--single-item", stage)
    summary.publish_report(stage, graph.report_of(stage))
    return _state(stage, code, lines)


def dvc(*arguments: str) -> tuple[int, list[str]]:
    """Run dvc and log each line of its output; return the exit code and the last lines."""
    logger = get_run_logger()
    last: deque[str] = deque(maxlen=KEPT_LINES)
    with _started(arguments) as process:
        assert process.stdout
        for line in process.stdout:
            if line.strip() and not HINTS.match(line):
                logger.info("%s", line.rstrip())
                last.append(line.rstrip())
        return process.wait(), list(last)


def _state(stage: str, code: int, lines: list[str]) -> State[None]:
    """Return the state of the task for this end of the stage."""
    step_code = _step_code(lines)
    if code == 0:
        return Completed(message=f"{stage}: done")
    if step_code == REFUSED:
        return Failed(name="Refused", message=f"{stage}: {graph.refusal(stage) or _sentence(lines)}")
    if step_code == BAD_INPUT:
        return Failed(name="BadInput", message=f"{stage}: {_sentence(lines)}")
    reason = f": {_error(lines)}" if step_code is None and _error(lines) else ""
    return Failed(message=f"{stage} crashed ({_ending(code, step_code)}{reason}); its log says where.")


def _step_code(lines: list[str]) -> int | None:
    """Return the exit code of the step's command as dvc reports it, or None if dvc itself failed."""
    found = (EXITED.search(line) for line in reversed(lines) if line.startswith("ERROR:"))
    return next((int(match[1]) for match in found if match), None)


def _error(lines: list[str]) -> str:
    """Return dvc's last error message, or an empty string."""
    return next((line.removeprefix("ERROR:").strip() for line in reversed(lines) if line.startswith("ERROR:")), "")


def _sentence(lines: list[str]) -> str:
    """Return the step's last message: from its last line `step: ...` to dvc's first error."""
    end = next((number for number, line in enumerate(lines) if line.startswith("ERROR:")), len(lines))
    starts = [number for number in range(end) if STEP_LINE.match(lines[number])]
    message = "\n".join(lines[starts[-1] : end]) if starts else "the step printed no message"
    return message.split(": ", 1)[-1]


def _ending(code: int, step_code: int | None) -> str:
    """Return how dvc or the step ended: by a signal, or with an exit code."""
    exit_code = code if step_code is None else step_code
    process = "dvc" if step_code is None else "the step"
    number = -exit_code if exit_code < 0 else exit_code - 128  # a shell adds 128 to the number of the signal
    if 0 < number < signal.NSIG:
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return f"{process} was ended by {name}"
    return f"{process} exited with {exit_code}"


@contextmanager
def _started(arguments: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
    """Start dvc in a new process group, and end the whole group in every case.

    A cancelled run raises an exception here. When the run is killed, Linux sends the parent-death signal to the
    child. Linux sends this signal when the *thread* that started the child ends, so this thread waits for the
    child. If dvc is killed, its remaining child processes are ended too, because they could write at the same
    time as the next run.
    """
    tied = [sys.executable, "-P", str(Path(child.__file__)), str(os.getpid()), "SIGTERM"]
    command = [*tied, "dvc", "--wait-for-lock", *arguments]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        env={**os.environ, **QUIET, "PYTHONUNBUFFERED": "1"},
    )
    watcher = threading.Thread(target=_end_group_after, args=(process,), daemon=True)
    watcher.start()
    try:
        yield process
    except BaseException as end:
        _end_group(process.pid, signal.SIGINT if isinstance(end, KeyboardInterrupt) else signal.SIGTERM)
        raise
    finally:
        watcher.join()
        assert process.stdout
        process.stdout.close()


def _end_group_after(process: "subprocess.Popen[str]") -> None:
    """Wait for dvc, then end the rest of its process group, which would otherwise keep dvc's output open."""
    process.wait()
    _end_group(process.pid)


def _end_group(group: int, asking: signal.Signals = signal.SIGTERM) -> None:
    """Send the signal `asking` to the group, and SIGKILL after GRACE_SECONDS. After SIGINT, steps clean up."""
    deadline = time.monotonic() + GRACE_SECONDS
    try:
        os.killpg(group, asking)
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass

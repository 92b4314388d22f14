"""One stage as a Prefect task: unchanged, run by DVC, refused, or crashed and tried again."""

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
EXIT_CODES = {"BadInput": BAD_INPUT, "Refused": REFUSED}  # states that another try would not change
RETRY_DELAYS_SECONDS = [10.0, 60.0]
GRACE_SECONDS = 10.0
KEPT_LINES = 200
EXITED = re.compile(r"exited with (-?\d+)$")  # how dvc, which itself exits with 255, tells a step's exit code
HINTS = re.compile(r"To track the changes|\s+git add |To enable auto|\s+dvc config core.autostage|Use `dvc push`")
SAID = re.compile(r"[a-z_]+: \S")
QUIET = {"DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1", "GX_ANALYTICS_ENABLED": "false"}


def is_crash(_task: Task[..., Any], _task_run: TaskRun, state: State[Any]) -> bool:
    """Tell whether trying again may help: a refusal, or a wrong parameter, will be the same next time."""
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
        refused = graph.refusal(stage)  # `dvc commit` and `dvc exp save` write it down as done
        if refused:
            return Failed(name="Refused", message=f"{stage}: {refused}")
        return Completed(name="Cached", message=f"{stage}: unchanged since its last run")
    code, lines = dvc("repro", "--single-item", stage)
    summary.publish_report(stage, graph.report_of(stage))
    return _state(stage, code, lines)


def dvc(*arguments: str) -> tuple[int, list[str]]:
    """Run dvc, each line of its output going to this run's log; return its exit code and its last lines."""
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
    """Return the state that the end of a stage amounts to."""
    step_code = _step_code(lines)
    if code == 0:
        return Completed(message=f"{stage}: done")
    if step_code == REFUSED:
        return Failed(name="Refused", message=f"{stage}: {graph.refusal(stage) or _sentence(lines)}")
    if step_code == BAD_INPUT:
        return Failed(name="BadInput", message=f"{stage}: {_sentence(lines)}")
    said = f": {_error(lines)}" if step_code is None and _error(lines) else ""
    return Failed(message=f"{stage} crashed ({_how(code, step_code)}{said}); its log says where.")


def _step_code(lines: list[str]) -> int | None:
    """Return the exit code of the step's command as dvc reports it, or None where dvc itself failed."""
    found = (EXITED.search(line) for line in reversed(lines) if line.startswith("ERROR:"))
    return next((int(match[1]) for match in found if match), None)


def _error(lines: list[str]) -> str:
    """Return dvc's own last word."""
    return next((line.removeprefix("ERROR:").strip() for line in reversed(lines) if line.startswith("ERROR:")), "")


def _sentence(lines: list[str]) -> str:
    """Return what the step said last: from its line `step: ...` to dvc's own."""
    end = next((number for number, line in enumerate(lines) if line.startswith("ERROR:")), len(lines))
    starts = [number for number in range(end) if SAID.match(lines[number])]
    said = "\n".join(lines[starts[-1] : end]) if starts else "it said nothing"
    return said.split(": ", 1)[-1]


def _how(code: int, step_code: int | None) -> str:
    ended = code if step_code is None else step_code
    whose = "dvc" if step_code is None else "the step"
    number = -ended if ended < 0 else ended - 128  # the second is how a shell tells it
    if 0 < number < signal.NSIG:
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return f"{whose} was ended by {name}"
    return f"{whose} exited with {ended}"


@contextmanager
def _started(arguments: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
    """Start dvc in a process group of its own and end the group, come what may.

    A cancelled run raises here; a killed one is noticed by the child (the parent-death signal is sent when the
    *thread* that started it ends, and this one stays until the child is gone). Whatever dvc leaves running when
    it is killed itself would write beside its successor, so it goes too.
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
    """Wait for dvc, then end what is left of its group: its output would stay open with it."""
    process.wait()
    _end_group(process.pid)


def _end_group(group: int, asking: signal.Signals = signal.SIGTERM) -> None:
    """Ask the processes of the group to end, then make them. A Ctrl-C is passed on: steps clear up."""
    deadline = time.monotonic() + GRACE_SECONDS
    try:
        os.killpg(group, asking)
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass

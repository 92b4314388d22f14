"""The flow: every stage of dvc.yaml in DVC's order, each as a task run; what it found, as artifacts.

`python -m flows.classify` runs it here and now, with a server of its own; `prefect deployment run classify/full`
hands it to a worker.
"""

import argparse
import fcntl
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Failed

from flows import graph, summary
from flows.engines import must_be_buildable
from flows.localise import localise_refused
from flows.overrides import overridden
from flows.server import start_temporary_server
from flows.stages import BAD_INPUT, REFUSED, run_stage
from steps.errors import BadInput

PARAMS = Path("params.yaml")
LOCK = Path(".foldline/locks/flow.lock")
EXIT_CODES = {"BadInput": BAD_INPUT, "Refused": REFUSED}


@flow(name="classify")
def classify(
    overrides: dict[str, Any] | None = None, since: str | None = None, until: str | None = None
) -> State[None]:
    """Bring every stage up to date, or those from `since`, or up to `until`.

    `overrides`, nested as params.yaml is, are written into it first. Ends at the first stage that refuses or
    crashes, in a state that has the stage's own sentence.
    """
    with _only_run():
        try:
            stages = _prepared(overrides or {}, since, until)
        except BadInput as fault:
            return _told(Failed(name="BadInput", message=str(fault)))
        reached, failed = _run(stages)
        summary.publish(reached, failed.message if failed else None)
    return _told(failed) if failed else Completed(message=summary.headline(reached, None))


def main() -> int:
    """Run the flow from the command line, print its table, and return a step's exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.classify", description=classify.__doc__)
    parser.add_argument("--since", metavar="STAGE", help="leave out what this stage needs")
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage")
    parser.add_argument("--overrides", metavar="JSON", type=_nested, help='such as {"train": {"epochs": 3}}')
    arguments = vars(parser.parse_args())
    given = "PREFECT_API_URL" in os.environ
    summary.TABLE.unlink(missing_ok=True)
    with nullcontext() if given else temporary_settings(restore_defaults={PREFECT_API_URL}):
        if not given:
            start_temporary_server()
        state: State[Any] = classify(**arguments, return_state=True)
    logging.getLogger("prefect").setLevel(logging.WARNING)  # the table comes last
    print("\n" + (summary.TABLE.read_text() if summary.TABLE.is_file() else f"FAIL  {state.message}\n"), end="")
    return 0 if state.is_completed() else EXIT_CODES.get(state.name or "", 1)


def _nested(text: str) -> dict[str, Any]:
    """Return the JSON object that the text is."""
    try:
        value = json.loads(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(f"{fault}: it should be JSON, nested as params.yaml is") from fault
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text} should be an object, nested as params.yaml is")
    return value


def _prepared(overrides: dict[str, Any], since: str | None, until: str | None) -> list[str]:
    """Check and write the params, remove leftovers and return the stages to run; raise BadInput and do neither."""
    logger = get_run_logger()
    with overridden(PARAMS, overrides) as changes:
        stages = graph.plan(since, until)
        must_be_buildable(stages)
    for key, change in changes.items():
        logger.info("params.yaml: %s is set by this run: %s", key, change)
    for leftover in graph.prune():
        logger.info("removed %s: no stage writes it any more", leftover)
    return stages


def _run(stages: list[str]) -> tuple[list[str], State[None] | None]:
    """Run the stages one after the other; return those reached and the state of the one that failed."""
    reached = []
    for stage in stages:
        state = run_stage(stage)
        reached.append(stage)
        if state.is_failed():
            if state.name == "Refused":
                localise_refused(stage, graph.report_of(stage))
            return reached, Failed(name=state.name, message=state.message)
    return reached, None


def _told(failed: State[None]) -> State[None]:
    """Say why, where `--watch` shows it before the state, of which it knows the name alone."""
    get_run_logger().error("%s", failed.message)
    for handler in logging.getLogger("prefect.flow_runs").handlers:
        handler.flush()
    for name in ("prefect.flow_runs", "prefect.engine"):
        logging.getLogger(name).addFilter(_says_something)
    return failed


def _says_something(record: logging.LogRecord) -> bool:
    """Tell a traceback of a fault from the one that a worker's process logs, twice, for each failed state."""
    return not (record.exc_info and isinstance(record.exc_info[1], FailedRun))


@contextmanager
def _only_run() -> Iterator[None]:
    """Wait for another run on this workspace to end: each would write into the other's params and outputs."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            get_run_logger().info("another run is at work in this folder; waiting for it to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())

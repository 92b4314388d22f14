"""The flow: every stage of dvc.yaml in DVC's order, each as a task run; what it found, as artifacts.

`python -m flows` runs it here and now, with a server of its own; `prefect deployment run classify/full` hands it
to a worker.
"""

import logging
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun
from prefect.runtime import deployment
from prefect.states import Completed, Failed

from flows import graph, summary
from flows.localise import localise_refused
from flows.preparing import only_run, prepare
from flows.stages import run_stage
from steps.errors import BadInput


@flow(name="classify")
def classify(
    overrides: dict[str, Any] | None = None, since: str | None = None, until: str | None = None
) -> State[None]:
    """Bring every stage up to date, or those from `since`, or up to `until`.

    `overrides`, nested as params.yaml is, are written into it first. Ends at the first stage that refuses or
    crashes, in a state that has the stage's own sentence.
    """
    with only_run(get_run_logger().info):
        try:
            stages = _prepared(overrides or {}, since, until)
        except BadInput as fault:
            return _told(Failed(name="BadInput", message=str(fault)))
        reached, failed = _run(stages)
        summary.publish(reached, failed.message if failed else None)
    return _told(failed) if failed else Completed(message=summary.headline(reached, None))


def _prepared(overrides: dict[str, Any], since: str | None, until: str | None) -> list[str]:
    """Check and write the params, remove leftovers and return the stages to run; raise BadInput and do neither."""
    logger = get_run_logger()
    changes, stages = prepare(overrides, since, until)
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
    """Say why, where `--watch` shows it before the state, of which it knows the name alone.

    A run from the command line ends with it anyway.
    """
    if deployment.id is None:
        return failed
    get_run_logger().error("%s", failed.message)
    for handler in logging.getLogger("prefect.flow_runs").handlers:
        handler.flush()
    for name in ("prefect.flow_runs", "prefect.engine"):
        logging.getLogger(name).addFilter(_says_something)
    return failed


def _says_something(record: logging.LogRecord) -> bool:
    """Tell a traceback of a fault from the one that a worker's process logs, twice, for each failed state."""
    return not (record.exc_info and isinstance(record.exc_info[1], FailedRun))

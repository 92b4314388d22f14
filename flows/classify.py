"""The flow: every stage of dvc.yaml in DVC's order, each as a task run, with the results as artifacts.

`python -m flows` runs the flow in this terminal with a temporary server. `prefect deployment run classify/full`
gives the flow to a worker.
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
    """Bring every stage up to date, or only the stages from `since` on, or up to `until`.

    `overrides`, nested like params.yaml, are first written into params.yaml. The run ends at the first stage that
    refuses or crashes; the run's state has the sentence of that stage.
    """
    with only_run(get_run_logger().info):
        try:
            stages = _prepared(overrides or {}, since, until)
        except BadInput as fault:
            return _log_failure(Failed(name="BadInput", message=str(fault)))
        reached, failed = _run(stages)
        summary.publish(reached, failed.message if failed else None)
    return _log_failure(failed) if failed else Completed(message=summary.headline(reached, None))


def _prepared(overrides: dict[str, Any], since: str | None, until: str | None) -> list[str]:
    """Write the params, remove leftovers and return the stages to run; raise BadInput before any change."""
    logger = get_run_logger()
    changes, stages = prepare(overrides, since, until)
    for key, change in changes.items():
        logger.info("params.yaml: this run sets %s: %s", key, change)
    for leftover in graph.prune():
        logger.info("removed %s, because no stage writes it any more", leftover)
    return stages


def _run(stages: list[str]) -> tuple[list[str], State[None] | None]:
    """Run the stages one after the other; return the stages reached, and the state of a failed stage or None."""
    reached = []
    for stage in stages:
        state = run_stage(stage)
        reached.append(stage)
        if state.is_failed():
            if state.name == "Refused":
                localise_refused(stage, graph.report_of(stage))
            return reached, Failed(name=state.name, message=state.message)
    return reached, None


def _log_failure(failed: State[None]) -> State[None]:
    """Log the sentence of a failed run and return its state.

    `prefect deployment run --watch` shows only the log and the name of the state. `python -m flows` prints the
    sentence in its table, so nothing is logged there.
    """
    if deployment.id is None:
        return failed
    get_run_logger().error("%s", failed.message)
    for handler in logging.getLogger("prefect.flow_runs").handlers:
        handler.flush()
    for name in ("prefect.flow_runs", "prefect.engine"):
        logging.getLogger(name).addFilter(_is_no_failed_run)
    return failed


def _is_no_failed_run(record: logging.LogRecord) -> bool:
    """Tell whether to show a record: a worker's process logs two useless tracebacks for each failed state."""
    return not (record.exc_info and isinstance(record.exc_info[1], FailedRun))

"""What a run says on a terminal: each sentence where it happened, and once more at the end."""

import logging
import re

FAILED = re.compile(r"Finished in state (Refused|BadInput|Failed)\(")  # then comes the state's whole sentence


def say_once() -> None:
    """Let Prefect name the state that a stage or the run ended in, and not repeat its sentence."""
    for name in ("prefect.task_runs", "prefect.flow_runs"):
        logging.getLogger(name).addFilter(_shortened)
    # a last heartbeat that the temporary server no longer takes is no loss
    logging.getLogger("prefect.events.utilities").setLevel(logging.CRITICAL)
    logging.getLogger("EventsWorker").setLevel(logging.ERROR)


def _shortened(record: logging.LogRecord) -> bool:
    found = FAILED.match(str(record.msg))
    if found:
        record.msg = f"Finished in state {found[1]}"
    return True

"""The log of a run on a terminal: each sentence appears when its stage ends, and again in the final table."""

import logging
import re

FAILED = re.compile(r"Finished in state (Refused|BadInput|Failed)\(")  # the state's whole sentence follows


def say_once() -> None:
    """Let Prefect log only the name of the final state of a stage or run, without its sentence."""
    for name in ("prefect.task_runs", "prefect.flow_runs"):
        logging.getLogger(name).addFilter(_shortened)
    # The temporary server may end before the last heartbeat; an error about that would be useless.
    logging.getLogger("prefect.events.utilities").setLevel(logging.CRITICAL)
    logging.getLogger("EventsWorker").setLevel(logging.ERROR)


def _shortened(record: logging.LogRecord) -> bool:
    found = FAILED.match(str(record.msg))
    if found:
        record.msg = f"Finished in state {found[1]}"
    return True

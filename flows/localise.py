"""After a refused gate: where the refused form begins to drift. It explains the refusal, and never replaces it."""

import subprocess
from pathlib import Path

from prefect import get_run_logger

from steps.errors import BadInput
from steps.reports.verdict import Verdict, to_localise

GATE = "gate"
COMMAND = ("containers/run", "localise")
SECONDS = 600.0


def localise_refused(stage: str, report: Path | None) -> None:
    """After a refusal by the gate for what a form computes, run tools.localise on that form; log what it says.

    It runs where evaluate does (on this host, or in the engine image). Whatever goes wrong is logged, no more.
    """
    if stage != GATE or report is None:
        return
    logger = get_run_logger()
    try:
        form = to_localise(Verdict.read(report))
        if form is None:
            return
        done = subprocess.run([*COMMAND, form], capture_output=True, text=True, check=False, timeout=SECONDS)
    except (BadInput, OSError, subprocess.SubprocessError) as fault:
        logger.warning("the refusal could not be localised: %s", fault)
        return
    said = (done.stdout if done.returncode == 0 else done.stderr).strip()
    logger.info("%s", said) if done.returncode == 0 else logger.warning("not localised: %s", said[-2000:])

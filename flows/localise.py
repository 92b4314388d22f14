"""After a refusal by the gate, find where the refused form begins to differ. The refusal does not change."""

import subprocess
from pathlib import Path

from prefect import get_run_logger

from steps.errors import BadInput
from steps.reports.verdict import Verdict, to_localise

GATE = "gate"
COMMAND = ("containers/run", "localise")
SECONDS = 600.0


def localise_refused(stage: str, report: Path | None) -> None:
    """Run tools.localise on a form that the gate refused because of its scores, and log the output.

    tools.localise runs where evaluate runs (on this host, or in the engine image). Faults are only logged.
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
    text = (done.stdout if done.returncode == 0 else done.stderr).strip()
    logger.info("%s", text) if done.returncode == 0 else logger.warning("not localised: %s", text[-2000:])

"""After a refused gate: where the refused form begins to drift. It explains the refusal, and never replaces it."""

import subprocess
from pathlib import Path

from prefect import get_run_logger

from steps.errors import BadInput
from steps.reports.verdict import CHAMPION, LINE, Verdict

GATE = "gate"
COMMAND = ("containers/run", "localise")
SECONDS = 600.0


def localise_refused(stage: str, report: Path | None) -> None:
    """Run tools.localise on the form that the gate's report refuses, where `stage` is the gate; log what it says.

    It runs where evaluate does (on this host, or in the engine image). Whatever goes wrong is logged, no more.
    """
    if stage != GATE or report is None:
        return
    logger = get_run_logger()
    try:
        form = _refused_form(Verdict.read(report))
        if form is None:
            return
        done = subprocess.run([*COMMAND, form], capture_output=True, text=True, check=False, timeout=SECONDS)
    except (BadInput, OSError, subprocess.SubprocessError) as fault:
        logger.warning("the refusal could not be localised: %s", fault)
        return
    said = (done.stdout if done.returncode == 0 else done.stderr).strip()
    logger.info("%s", said) if done.returncode == 0 else logger.warning("not localised: %s", said[-2000:])


def _refused_form(verdict: Verdict) -> str | None:
    """Return the form that the refusal names, unless it is one that nothing was made into."""
    form = (verdict.refused or "").partition(":")[0]
    made = {row.form for row in verdict.forms} - {LINE[0], CHAMPION}
    return form if form in made else None

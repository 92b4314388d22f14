"""What a newcomer waits for and gets: `make demo` in a fresh clone, with nothing downloaded before.

    python -m benchmarks.demo [--warm-cache] [--full] [--write]

Clones this repository's last commit into an empty temporary folder, points the package caches of uv and pip there
too, and times set-up (`make setup`) and the line (`make demo`) apart, on two cores. The images are those of the
demo. `--warm-cache` leaves the caches alone, where only the line is of interest; `--full` runs `make test` there
as well. Takes about 7 GB of temporary disk.
"""

import itertools
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.bounds import Figure, command_line, report
from steps.reports.certificate import Certificate, CertificateRow
from steps.reports.verdict import Verdict

ROOT = Path(__file__).parent.parent
CORES = 2
OF_A_RUN_OF_ONES_OWN = (
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "FOLDLINE_PYTHON",
    "PYTHONPATH",
    "PREFECT_API_URL",
    "STEPS_ON",
)
MINUTES, TOP1, AGREEMENT = 6.0, 0.98, 0.999
ERRORS = {"fp32": 1e-5, "fp64": 1e-12}


class MakeRun(NamedTuple):
    """What a target of make took and what it printed."""

    seconds: float
    cpu: float
    printed: str


def main() -> None:
    """Run the demo as a newcomer does and report what it took and what came out."""
    parser = command_line("demo", __doc__)
    parser.add_argument("--warm-cache", action="store_true", help="leave the package caches as they are")
    parser.add_argument("--full", action="store_true", help="run `make test` in the clone as well")
    arguments = parser.parse_args()
    targets = ("setup", "demo", "test") if arguments.full else ("setup", "demo")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])  # what is started from here inherits it
    with tempfile.TemporaryDirectory(prefix="foldline-demo-") as folder:
        clone = Path(folder) / "line"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environment = _environment(None if arguments.warm_cache else Path(folder))
        took = {target: _make(target, clone, environment) for target in targets}
        print(took["demo"].printed)
        print(
            *(f"make {target}: {of.seconds:.0f} s, {of.cpu:.0f} s of CPU time" for target, of in took.items()),
            sep="\n",
        )
        minutes = (took["setup"].seconds + took["demo"].seconds) / 60
        waited = Figure("set-up and line", minutes, "at most", MINUTES, "min")
        report([waited, *figures_of(clone, took["demo"].printed)], arguments, verdict_table(took["demo"].printed))


def verdict_table(printed: str) -> list[str]:
    """Return the table of the forms as the flow prints it, as a block of text; none where there is no table."""
    lines = printed.splitlines()
    heads = [number for number, line in enumerate(lines) if line.split()[:2] == ["form", "verdict"]]
    rows = [line.rstrip() for line in itertools.takewhile(str.strip, lines[heads[-1] :])] if heads else []
    return ["", "```text", *rows, "```"] if rows else []


def _environment(caches: Path | None) -> dict[str, str]:
    """Return this environment without what points at packages or servers that are here already."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_A_RUN_OF_ONES_OWN}
    if caches:
        environment |= {"UV_CACHE_DIR": str(caches / "uv"), "PIP_CACHE_DIR": str(caches / "pip")}
    return environment


def _make(target: str, clone: Path, environment: dict[str, str]) -> MakeRun:
    """Run a target. Its log goes to the terminal as it comes."""
    begin, cpu = time.perf_counter(), _cpu_seconds()
    done = subprocess.run(
        ["make", target], cwd=clone, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nFAIL  make {target} exited with {done.returncode}")
    return MakeRun(time.perf_counter() - begin, _cpu_seconds() - cpu, done.stdout)


def _cpu_seconds() -> float:
    """Return the CPU seconds of all commands that have ended, which a busy machine hardly changes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def figures_of(clone: Path, printed: str) -> Iterator[Figure]:
    """Yield what came out: the verdict, each form's accuracy, and the proof of the fuse."""
    verdict = Verdict.read(clone / "data/gate/verdict.json")
    judged = [form for form in verdict.forms if form.judgement != "deferred"]
    yield Figure(f"verdict is pass ({verdict.judgement})", float(verdict.judgement == "pass"), "at least", 1)
    shown = sum(any(line.split()[:1] == [form.form] for line in printed.splitlines()) for form in verdict.forms)
    yield Figure(f"forms in the printed table, of {len(verdict.forms)}", shown, "at least", len(verdict.forms))
    for form in judged:
        yield Figure(f"test top-1 of {form.form}", _known(form.top1), "at least", TOP1)
    for form in judged:
        yield Figure(f"agreement of {form.form} with train", _known(form.agreement), "at least", AGREEMENT)
    yield from _errors(Certificate.read(clone / "data/fuse/certificate.json"))


def _errors(certificate: Certificate) -> Iterator[Figure]:
    """Yield the largest error of the whole network and of its sites, for each precision."""
    for precision, bound in ERRORS.items():
        rows = [row for row in certificate.rows if row.precision == precision]
        for place, of_whole in (("whole network", True), ("sites", False)):
            errors = [_error(row) for row in rows if (row.site == "whole network") == of_whole]
            yield Figure(f"fuse error, {place}, {precision}", max(errors, default=math.nan), "at most", bound)


def _error(row: CertificateRow) -> float:
    return math.inf if row.error is None else row.error


def _known(value: float | None) -> float:
    return math.nan if value is None else value


if __name__ == "__main__":
    main()

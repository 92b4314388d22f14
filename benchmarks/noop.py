"""What it costs to find that nothing changed: `dvc repro` and the flow beside a bare `dvc status`.

    python -m benchmarks.noop [--rounds 5] [--full] [--write]

Runs in this checkout, which must be up to date (`make demo`, or `dvc repro`). The commands take turns, so that a
slow moment of the machine hits all of them; medians are compared.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import yaml

from benchmarks.bounds import Figure, command_line, report

DVC = [sys.executable, "-m", "dvc"]
FLOW = [sys.executable, "-m", "flows"]
COMMANDS = {"status": [*DVC, "status"], "repro": [*DVC, "repro"], "flow": FLOW}
FLOW_OF_ONE_STAGE = [*FLOW, "--until", "ingest"]  # what a flow costs before its stages count


def main() -> None:
    """Time the commands in turn and report the ratios."""
    parser = command_line("noop", __doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="20 rounds")
    arguments = parser.parse_args()
    rounds = 20 if arguments.full else arguments.rounds
    commands = {**COMMANDS, "flow of one stage": FLOW_OF_ONE_STAGE}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            seconds[name].append(_timed(command))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    print("   ".join(f"{name}: {value:.2f} s" for name, value in median.items()))
    stages = len(yaml.safe_load(Path("dvc.lock").read_text())["stages"])
    per_stage = (median["flow"] - median["flow of one stage"]) / (stages - 1)
    report(
        [
            Figure("dvc repro / dvc status", median["repro"] / median["status"], "at most", 1.6),
            Figure(f"flow, each of {stages} cached stages", per_stage, "at most", 1.0, "s"),
        ],
        arguments,
    )


def _timed(command: list[str]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "DVC_NO_ANALYTICS": "1"})
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()

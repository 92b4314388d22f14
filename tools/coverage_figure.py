"""Write into docs/figures.md which share of the lines the tests run: `make coverage`, after it has run the tests.

The figure is no gate. Lines that run only on a GPU or in a container are counted as lines that no test runs.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from benchmarks.bounds import FIGURES, write_block
from steps.errors import BadInput
from steps.progress import say

REPORT = Path(".foldline/coverage.json")


def table(report: Path) -> list[str]:
    """Return the share of each folder, and of all, as the lines of a table in Markdown."""
    try:
        files = json.loads(report.read_text())["files"]
    except (OSError, ValueError, KeyError) as fault:
        raise BadInput(f"{report} is no report of coverage ({fault}); run `make coverage`.") from fault
    lines: Counter[str] = Counter()
    covered: Counter[str] = Counter()
    for path, counts in files.items():
        for row in (_row_of(path), "all"):
            lines[row] += counts["summary"]["num_statements"]
            covered[row] += counts["summary"]["covered_lines"]
    rows = [
        f"| {row} | {lines[row]:,} | {100 * covered[row] / lines[row]:.1f} % |"
        for row in sorted(lines, key=lambda row: (row == "all", row))
        if lines[row]
    ]
    return ["| code | statements | run by the default tests |", "|---|---|---|", *rows]


def _row_of(path: str) -> str:
    """Return the room, the group of files beside the steps, or the folder at the top."""
    top, *below = Path(path).parts
    if top != "steps":
        return f"`{top}/`"
    return f"`steps/{below[0]}/`" if len(below) > 1 else "`steps/*.py`"


def main() -> int:
    """Write the table; return 0, or 2 where the report or the block is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.coverage_figure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--report", type=Path, default=REPORT, help=f"what coverage wrote ({REPORT})")
    parser.add_argument(
        "--page", type=Path, default=FIGURES, help="the page with the block `coverage` (docs/figures.md)"
    )
    flags = parser.parse_args()
    try:
        rows = table(flags.report)
        write_block(flags.page, "coverage", rows)
    except BadInput as fault:
        say(f"coverage: {fault}")
        return fault.exit_code
    say(f"coverage: {rows[-1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Write into docs/figures.md which share of the lines the tests run: `make coverage`, after it has run the tests.

The figure is no gate. Lines that run only on a GPU or in a container are counted as lines that no test runs.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from steps.errors import BadInput
from steps.files import write_whole
from steps.progress import say

REPORT = Path(".foldline/coverage.json")
PAGE = Path("docs/figures.md")
BEGIN, END = "<!-- coverage -->\n", "<!-- /coverage -->\n"


def table(report: Path) -> str:
    """Return the share of each folder, and of all, as a table in Markdown."""
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
        f"| {row} | {lines[row]:,} | {covered[row] / lines[row]:.1%} |\n"
        for row in sorted(lines, key=lambda row: (row == "all", row))
        if lines[row]
    ]
    return "| code | statements | run by the default tests |\n|---|---|---|\n" + "".join(rows)


def _row_of(path: str) -> str:
    """Return the room, the group of files beside the steps, or the folder at the top."""
    top, *below = Path(path).parts
    if top != "steps":
        return f"`{top}/`"
    return f"`steps/{below[0]}/`" if len(below) > 1 else "`steps/*.py`"


def with_table(page: str, rows: str) -> str:
    """Return the page with these rows between its two markers; raise BadInput where a marker is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BadInput(
            f"the page needs the lines '{BEGIN.strip()}' and '{END.strip()}' around the figure; add them."
        )
    return f"{before}{begin}\n{rows}\n{end}{after}"


def main() -> int:
    """Write the table; return 0, or 2 where the report or a marker is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.coverage_figure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--report", type=Path, default=REPORT, help=f"what coverage wrote ({REPORT})")
    parser.add_argument("--page", type=Path, default=PAGE, help=f"the page with the two markers ({PAGE})")
    flags = parser.parse_args()
    try:
        if not flags.page.is_file():
            raise BadInput(f"{flags.page} is not there; it holds the figure.")
        rows = table(flags.report)
        write_whole(flags.page, with_table(flags.page.read_text(), rows).encode())
    except BadInput as fault:
        say(f"coverage: {fault}")
        return fault.exit_code
    say(f"coverage: {rows.splitlines()[-1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

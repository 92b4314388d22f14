"""Remove the files of engines that are no longer in params.yaml: `make prune`, before a bare `dvc repro`.

The flow removes these files by itself. DVC would treat the files as part of data/build and data/evaluate.
"""

import argparse
import sys
from pathlib import Path

from flows.graph import prune
from steps.errors import BadInput
from steps.params import load_params
from steps.progress import say

PARAMS = Path("params.yaml")


def main() -> int:
    """Remove the files and name each of them; return 0, or 2 where params.yaml has faults."""
    argparse.ArgumentParser(
        prog="python -m tools.prune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    try:
        load_params(PARAMS)  # DVC reads the engines from it
    except BadInput as fault:
        say(f"prune: {fault}")
        return BadInput.exit_code
    removed = prune()
    for name in removed:
        say(f"removed {name}")
    say("nothing was left over" if not removed else f"{len(removed)} leftover(s) removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

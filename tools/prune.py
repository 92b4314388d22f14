"""Remove what an engine that was dropped from params.yaml left behind: `make prune`, before a bare `dvc repro`.

The flow does the same by itself. DVC would take the files for part of data/build and data/evaluate.
"""

import sys

from flows.graph import prune
from steps.progress import say


def main() -> int:
    """Prune, and name each thing that went."""
    removed = prune()
    for name in removed:
        say(f"removed {name}")
    say("nothing was left over" if not removed else f"{len(removed)} leftover(s) removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

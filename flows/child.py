"""Run a module as a child process of the flow: the child and its own children end when the flow ends.

The flow starts this file as the leader of a process group:
`python -P flows/child.py PARENT SIGNAL MODULE ARGUMENTS...`
"""

import os
import runpy
import signal
import sys
from pathlib import Path
from types import FrameType

ROOT = str(Path(__file__).resolve().parent.parent)


def main() -> int:
    """Run `python -m MODULE ARGUMENTS...` in this process, which gets SIGNAL when the process PARENT ends."""
    parent, ending, module, *arguments = sys.argv[1:]
    signal.signal(signal.SIGTERM, _end_group)
    _end_with(int(parent), signal.Signals[ending])
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def _end_with(parent: int, ending: signal.Signals) -> None:
    """Let this process end with its parent.

    `-P` keeps the project's folder off the import path, because its files could hide packages. The folder is added
    here only for one import.
    """
    sys.path.insert(0, ROOT)
    from steps.files import end_with_parent

    sys.path.remove(ROOT)
    end_with_parent(parent, ending)


def _end_group(_signal: int, _frame: FrameType | None) -> None:
    """Send SIGTERM to the whole process group, which includes this process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.killpg(os.getpgrp(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())

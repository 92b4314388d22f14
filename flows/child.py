"""A module as a child of the flow: it ends when the flow ends, with everything that it started.

Run as a file and as the leader of a process group: `python -P flows/child.py PARENT SIGNAL MODULE ARGUMENTS...`
"""

import ctypes
import os
import runpy
import signal
import sys
from types import FrameType

PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run `python -m MODULE ARGUMENTS...` in this process, which is sent SIGNAL when the process PARENT ends."""
    parent, ending, module, *arguments = sys.argv[1:]
    signal.signal(signal.SIGTERM, _end_group)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.Signals[ending])
    if os.getppid() != int(parent):  # it ended before the line above took hold
        return 1
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def _end_group(_signal: int, _frame: FrameType | None) -> None:
    """Pass the signal on to the whole group; this process, for which it is no longer caught, ends with it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.killpg(os.getpgrp(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())

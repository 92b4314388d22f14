"""dvc as a child of the flow: it ends when the flow ends, with everything that it started.

Run as a file, `python -P flows/child.py PARENT ARGUMENTS...`, as the leader of a process group of its own.
"""

import ctypes
import os
import signal
import sys
from types import FrameType

PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run `dvc ARGUMENTS...` in this process, tied to the life of the process PARENT."""
    parent, *arguments = sys.argv[1:]
    signal.signal(signal.SIGTERM, _end_group)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it ended before the line above took hold
        return 1
    from dvc.cli import main as dvc

    code: int = dvc(arguments)
    return code


def _end_group(_signal: int, _frame: FrameType | None) -> None:
    """Pass the signal on to the whole group; this process, for which it is no longer caught, ends with it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.killpg(os.getpgrp(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())

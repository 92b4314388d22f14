"""Files are written whole or not at all, by one writer at a time, and a writer ends with its parent process."""

import contextlib
import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from steps.errors import BadInput

LOCKS = Path(".foldline/locks")
LOCK_PATIENCE_SECONDS = 10.0  # an orphan of a killed run needs a moment to notice and end
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def sha256(path: Path) -> str:
    """Return the file's checksum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to a hidden sibling and rename it: a reader sees all of the file or none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_folder(written: Path, out: Path) -> None:
    """Make `written` the folder `out`; what stood there before is gone."""
    if out.exists():
        old = out.with_name(f".{out.name}.old.tmp")  # renamed, then deleted: no reader ever sees half of a folder
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
        shutil.rmtree(old)
    written.rename(out)


def merge_into_folder(written: Path, out: Path, last: str) -> None:
    """Move each file of `written` into the folder `out`, which other writers share; the file `last` comes last."""
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(written.iterdir(), key=lambda path: (path.name == last, path.name)):
        try:
            file.replace(out / file.name)
        except OSError as fault:
            raise BadInput(f"{out / file.name} cannot be replaced: {fault.strerror}; remove it.") from fault
    written.rmdir()


@contextlib.contextmanager
def temporary_folder(folder: Path) -> Iterator[None]:
    """Make `folder` new and empty, and leave none behind, whatever happens."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def only_writer(written: Path) -> Iterator[None]:
    """Hold the lock of this output, or raise BadInput when another run keeps it."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    name = str(written).replace(os.sep, "_")
    with (LOCKS / f"{name}.lock").open("w") as lock:
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while not _locked(lock.fileno()):
            if time.monotonic() > deadline:
                raise BadInput(f"another run is writing {written.parent}; wait for it to end or stop it.")
            time.sleep(0.2)
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def end_with_parent(parent: int, ending: signal.Signals = signal.SIGKILL) -> None:
    """Ask Linux to send `ending` to this process when its parent ends, and end now where `parent` is gone already.

    A killed run must leave no orphan that writes beside its successor. SIGKILL by default: whoever started the
    parent may have set SIGTERM to be ignored, for all that it starts. The request is kept across exec.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, ending)
        if os.getppid() != parent:  # it ended before the line above took hold
            os._exit(1)

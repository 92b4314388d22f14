"""Files are written completely or not at all, by one writer at a time. A writer ends when its parent ends."""

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
LOCK_PATIENCE_SECONDS = 10.0  # after a run is killed, its child processes need some time to end
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def sha256(path: Path) -> str:
    """Return the file's checksum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to a hidden file and rename that file, so that a reader never sees an incomplete file."""
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
    """Rename the folder `written` to `out`; a previous folder `out` is deleted."""
    if out.exists():
        old = out.with_name(f".{out.name}.old.tmp")  # rename first, so that no reader sees an incomplete folder
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
        shutil.rmtree(old)
    written.rename(out)


def merge_into_folder(written: Path, out: Path, last: str) -> None:
    """Move each file of `written` into the shared folder `out`; the file called `last` is moved last."""
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(written.iterdir(), key=lambda path: (path.name == last, path.name)):
        try:
            file.replace(out / file.name)
        except OSError as fault:
            raise BadInput(f"{out / file.name} cannot be replaced: {fault.strerror}; remove it.") from fault
    written.rmdir()


@contextlib.contextmanager
def temporary_folder(folder: Path) -> Iterator[None]:
    """Create `folder` empty, and always delete it at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def only_writer(written: Path) -> Iterator[None]:
    """Hold the lock of this output; raise BadInput if another run holds that lock for too long."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    name = str(written).replace(os.sep, "_")
    with (LOCKS / f"{name}.lock").open("w") as lock:
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while not _locked(lock.fileno()):
            if time.monotonic() > deadline:
                raise BadInput(f"another run is writing {written.parent}; wait for that run to end, or stop it.")
            time.sleep(0.2)
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def end_with_parent(parent: int, ending: signal.Signals = signal.SIGKILL) -> None:
    """Ask Linux to send the signal `ending` to this process when the process `parent` ends.

    This process ends now if `parent` has already ended. Otherwise a killed run could leave a process that writes
    at the same time as the next run. The default is SIGKILL, because a process may inherit that SIGTERM is
    ignored. The request stays valid after exec.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, ending)
        if os.getppid() != parent:  # the parent ended before the call above
            os._exit(1)

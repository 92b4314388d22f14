"""Files are written completely or not at all, by one writer at a time. A writer ends when its parent ends."""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar

from steps.errors import BadInput, StepError

LOCKS = Path(".foldline/locks")
LOCK_PATIENCE_SECONDS = 10.0  # after a run is killed, its child processes need some time to end
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CANNOT_RESERVE = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV}
OS_ERROR = re.compile(r"\(os error (\d+)\)")  # polars writes the number only into its message
FULL_BYTES = 64 * 1024  # a file system with less free space counts as full
CHUNK_BYTES = 2**20


class NoSpace(StepError):
    """A disk without space for `path`; the step publishes nothing.

    The message is made when it is printed: by then, the step has deleted its unfinished output, so the free bytes
    are those that the next run will find.
    """

    exit_code: ClassVar[int] = 3

    def __init__(
        self, path: Path, needed: int | None = None, number: int = errno.ENOSPC, message: str = ""
    ) -> None:
        super().__init__(path, needed, number, message)  # the arguments, so that the exception can be pickled
        self.path, self.needed, self.number, self.message = path, needed, number, message

    def __str__(self) -> str:
        after = f" The error was: {self.message}" if self.message else ""
        return f"{self.figures()}. Free some space there, then run the step again.{after}"

    def figures(self) -> str:
        """Return the path, the needed and the free bytes as a sentence without its full stop."""
        free = f"{free_bytes(self.path):,} bytes"
        needed = "more bytes" if self.needed is None else f"{self.needed:,} bytes"
        if self.number == errno.EFBIG:
            limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
            most = "fewer" if limit == resource.RLIM_INFINITY else f"at most {limit:,} bytes (ulimit -f)"
            return f"{self.path} needs {needed}, but a file there may have {most}; {free} are free there"
        if self.number == errno.EDQUOT:
            return f"{self.path} needs {needed}, but the disk quota is used up; {free} are free there"
        if self.needed is None:
            return f"{self.path} needs more than the {free} that are free there"
        return f"{self.path} needs {needed}, but only {free} are free there"


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
    except OSError as fault:
        fault.filename = fault.filename or os.fspath(path)  # a failed write does not name its file
        raise
    finally:
        temporary.unlink(missing_ok=True)


def reserve(file: BinaryIO, path: Path, size: int) -> None:
    """Reserve `size` bytes on the disk from the file's position on; raise NoSpace if they do not fit."""
    file.flush()
    with space_for(path, size):
        try:
            os.posix_fallocate(file.fileno(), file.tell(), size)
        except OSError as fault:
            if fault.errno not in CANNOT_RESERVE:
                raise
            _write_zeros(file, size)


def _write_zeros(file: BinaryIO, size: int) -> None:
    """Write `size` zero bytes and return to the position before them."""
    begin = file.tell()
    for written in range(0, size, CHUNK_BYTES):
        file.write(bytes(min(CHUNK_BYTES, size - written)))
    file.flush()
    file.seek(begin)


@contextlib.contextmanager
def space_for(path: Path, needed: int | None = None) -> Iterator[None]:
    """Raise NoSpace for `path` where a write in the block finds no space."""
    try:
        yield
    except OSError as fault:
        if fault.errno in NO_SPACE:
            raise NoSpace(path, needed, fault.errno) from fault
        raise


@contextlib.contextmanager
def full_disk_named(places: Sequence[Path]) -> Iterator[None]:
    """Raise NoSpace where a disk without space caused the block's error, whatever library wrote the file.

    Where the error names no file, the place in `places` with the fewest free bytes is named.
    """
    try:
        yield
    except Exception as fault:
        no_space = _no_space(fault, places)
        if no_space is None or no_space is fault:
            raise
        raise no_space from None


def free_bytes(path: Path) -> int:
    """Return the free bytes of the file system of `path`, which need not exist."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize


def _no_space(fault: Exception, places: Sequence[Path]) -> NoSpace | None:
    """Return the NoSpace of an error, or of an error that caused it; return None for any other error."""
    fullest = min(places, key=free_bytes)
    for cause in _causes(fault):
        if isinstance(cause, NoSpace):
            return cause
        number = _number(cause)
        if number in NO_SPACE:
            return NoSpace(min(_names(cause), key=free_bytes, default=fullest), number=number)
    if isinstance(fault, StepError) or free_bytes(fullest) >= FULL_BYTES:
        return None
    message = " ".join(f"{type(fault).__name__}: {fault}".split())  # OpenVINO says only "iostream error"
    return NoSpace(fullest, message=message)


def _causes(fault: BaseException) -> Iterator[BaseException]:
    """Yield the error, the error that caused it, and so on."""
    cause: BaseException | None = fault
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        yield cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__


def _names(fault: BaseException) -> list[Path]:
    """Return the files that the error names; a failed copy names its source too, after the target."""
    names = (getattr(fault, "filename2", None), getattr(fault, "filename", None))
    return [Path(os.fsdecode(name)) for name in names if isinstance(name, str | bytes)]


def _number(fault: BaseException) -> int | None:
    """Return the error's errno, or the one that its message contains."""
    if isinstance(fault, OSError) and fault.errno is not None:
        return fault.errno
    message = "" if isinstance(fault, NoSpace) else str(fault)
    found = OS_ERROR.search(message)
    if found:
        return int(found[1])
    return next((number for number in NO_SPACE if os.strerror(number) in message), None)


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
            if fault.errno in NO_SPACE:
                raise
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

"""A small disk: a file system of 4 MiB, which a test can fill."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE = 4 * 2**20


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of SIZE bytes at `folder`; skip the test if this process may not mount."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", os.fspath(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs the command mount")
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a file system ({mounted.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", os.fspath(folder)], check=True)


def fill(disk: Path, but: int = 0) -> None:
    """Write a file that leaves about `but` bytes free."""
    status = os.statvfs(disk)
    (disk / "filling").write_bytes(bytes(status.f_bavail * status.f_frsize - but))

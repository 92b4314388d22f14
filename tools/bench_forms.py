"""The forms that tools.bench measures, each opened in its own process (tools.bench_child)."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from steps.errors import BadInput
from steps.progress import say, track


class Child:
    """A form in its own process."""

    def __init__(self, folder: Path, threads: int) -> None:
        command = [sys.executable, "-m", "tools.bench_child", str(folder), str(threads)]
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.peak_bytes = 0

    def refusal(self) -> str | None:
        """Wait until the form is open; return the reason why the form cannot be opened, or None."""
        assert self.process.stdout is not None and self.process.stderr is not None
        if self.process.stdout.readline().strip() == "ready":
            return None
        lines = self.process.stderr.read().strip().splitlines()
        return lines[-1] if lines else "its process ended without a message"

    def call(self, batch: int) -> tuple[float, float]:
        """Return the milliseconds of one call: wall-clock time and CPU time."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(f"{batch}\n")
            self.process.stdin.flush()
            wall, cpu, peak = self.process.stdout.readline().split()
        except (BrokenPipeError, ValueError) as fault:
            raise BadInput(
                f"a form's process ended with {batch} images at once; give smaller --batches."
            ) from fault
        self.peak_bytes = int(peak)
        return float(wall), float(cpu)


@contextmanager
def opened_forms(folders: dict[str, Path], threads: int) -> Iterator[tuple[dict[str, Child], dict[str, str]]]:
    """Yield the opened forms, and form -> reason for all others; end all processes afterwards."""
    with ExitStack() as stack:
        opened: dict[str, Child] = {}
        refused: dict[str, str] = {}
        for name, folder in track(folders.items(), f"open, {threads} thread(s)", len(folders), "forms"):
            child = Child(folder, threads)
            stack.callback(_end, child.process)
            refusal = child.refusal()
            if refusal is None:
                opened[name] = child
            else:
                say(f"bench: {name} is not run: {refusal}")
                refused[name] = refusal
        yield opened, refused


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()

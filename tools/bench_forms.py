"""The forms that tools.bench measures, each opened in a process of its own (tools.bench_child)."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from steps.errors import BadInput
from steps.progress import say, track


class Child:
    """A form in a process of its own."""

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
        """Wait until the form is open; return why it cannot be, or None."""
        assert self.process.stdout is not None and self.process.stderr is not None
        if self.process.stdout.readline().strip() == "ready":
            return None
        said = self.process.stderr.read().strip().splitlines()
        return said[-1] if said else "its process ended without a word"

    def call(self, batch: int) -> tuple[float, float]:
        """Return the milliseconds of one call: on the clock, and of CPU time."""
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
    """Start a process a form; give those that opened it, and of the others why not. None outlives the context."""
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

"""A small line that ran undisturbed from end to end: the reference for a disturbed line."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.clone import draw_images, environment, fresh_clone, set_params

PER_CLASS = 20
POLL_SECONDS = 0.02
SECONDS = "seconds.json"


def start_dvc(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start dvc in `folder`; write the output of dvc and its steps to said.txt next to the folder.

    The shell is /bin/sh, as without a login: it stays between dvc and a command that does not use `exec`.
    """
    command = [sys.executable, "-m", "dvc", *arguments]
    there = {**environment(), "SHELL": "/bin/sh"}
    with said_in(folder).open("w") as message:
        return subprocess.Popen(command, cwd=folder, env=there, stdout=message, stderr=message, text=True)


def said_in(folder: Path) -> Path:
    return folder.parent / f"{folder.name}.said.txt"


def hidden_of(stage: str) -> Path:
    """Return the temporary path to which the step of this stage writes until it is done."""
    step, _, item = stage.partition("@")
    if step.startswith("evaluate"):
        return Path(f"data/.evaluate.{item}.tmp")
    return Path(f"data/build/.{item}.{item}.tmp") if item else Path(f"data/.{step}.tmp")


@dataclass(frozen=True)
class Line:
    """A clone in which `dvc repro` ran: the final names of each stage, and for how many seconds it wrote."""

    folder: Path
    outs: dict[str, list[Path]]
    seconds: dict[str, float]

    @property
    def lock(self) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load((self.folder / "dvc.lock").read_text())
        return content

    def outputs(self, stage: str) -> dict[Path, dict[str, bytes]]:
        """Return the contents of each final name of this stage, without names that do not exist."""
        return {out: _contents(self.folder / out) for out in self.outs[stage] if (self.folder / out).exists()}

    def copy(self, folder: Path) -> "Line":
        """Return the same line in another folder, where dvc and the steps have no records of earlier runs."""
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns(".foldline"))
        shutil.rmtree(folder / ".dvc/cache/runs")
        return Line(folder, self.outs, self.seconds)

    def forget(self, stage: str) -> None:
        """Turn the line into one in which this stage has not run yet."""
        outputs, lock = self.outputs(stage), self.lock
        for out in outputs:
            path = self.folder / out
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        del lock["stages"][stage]
        (self.folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))


def make_line(root: Path) -> None:
    """Run three classes of coloured discs through the whole line; bounds are wide for only 15 test images.

    Write the seconds that each stage wrote next to the line, for `read_line`.
    """
    folder = fresh_clone(root / "line")
    draw_images(folder / "data/raw", PER_CLASS)
    set_params(
        folder,
        ingest={"source": "data/raw"},
        train={"epochs": 8, "batch_size": 8, "lr": 0.05, "preprocess": {"side": 16}},
        gate={"max_top1_drop": 0.5, "max_recall_drop": 1.0},
    )
    outs = _final_names(folder)
    process = start_dvc(folder, "repro")
    seen: dict[str, list[float]] = {stage: [] for stage in outs}
    while process.poll() is None:
        for stage, times in seen.items():
            if (folder / hidden_of(stage)).exists():
                times.append(time.monotonic())
        time.sleep(POLL_SECONDS)
    assert process.returncode == 0, said_in(folder).read_text()
    seconds = {stage: times[-1] - times[0] if times else 0.0 for stage, times in seen.items()}
    (root / SECONDS).write_text(json.dumps(seconds))


def read_line(root: Path) -> Line:
    """Return the line that `make_line` made in this folder."""
    folder = root / "line"
    return Line(folder, _final_names(folder), json.loads((root / SECONDS).read_text()))


def processes_in(folder: Path) -> dict[int, str]:
    """Return the command line of each living process that runs in `folder`, by process id."""
    return dict(_processes(folder))


def _final_names(folder: Path) -> dict[str, list[Path]]:
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        return {
            stage.name: [Path(out.fs_path).relative_to(folder) for out in stage.outs]
            for stage in repo.index.stages
        }


def _processes(folder: Path) -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                at_work = (entry / "cwd").readlink().is_relative_to(folder)
                command = (entry / "cmdline").read_bytes()
            except OSError:  # the process ended meanwhile, or belongs to another user
                continue
            if at_work:
                yield int(entry.name), command.replace(b"\0", b" ").decode(errors="replace").strip()


def _contents(out: Path) -> dict[str, bytes]:
    files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}

"""The stage graph, read through DVC: it stands in dvc.yaml and nowhere else.

Stages go by DVC's addresses (`train`, `evaluate@export`, `data/raw.dvc`); a group's name stands for all of it.
Each function opens the repository anew (some 20 ms): what a stage run in another process changed is then seen.
"""

import os
from pathlib import Path

from dvc.dvcfile import LOCK_FILE, PROJECT_FILE
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.stage import Stage
from dvc.utils.serialize import load_yaml, modify_yaml

from steps.errors import NOT_IN_GIT, BadInput, did_you_mean
from steps.reports.base import read_refusal

REPORTS = ("report.json", "certificate.json", "verdict.json")  # what a step calls its report, in its folder
SHARED_FOLDERS = (Path("data/build"), Path("data/evaluate"))  # one stage an engine writes here


def plan(since: str | None = None, until: str | None = None) -> list[str]:
    """Return the stages to run, in the order of `dvc repro`.

    `until` leaves only that stage and what it needs; `since` leaves out what that stage needs, which must
    then be there already.
    """
    with Repo(_wait_for_lock=True) as repo:
        graph = get_active_graph(repo.index.graph)
        order: list[Stage] = plan_repro(graph)
    wanted = set(order)
    if until is not None:
        wanted &= set(plan_repro(graph, _named(until, order)))
    if since is not None:
        first = _named(since, order)
        skipped = set(plan_repro(graph, first)) - set(first)
        wanted -= skipped
        _must_be_there(since, skipped, wanted)
    _must_have_sources([stage for stage in order if stage in wanted], order)
    return [stage.addressing for stage in order if stage in wanted]


def is_unchanged(address: str) -> bool:
    """Tell whether the stage's code, params, inputs and outputs are those of dvc.lock."""
    with Repo(_wait_for_lock=True) as repo:
        (stage,) = repo.stage.collect(address)
        with lock_repo(repo):
            return not stage.changed()


def report_of(address: str) -> Path | None:
    """Return the stage's own report, or None where it wrote none."""
    with Repo(_wait_for_lock=True) as repo:
        (stage,) = repo.stage.collect(address)
        outs = [Path(out.fs_path) for out in stage.outs if not out.metric]
    candidates = [out for out in outs if out.suffix == ".json"]
    candidates += [out / name for out in outs for name in REPORTS]
    return next((path for path in candidates if path.is_file()), None)


def refusal(address: str) -> str | None:
    """Return the sentence with which the stage's own report says no, or None."""
    report = report_of(address)
    return read_refusal(report) if report else None


def prune() -> list[str]:
    """Remove what a dropped engine left behind, and return it: files in shared folders, entries of dvc.lock."""
    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        outs = {Path(out.fs_path) for out in repo.index.outs}
        names = {stage.name for stage in repo.index.stages if stage.path_in_repo == PROJECT_FILE}
        root = Path(repo.root_dir)
        gone = [file for folder in SHARED_FOLDERS for file in _leftovers(root / folder, outs)]
        for file in gone:
            file.unlink()
        for folder in SHARED_FOLDERS:
            _remove_empty_folders(root / folder)
        return [str(file.relative_to(root)) for file in gone] + _forget_stages(root / LOCK_FILE, names)


def _named(name: str, order: list[Stage]) -> list[Stage]:
    """Return the stage of this address, or the stages of this group."""
    found = [stage for stage in order if name in (stage.addressing, stage.addressing.split("@")[0])]
    if not found:
        known = [stage.addressing for stage in order]
        raise BadInput(f"dvc.yaml has no stage '{name}'.{did_you_mean(name, known)} It has: {', '.join(known)}.")
    return found


def _must_be_there(since: str, skipped: set[Stage], wanted: set[Stage]) -> None:
    """Refuse to start in the middle where an output of an earlier stage is missing."""
    read = {dep.fs_path for stage in wanted for dep in stage.deps}
    missing = [
        f"{out} (of {stage.addressing})"
        for stage in sorted(skipped, key=lambda stage: str(stage.addressing))
        for out in stage.outs
        if not out.exists and any(Path(dep).is_relative_to(out.fs_path) for dep in read)
    ]
    if missing:
        raise BadInput(
            f"a run that starts at {since} needs {', '.join(missing)}. Run the whole line, or `dvc pull` first."
        )


def _must_have_sources(wanted: list[Stage], order: list[Stage]) -> None:
    """Refuse to start where what no stage makes is missing: DVC would clear the outputs before it notices."""
    made = [Path(out.fs_path) for stage in order if stage.cmd for out in stage.outs]
    for stage in wanted:
        read = [] if stage.is_import else stage.deps if stage.cmd else stage.outs
        for path in (Path(source.fs_path) for source in read if source.protocol == "local"):
            is_made = any(path.is_relative_to(out) or out.is_relative_to(path) for out in made)
            if not is_made and not path.exists():
                raise BadInput(
                    f"{stage.addressing} needs {os.path.relpath(path)}, which is not there. {NOT_IN_GIT}"
                )


def _leftovers(folder: Path, outs: set[Path]) -> list[Path]:
    """Return the files below `folder` that no stage writes; hidden ones belong to a step at work."""
    files = [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]
    return sorted(
        file
        for file in files
        if not outs & {file, *file.parents}
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def _remove_empty_folders(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()


def _forget_stages(lock: Path, names: set[str]) -> list[str]:
    """Drop the entries of dvc.lock whose stage is no longer in dvc.yaml."""
    gone = [name for name in load_yaml(lock).get("stages", {}) if name not in names] if lock.exists() else []
    if gone:
        with modify_yaml(lock) as content:
            for name in gone:
                del content["stages"][name]
    return [f"{name} in {LOCK_FILE}" for name in gone]

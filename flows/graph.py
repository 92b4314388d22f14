"""The stage graph, read through DVC; dvc.yaml is its only definition.

Stages have DVC's addresses (`train`, `evaluate-onnx@export`, `data/raw.dvc`). A group's name means all its stages,
and a step's name means all stages that run the step. Each function opens the repository again (about 20 ms),
because another process may have run a stage in the meantime.
"""

import re
from pathlib import Path
from typing import Any

from dvc.dependency import Dependency
from dvc.dvcfile import LOCK_FILE, PROJECT_FILE
from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.stage import Stage
from dvc.utils.serialize import load_yaml, modify_yaml

from steps.errors import NOT_IN_GIT, BadInput, did_you_mean
from steps.reports.base import read_refusal

REPORTS = ("report.json", "certificate.json", "verdict.json")  # possible names of a step's report in its folder
PARAMS_FILE = "params.yaml"
KEY = re.compile(r"\$\{([\w.]+)\}")  # a reference in dvc.yaml to a key of params.yaml
SHARED_FOLDERS = (Path("data/build"), Path("data/evaluate"))  # one stage per engine writes into these folders


def plan(since: str | None = None, until: str | None = None) -> list[str]:
    """Return the stages to run, in the order of `dvc repro`.

    `until` keeps only that stage and the stages that it needs. `since` leaves out the stages that this stage
    needs. Raises BadInput if an output of a skipped stage is missing, or a file that no stage writes, such as the
    images.
    """
    with Repo(_wait_for_lock=True) as repo:
        try:
            graph = get_active_graph(repo.index.graph)
        except DvcException as fault:
            raise BadInput(f"dvc finds no order of the stages: {' '.join(str(fault).split())}") from fault
        order: list[Stage] = plan_repro(graph)
    selected = set(order)
    if until is not None:
        selected &= set(plan_repro(graph, _named(until, order)))
    if since is not None:
        first = _named(since, order)
        skipped = set(plan_repro(graph, first)) - set(first)
        selected -= skipped
        _check_skipped_outputs(since, skipped, selected)
    stages = [stage for stage in order if stage in selected]
    _check_source_files(repo, stages)
    return [stage.addressing for stage in stages]


def is_unchanged(address: str) -> bool:
    """Tell whether the stage's code, params, inputs and outputs are the same as in dvc.lock."""
    with Repo(_wait_for_lock=True) as repo:
        (stage,) = repo.stage.collect(address)
        with lock_repo(repo):
            return not stage.changed()


def report_of(address: str) -> Path | None:
    """Return the path of the stage's report, or None if there is no report."""
    with Repo(_wait_for_lock=True) as repo:
        (stage,) = repo.stage.collect(address)
        outs = [Path(out.fs_path) for out in stage.outs if not out.metric]
    candidates = [out for out in outs if out.suffix == ".json"]
    candidates += [out / name for out in outs for name in REPORTS]
    return next((path for path in candidates if path.is_file()), None)


def refusal(address: str) -> str | None:
    """Return the sentence of the refusal in the stage's report, or None."""
    report = report_of(address)
    return read_refusal(report) if report else None


def prune() -> list[str]:
    """Remove and return what removed engines left behind: files in shared folders, and entries of dvc.lock."""
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
    """Return the stage with this address, or the stages of the group or of the step with this name."""
    found = [stage for stage in order if name in _names_of(stage)]
    if not found:
        known = [stage.addressing for stage in order]
        raise BadInput(f"dvc.yaml has no stage '{name}'.{did_you_mean(name, known)} It has: {', '.join(known)}.")
    return found


def _names_of(stage: Stage) -> tuple[str, str, str]:
    """Return the names that select this stage: its address, its group, its step."""
    group = stage.addressing.split("@")[0]
    return stage.addressing, group, group.split("-")[0]  # the groups of evaluate are `evaluate` and `evaluate-...`


def _check_skipped_outputs(since: str, skipped: set[Stage], selected: set[Stage]) -> None:
    """Raise BadInput if an output of a skipped stage is missing and a selected stage reads that output."""
    read = [dep.fs_path for stage in selected for dep in stage.deps]
    missing = [
        f"{out} (of {stage.addressing})"
        for stage in sorted(skipped, key=lambda stage: str(stage.addressing))
        for out in stage.outs
        if not out.exists and any(_overlap(dep, out.fs_path) for dep in read)
    ]
    if missing:
        raise BadInput(
            f"a run that starts at {since} needs {', '.join(missing)}. Run the whole line, or `dvc pull` first."
        )


def _check_source_files(repo: Repo, stages: list[Stage]) -> None:
    """Raise BadInput if a dependency that no stage writes is missing; dvc would fail too, but much later."""
    written = [out.fs_path for stage in repo.index.stages if stage.cmd or stage.is_import for out in stage.outs]
    needed = [(dep, stage) for stage in stages for dep in stage.deps]
    missing: dict[str, str] = {}
    for dep, stage in needed:
        is_missing = type(dep) is Dependency and dep.protocol == "local" and not Path(dep.fs_path).exists()
        if is_missing and not any(_overlap(dep.fs_path, out) for out in written):
            missing.setdefault(dep.fs_path, _missing_input(repo, dep, stage))
    if missing:
        raise BadInput("\n".join(missing.values()))


def _missing_input(repo: Repo, dep: Dependency, stage: Stage) -> str:
    """Return the message about a missing dependency; it begins with the key of params.yaml that has the path."""
    root = Path(repo.root_dir)
    params = load_yaml(root / PARAMS_FILE)
    keys = dict.fromkeys(KEY.findall((root / PROJECT_FILE).read_text()))
    named = [key for key in keys if (value := _value(params, key)) and Path(dep.fs_path) == root / value]
    sentence = f"{dep.def_path} is not there; {stage.addressing} reads it, and no stage writes it."
    if named:
        return f"{named[0]}: {sentence} Put it there, or name an existing path. {NOT_IN_GIT}"
    return f"{sentence} Restore it from git or with `dvc pull`."


def _overlap(one: str, other: str) -> bool:
    """Tell whether the paths are equal, or one path lies in the other."""
    return Path(one).is_relative_to(other) or Path(other).is_relative_to(one)


def _value(params: Any, key: str) -> str | None:
    """Return the text at the dotted key, or None."""
    for part in key.split("."):
        params = params.get(part) if isinstance(params, dict) else None
    return params if isinstance(params, str) else None


def _leftovers(folder: Path, outs: set[Path]) -> list[Path]:
    """Return the files below `folder` that no stage writes, without hidden files, which a running step may own."""
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
    """Remove the entries of dvc.lock whose stage is no longer in dvc.yaml."""
    gone = [name for name in load_yaml(lock).get("stages", {}) if name not in names] if lock.exists() else []
    if gone:
        with modify_yaml(lock) as content:
            for name in gone:
                del content["stages"][name]
    return [f"{name} in {LOCK_FILE}" for name in gone]

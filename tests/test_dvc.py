"""DVC as its users use it: a remote, another clone, an experiment, and a return to an earlier commit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.clone import dvc, environment
from tests.finished import Line

pytestmark = pytest.mark.slow
BEFORE_TRAIN = ("ingest", "validate", "split")
AUTHOR = ("-c", "user.name=A Person", "-c", "user.email=person@example.org")


@pytest.fixture
def line(finished_line: Line, tmp_path: Path) -> Line:
    """A finished line in a commit; its default remote is next to it, in the same temporary folder."""
    copied = finished_line.copy(tmp_path / "line")
    git(copied.folder, "add", "--all")
    git(copied.folder, *AUTHOR, "commit", "-qm", "The line as it ran")
    return copied


@pytest.fixture
def clone(line: Line, tmp_path: Path) -> Line:
    """Another user's copy after the line's author pushed: a clone, and the images, which are not in git."""
    pushed = dvc(line.folder, "push")
    assert pushed.returncode == 0, pushed.stderr
    git(tmp_path, "clone", "-q", "line", "clone")
    shutil.copytree(line.folder / "data/raw", tmp_path / "clone/data/raw", dirs_exist_ok=True)
    return Line(tmp_path / "clone", line.outs, line.seconds)


def test_what_was_pushed_is_pulled_whole_and_nothing_is_left_to_run(line: Line, clone: Line) -> None:
    pulled = dvc(clone.folder, "pull")
    assert pulled.returncode == 0, pulled.stderr
    assert all(clone.outputs(stage) == line.outputs(stage) for stage in line.outs)
    done = dvc(clone.folder, "repro")
    assert done.returncode == 0 and "Running stage" not in done.stdout, done.stdout + done.stderr
    assert git(clone.folder, "status", "--porcelain") == ""


def test_a_file_that_went_bad_on_the_remote_is_not_pulled(line: Line, clone: Line) -> None:
    path = Path("data/evaluate/export.parquet")
    (digest,) = (
        out["md5"] for out in line.lock["stages"]["evaluate-onnx@export"]["outs"] if out["path"] == str(path)
    )
    stored = line.folder.parent / "foldline-remote/files/md5" / digest[:2] / digest[2:]
    stored.chmod(0o644)
    stored.write_bytes(stored.read_bytes()[:-1] + b"?")
    assert dvc(clone.folder, "pull").returncode != 0
    assert not (clone.folder / path).exists()


def test_an_experiment_reruns_from_train_on_and_the_way_back_is_open(line: Line, finished_line: Line) -> None:
    ran = dvc(line.folder, "exp", "run", "-S", "train.lr=0.04", "-S", "train.epochs=6")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rerun = [stage for stage in line.outs if f"Running stage '{stage}'" in ran.stdout]
    assert rerun == [stage for stage in line.outs if stage not in (*BEFORE_TRAIN, "evaluate-onnx@champion")]
    params = yaml.safe_load((line.folder / "params.yaml").read_text())
    assert (params["train"]["lr"], params["train"]["epochs"]) == (0.04, 6)
    assert line.outputs("train") != finished_line.outputs("train")
    again = dvc(line.folder, "repro")
    assert again.returncode == 0 and "Running stage" not in again.stdout
    git(line.folder, "checkout", "-q", "--", "params.yaml", "dvc.lock")
    assert dvc(line.folder, "checkout").returncode == 0
    assert all(line.outputs(stage) == finished_line.outputs(stage) for stage in line.outs)


def test_an_edited_network_changes_the_stages_that_make_it_and_no_other(line: Line) -> None:
    assert json.loads(dvc(line.folder, "status", "--json").stdout) == {}
    (line.folder / "networks/my_nets.py").write_text("# a network\n")
    changed = json.loads(dvc(line.folder, "status", "--json").stdout)
    assert set(changed) == {"train", "fuse", "evaluate@train", "evaluate@fuse"}
    assert all(facts == [{"changed deps": {"networks": "modified"}}] for facts in changed.values())


@pytest.fixture
def ambient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The bin folder of a conda base with pydantic and a python, but without polars; PATH finds dvc there."""
    (tmp_path / "conda/lib/python3.11/site-packages/pydantic").mkdir(parents=True)
    (tmp_path / "conda/bin").mkdir()
    (tmp_path / "conda/bin/python").symlink_to("/bin/false")
    (tmp_path / "conda/bin/python3").symlink_to("/bin/false")
    for name in ("CONDA_PREFIX", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, str(tmp_path / "conda"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{tmp_path}/conda/bin:{os.environ['PATH']}")
    return tmp_path / "conda/bin"


@pytest.mark.parametrize("images", ["copied", "in DVC"])
def test_an_experiment_in_a_copy_runs_with_the_python_of_dvc(line: Line, ambient: Path, images: str) -> None:
    copied = ("--copy-paths", "data/raw") if images == "copied" else ()
    if images == "in DVC":
        plain_dvc(line.folder, "add", "data/raw")
        git(line.folder, "add", "--all")
        git(line.folder, *AUTHOR, "commit", "-qm", "The images")
    log = plain_dvc(line.folder, "exp", "run", "--temp", *copied, "-S", "gate.max_top1_drop=0.4")
    assert "verdict: PASS" in log and "Running stage 'release'" in log
    shown = plain_dvc(line.folder, "exp", "show", "--csv")
    assert "0.4" in shown


def test_a_queued_experiment_runs_with_the_python_of_dvc(line: Line, ambient: Path) -> None:
    for drop in ("0.4", "0.45"):
        copied = ("--copy-paths", "data/raw")
        plain_dvc(line.folder, "exp", "run", "--queue", *copied, "-S", f"gate.max_top1_drop={drop}")
    try:
        plain_dvc(line.folder, "exp", "run", "--run-all")
        status = plain_dvc(line.folder, "queue", "status")
    finally:
        plain_dvc(line.folder, "queue", "stop", "--kill")
    assert status.count("Success") == 2, status


def plain_dvc(folder: Path, *arguments: str) -> str:
    """Return dvc's output. No environment variable names the Python of the steps."""
    variables = {name: value for name, value in environment().items() if name != "FOLDLINE_PYTHON"}
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout

"""tools.changed_tests: a change selects its own tests and those of the same folder, and never all tests."""

import subprocess
from pathlib import Path

import pytest

from tools.changed_tests import ALWAYS, ROOT, changed_files, selected_tests


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("steps/images/cache.py", "tests/images/test_cache.py"),
        ("steps/images/cache.py", "tests/images/test_dataset.py"),
        ("steps/images/sources/idx.py", "tests/images/sources/test_layouts.py"),
        ("steps/train.py", "tests/test_train_interrupted.py"),
        ("steps/files.py", "tests/test_files.py"),
        ("tools/accept.py", "tests/tools/test_accept.py"),
        ("containers/run", "tests/containers/test_run.py"),
        ("consumers/cpp/image.hpp", "tests/consumers/test_cpp.py"),
        ("docs/limits.md", "tests/docs/test_docs.py"),
        ("Makefile", "tests/test_habits.py"),
        ("tests/test_cli.py", "tests/test_cli.py"),
        ("tests/judged.py", "tests/test_release.py"),
    ],
)
def test_a_change_selects_its_tests(changed: str, expected: str) -> None:
    selected = selected_tests([changed])
    assert expected in selected and selected[0] == ALWAYS


def test_the_tests_with_the_name_of_a_file_come_before_those_of_its_room() -> None:
    selected = selected_tests(["steps/images/manifest.py", "steps/images/preprocessing.py"])
    assert selected[1] == "tests/images/test_preprocessing.py"


@pytest.mark.parametrize(
    "changed", ["steps/train.py", "CHANGELOG.md", "data/samples/mnist5k.yaml", "tests/gone.py"]
)
def test_a_change_outside_the_rooms_selects_no_whole_room(changed: str) -> None:
    folders = {Path(file).parent for file in selected_tests([changed])}
    assert folders == {Path("tests")}


@pytest.mark.parametrize("room", sorted(path.parent.name for path in (ROOT / "steps").glob("*/__init__.py")))
def test_a_deleted_file_selects_what_is_left_of_its_room(room: str) -> None:
    assert all((ROOT / file).is_file() for file in selected_tests([f"steps/{room}/gone.py", "tests/test_gone.py"]))


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    _git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "committed.py").write_text("")
    _commit(tmp_path)
    return tmp_path


def _git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def _commit(folder: Path) -> None:
    _git(folder, "add", "--all")
    _git(folder, "commit", "-q", "-m", "work")


def test_without_a_remote_the_files_that_no_commit_holds_count(clone: Path) -> None:
    assert changed_files(clone) == []
    (clone / "committed.py").write_text("changed = 1\n")
    (clone / "größe.py").write_text("")
    assert changed_files(clone) == ["committed.py", "größe.py"]


def test_with_a_remote_all_that_the_branch_added_counts(clone: Path) -> None:
    _git(clone, "update-ref", "refs/remotes/origin/main", "HEAD")
    (clone / "added.py").write_text("")
    _commit(clone)
    (clone / "committed.py").unlink()
    assert changed_files(clone) == ["added.py", "committed.py"]

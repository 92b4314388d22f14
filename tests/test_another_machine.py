"""The README's steps for another machine: a clone has no images, and DVC brings the images that it tracks."""

import subprocess
from pathlib import Path

from tests.clone import draw_images, dvc, fresh_clone


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")}


def test_images_that_git_ignores_travel_by_dvc(tmp_path: Path) -> None:
    here, there = fresh_clone(tmp_path / "here"), tmp_path / "there"
    draw_images(here / "data/raw", per_class=2)
    for arguments in (["add", "data/raw"], ["remote", "modify", "local", "url", str(tmp_path / "remote")]):
        done = dvc(here, *arguments)
        assert done.returncode == 0, done.stderr
    git(here, "add", "--all")
    git(here, "commit", "--quiet", "--message", "Add the images")
    assert [name for name in git(here, "ls-files").split() if name.startswith("data/raw")] == ["data/raw.dvc"]
    assert dvc(here, "push", "data/raw.dvc").returncode == 0

    git(tmp_path, "clone", "--quiet", str(here), str(there))
    assert not (there / "data/raw").exists()
    done = dvc(there, "pull", "data/raw.dvc")
    assert done.returncode == 0, done.stderr
    assert contents(there / "data/raw") == contents(here / "data/raw") != {}
    assert git(there, "status", "--porcelain") == ""

"""Print the test files of the code that changed, the nearest first: `make check` runs these.

A file counts as changed where it differs from the last commit that this branch shares with origin/main. In a
clone without origin/main, the last commit counts instead. New files count too. The tests mirror the tree, so the
place of a file names its tests. The tests of the import graph are always among them.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALWAYS = "tests/test_architecture.py"
MIRRORED = ("steps", "flows", "tools", "containers", "consumers", "benchmarks")
# Files without a folder of the same name in tests/.
BESIDE = {
    "docs": "tests/docs",
    "README.md": "tests/docs",
    "mkdocs.yml": "tests/docs",
    "params.yaml": "tests/params",
    "prefect.yaml": "tests/flows/test_deployments.py",
    "dvc.yaml": "tests/test_pipeline_contract.py",
    "Makefile": "tests/test_habits.py",
    "CONTRIBUTING.md": "tests/test_habits.py",
    ".github": "tests/test_habits.py",
    ".pre-commit-config.yaml": "tests/test_habits.py",
}


def changed_files(root: Path = ROOT) -> list[str]:
    """Return the changed and the new files, as paths from `root` with forward slashes."""
    base = _git(root, "merge-base", "HEAD", "origin/main") or ["HEAD"]
    changed = _git(root, "diff", "--name-only", "--no-renames", base[0])
    return [*changed, *_git(root, "ls-files", "--others", "--exclude-standard")]


def _git(root: Path, *arguments: str) -> list[str]:
    """Return the lines that git prints, or none where git fails, as merge-base does without origin/main."""
    command = ["git", "-c", "core.quotePath=false", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def selected_tests(changed: Iterable[str], root: Path = ROOT) -> list[str]:
    """Return the test files of these files: first those of the same name, then those of the same room."""
    near: list[Path] = []
    room: list[Path] = []
    for path in map(Path, changed):
        same_name, same_room = _tests_of_one(path, root)
        near += same_name
        room += same_room
    found = dict.fromkeys([root / ALWAYS, *near, *room])
    return [file.relative_to(root).as_posix() for file in found if file.is_file()]


def _tests_of_one(path: Path, root: Path) -> tuple[list[Path], list[Path]]:
    """Return the tests with the name of the file, and the tests of its room."""
    top = path.parts[0]
    if top == "tests":
        return _tests_of_a_test(path, root)
    if top in BESIDE:
        return [], _tests_in(root / BESIDE[top])
    if top not in MIRRORED:
        return [], []
    folder = root / "tests" / path.parent.relative_to("steps" if top == "steps" else ".")
    while not folder.is_dir():
        folder = folder.parent
    near = sorted(folder.glob(f"test_{path.stem}.py")) + sorted(folder.glob(f"test_{path.stem}_*.py"))
    return near, [] if folder == root / "tests" else _tests_in(folder)


def _tests_of_a_test(path: Path, root: Path) -> tuple[list[Path], list[Path]]:
    """Return a test file itself, and for a helper of tests the files that import the helper."""
    if path.name.startswith("test_"):
        return [root / path], []
    module = ".".join(path.with_suffix("").parts)
    return [], [file for file in _tests_in(root / "tests") if f"from {module} import" in file.read_text()]


def _tests_in(place: Path) -> list[Path]:
    return sorted(place.rglob("test_*.py")) if place.is_dir() else [place]


def main() -> int:
    """Print one path a line; return 0."""
    argparse.ArgumentParser(
        prog="python -m tools.changed_tests",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    print(*selected_tests(changed_files()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

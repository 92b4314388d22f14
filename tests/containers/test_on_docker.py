"""The command that starts a step's container: which folders the container sees, and what ends the container."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from containers.on_docker import GUARD, PLACES_OF_SAMPLES, docker_run, outside_paths


def test_gpus_and_shared_memory_come_from_the_environment(tmp_path: Path) -> None:
    environment = {"STEPS_GPUS": "all", "STEPS_SHM_SIZE": "64m"}
    line = " ".join(docker_run("image", "steps.train", [], tmp_path, environment))
    assert "--gpus all" in line
    assert "--shm-size 64m" in line


def test_only_what_params_and_dvc_name_outside_the_workspace_is_mounted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    monkeypatch.setitem(PLACES_OF_SAMPLES, "fashion-mnist", elsewhere / "lists")
    for folder in (root / "data", root / ".dvc", elsewhere / "images", elsewhere / "lists", elsewhere / "cache"):
        folder.mkdir(parents=True)
    (elsewhere / "lists/train.txt").touch()
    (elsewhere / "weights.pt").touch()

    def mounted(params: str) -> set[str]:
        (root / "params.yaml").write_text(params)
        return {path.relative_to(tmp_path).as_posix() for path in outside_paths(root, [])}

    assert mounted("ingest: {source: data}") == set()
    assert mounted(f"ingest: {{source: {elsewhere}/images}}") == {"elsewhere/images"}
    assert mounted("ingest: {source: ../elsewhere/images}") == {"elsewhere/images"}
    assert mounted("ingest: {source: ../elsewhere/missing}") == set()
    assert mounted("ingest: {source: ../elsewhere/lists/train.txt}") == {"elsewhere/lists"}
    (root / "data/weights.pt").symlink_to(elsewhere / "weights.pt")
    assert mounted("train: {weights: data/weights.pt}") == {"elsewhere/weights.pt"}
    assert mounted("ingest: {source: /}") == set()  # the parent folder of the workspace is never mounted whole
    assert mounted("[no mapping") == set()
    assert mounted("ingest: data") == set()
    (root / "data/raw").symlink_to(elsewhere / "images")
    assert mounted("ingest: {source: data/raw}") == {"elsewhere/images"}
    (root / "data/sample.yaml").write_text(f"name: sample\nfolder: {elsewhere}/images\n")
    assert mounted("ingest: {source: data/sample.yaml}") == {"elsewhere/images"}
    (root / "data/sample.yaml").write_text("sample: fashion-mnist\n")
    assert mounted("ingest: {source: data/sample.yaml}") == {"elsewhere/lists"}
    (root / ".dvc/config.local").write_text("[cache]\n    dir = ../../elsewhere/cache\n")
    assert mounted("ingest: {source: data}") == {"elsewhere/cache"}
    (root / ".dvc/config.local").unlink()
    (root / ".dvc/cache").symlink_to(elsewhere / "cache")  # DVC's default cache may be a link to a larger disk
    assert mounted("ingest: {source: data}") == {"elsewhere/cache"}


def test_the_guard_passes_on_the_exit_code_and_the_flags() -> None:
    step = ["sh", "-c", 'exit "$1"', "sh", "7"]
    with subprocess.Popen(["sh", "-c", GUARD, "step", *step], stdin=subprocess.PIPE) as guard:
        assert guard.wait(timeout=30) == 7  # standard input is still open: the caller is alive


@pytest.mark.parametrize("end", ["caller gone", "SIGTERM", "SIGINT"])
def test_the_guard_ends_the_step_when_it_is_told_to(end: str) -> None:
    step = ["sh", "-c", "echo $$; exec sleep 60"]
    with subprocess.Popen(
        ["sh", "-c", GUARD, "step", *step], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as guard:
        assert guard.stdin and guard.stdout
        number = int(guard.stdout.readline())
        if end == "caller gone":
            guard.stdin.close()
        else:
            guard.send_signal(getattr(signal, end))
        assert guard.wait(timeout=30) == 128 + (signal.SIGKILL if end == "caller gone" else signal.SIGTERM)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{number}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{number}").exists()

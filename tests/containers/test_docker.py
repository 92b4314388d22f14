"""Steps in real containers: what a step may see and leaves behind, and that no container outlives its caller."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from containers.images import ROOT, build_context, image_tag, read_images
from containers.on_docker import docker_run
from tests.clone import environment
from tests.finished import Line

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(2400), pytest.mark.usefixtures("images")]
STRANGER = 12345  # a user id that no image knows
LOOKING_STEP = '''
"""A stand-in for a step: writes down what a step can see."""
import json, os, pathlib, socket, sys, time

def refused(act):
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return ""

memory = os.statvfs("/dev/shm")
pathlib.Path("seen.json").write_text(json.dumps({
    "user": os.getuid(), "group": os.getgid(), "folder": os.getcwd(), "flags": sys.argv[1:],
    "shared_memory": memory.f_blocks * memory.f_frsize,
    "interfaces": [name for _, name in socket.if_nameindex()],
    "root": refused(lambda: pathlib.Path("/opt/venv/written").write_text("")),
    "source": refused(lambda: pathlib.Path(sys.argv[1], "written").write_text("")),
    "images": sorted(os.listdir(sys.argv[1])),
    "processors": os.cpu_count(),
}))
while "--stay" in sys.argv:
    pathlib.Path("beat").write_text(str(time.monotonic_ns()))
    time.sleep(0.02)
sys.exit(3)
'''
# For each image: the package that the image exists for, and a package that the image must not contain.
PACKAGES = {
    "base": ("polars", "torch"),
    "data": ("great_expectations", "torch"),
    "torch": ("torch", "onnxruntime"),
    "engine": ("openvino", "prefect"),
    "flows": ("prefect", "torch"),
}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace of another user, with images outside of it, whose step `gate` records what the step can see."""
    root, elsewhere = tmp_path / "workspace", tmp_path / "images"
    for folder in ("containers", "steps"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / file, root / file)
    (root / "steps/gate.py").write_text(LOOKING_STEP)
    elsewhere.mkdir()
    (elsewhere / "one.png").touch()
    (root / "params.yaml").write_text(f"ingest: {{source: {elsewhere}}}\n")
    return root


def in_docker() -> dict[str, str]:
    """Return the environment of a user whose steps run in containers."""
    return {**environment(), "STEPS_ON": "docker"}


def in_container(workspace: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [str(workspace / "containers/run"), "gate", *flags]
    return subprocess.run(command, capture_output=True, text=True, env=in_docker(), timeout=120)


def running(workspace: Path) -> list[str]:
    wanted = f"label=foldline.workspace={workspace}"
    asked = subprocess.run(["docker", "ps", "-q", "--filter", wanted], capture_output=True, text=True, check=True)
    return asked.stdout.split()


def test_a_step_sees_its_workspace_its_images_and_nothing_to_harm(workspace: Path) -> None:
    images = str(workspace.parent / "images")
    done = in_container(workspace, images, "a b")
    assert done.returncode == 3, done.stderr
    seen = json.loads((workspace / "seen.json").read_text())
    assert seen == {
        "user": os.getuid(),
        "group": os.getgid(),
        "folder": str(workspace),
        "flags": [images, "a b"],
        "shared_memory": 8 * 2**30,
        "interfaces": ["lo"],
        "root": "OSError",
        "source": "OSError",
        "images": ["one.png"],
        "processors": os.cpu_count(),
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to act as another user")
def test_what_a_step_writes_belongs_to_who_called_it(workspace: Path) -> None:
    for path in (workspace, *workspace.rglob("*")):
        os.chown(path, STRANGER, STRANGER)
    # Another user has no access to the Docker engine, so this user runs the command, with the other user's ids.
    reference = f"foldline-base:{image_tag(build_context(workspace))}"
    command = docker_run(reference, "steps.gate", [str(workspace.parent / "images")], workspace, {})
    command[command.index("--user") + 1] = f"{STRANGER}:{STRANGER}"
    with subprocess.Popen(command, stdin=subprocess.PIPE) as container:
        assert container.wait(timeout=120) == 3
    written = (workspace / "seen.json").stat()
    assert (written.st_uid, written.st_gid) == (STRANGER, STRANGER)


@pytest.mark.parametrize("image", sorted(PACKAGES))
def test_an_image_holds_its_packages_runs_as_nobody_special_and_names_no_index(image: str) -> None:
    reference = f"foldline-{image}:{image_tag(build_context())}"
    inside, outside = PACKAGES[image]
    look = (
        "import importlib.util as u, os; "
        f"print(os.getuid() != 0, u.find_spec({inside!r}) is not None, u.find_spec({outside!r}) is None)"
    )
    command = ["docker", "run", "--rm", "--network", "none", "--pull", "never", reference, "python", "-c", look]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["True", "True", "True"], done.stderr
    asked = ["docker", "history", "--no-trunc", "--format", "{{.CreatedBy}}", reference]
    history = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert "://" not in history


def test_every_step_starts_in_its_image() -> None:
    for step in read_images().steps:
        done = subprocess.run(
            [ROOT / "containers/run", step, "--help"], capture_output=True, text=True, env=in_docker(), timeout=300
        )
        assert done.returncode == 0, f"{step}: {done.stderr}"
        assert f"steps.{step}" in done.stdout


@pytest.mark.parametrize("killed", ["caller", "client"])
def test_a_container_ends_with_its_caller(workspace: Path, killed: str) -> None:
    line = f'"{workspace}/containers/run" gate "{workspace.parent}/images" --stay; true'
    with subprocess.Popen(["bash", "-c", line], env=in_docker()) as caller:
        beat = workspace / "beat"
        _wait_until(beat.exists)
        children = Path(f"/proc/{caller.pid}/task/{caller.pid}/children").read_text().split()
        os.kill(caller.pid if killed == "caller" else int(children[0]), signal.SIGKILL)
        caller.wait(timeout=60)
        _wait_until(lambda: not running(workspace))
        last = beat.read_text()
        time.sleep(0.2)
        assert beat.read_text() == last


def _wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_the_line_in_containers_leaves_the_lock_that_the_host_leaves(finished_line: Line, tmp_path: Path) -> None:
    line = finished_line.copy(tmp_path / "line")
    for stage in line.outs:
        line.forget(stage)
    subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--quiet"],
        cwd=line.folder,
        env=in_docker(),
        check=True,
        timeout=1800,
    )
    assert line.lock == finished_line.lock

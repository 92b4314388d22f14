"""A real Docker engine and the images, for tests marked `docker`; the engine is started if none runs."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.images import ROOT

PATIENCE_SECONDS = 60.0


def _answers() -> bool:
    return subprocess.run(["docker", "info"], capture_output=True).returncode == 0


@pytest.fixture(scope="session")
def docker_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Provide a running Docker engine; stop it afterwards if this fixture started it."""
    if shutil.which("docker") and _answers():
        yield
        return
    if not shutil.which("dockerd") or os.geteuid() != 0:
        pytest.skip("no Docker engine answers, and none can be started: that takes dockerd and root")
    log = tmp_path_factory.mktemp("dockerd") / "log"
    with log.open("w") as out, subprocess.Popen(["dockerd"], stdout=out, stderr=out) as engine:
        try:
            _wait_for(engine, log)
            yield
        finally:
            engine.terminate()
            engine.wait(timeout=PATIENCE_SECONDS)


def _wait_for(engine: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _answers():
        if engine.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"dockerd does not come up; its log ends:\n{log.read_text()[-2000:]}")
        time.sleep(0.2)


@pytest.fixture(scope="session")
def images(docker_engine: None) -> None:
    """Build every image of this checkout on a base that is made here, so that no registry is asked."""
    if not shutil.which("mmdebstrap"):
        pytest.skip("the base image is made with mmdebstrap, which is not installed")
    built = subprocess.run([ROOT / "containers/build", "--bootstrap-base"], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]

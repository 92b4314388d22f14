"""The C++ example of a release, compiled."""

import subprocess
from pathlib import Path

import openvino
import pytest

from tests.released import Released
from tests.shared import made_once


@pytest.fixture(scope="session")
def program(released: Released, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the release's C++ example, compiled once for all workers; a compiler warning is an error."""
    return made_once(tmp_path_factory, "cpp", lambda build: _compile(released, build)) / "classify"


def _compile(released: Released, build: Path) -> None:
    found = f"-DOpenVINO_DIR={Path(openvino.__file__).parent / 'cmake'}"
    configure = ["cmake", "-S", str(released.folder / "cpp"), "-B", str(build), found, "-DCMAKE_CXX_FLAGS=-Werror"]
    for command in (configure, ["cmake", "--build", str(build)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

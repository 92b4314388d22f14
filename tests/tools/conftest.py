"""What the tests of the tools share: a release, a copy of it to change, and its C++ example, compiled."""

import shutil
import subprocess
from pathlib import Path

import openvino
import pytest

from tests.released import Released, make_release


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """A small release, shared by all who read it."""
    return make_release(tmp_path_factory.mktemp("released"))


@pytest.fixture
def copy(released: Released, tmp_path: Path) -> Path:
    """The release's folder, to be changed."""
    return shutil.copytree(released.folder, tmp_path / "release")


@pytest.fixture(scope="session")
def program(released: Released, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example that lies in the release, compiled; a warning of the compiler is an error."""
    build = tmp_path_factory.mktemp("cpp")
    found = f"-DOpenVINO_DIR={Path(openvino.__file__).parent / 'cmake'}"
    configure = ["cmake", "-S", str(released.folder / "cpp"), "-B", str(build), found, "-DCMAKE_CXX_FLAGS=-Werror"]
    for command in (configure, ["cmake", "--build", str(build)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "classify"

"""The C++ example of a release, compiled."""

import subprocess
from pathlib import Path

import openvino
import pytest

from tests.released import Released


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

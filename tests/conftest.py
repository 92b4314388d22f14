"""Rules for all tests: which tests run; no test contacts outside servers or touches the user's settings."""

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.finished import Line, make_line, read_line
from tests.scheduling import Scheduling, long_ones_first
from tests.shared import made_once

if TYPE_CHECKING:
    from tests.released import Released

REASONS = {
    "slow": "takes long; set FOLDLINE_TESTS=all",
    "docker": "runs real containers; set FOLDLINE_TESTS=all",
}
ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep, because steps run next to the tests
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}
OF_OTHERS = {  # third-party packages warn about themselves
    "ignore:_NoneStep.value will soon raise:DeprecationWarning": "dvc builds its graph of outputs so",
}
ON_A_RUN_OF_ONES_OWN = ("PREFECT_API_URL", "STEPS_ON", "DVC_ROOT", "DVC_STAGE", "FOLDLINE_PYTHON", "STEPS_PARENT")


# Set here and not in a hook: another conftest.py may import packages that read this before any hook runs.
os.environ.update(ENVIRONMENT, PREFECT_HOME=tempfile.mkdtemp(prefix="foldline-prefect-"))
for _name in ON_A_RUN_OF_ONES_OWN:
    os.environ.pop(_name, None)


def pytest_configure(config: pytest.Config) -> None:
    """Silence the messages of third-party packages about themselves, and leave no folder behind."""
    for warning in OF_OTHERS:
        config.addinivalue_line("filterwarnings", warning)
    home = os.environ["PREFECT_HOME"]
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip slow tests and tests that miss a requirement, each with the reason; start with the slowest tests."""
    long_ones_first(items)
    everything = os.environ.get("FOLDLINE_TESTS") == "all"
    gpu = Path("/dev/nvidiactl").exists()
    for item in items:
        for marker, reason in REASONS.items():
            if item.get_closest_marker(marker) and not everything:
                item.add_marker(pytest.mark.skip(reason=reason))
        if item.get_closest_marker("gpu") and not gpu:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    """With --dist loadfile, distribute the files so that all workers end at about the same time."""
    return Scheduling(config, log) if config.option.dist == "loadfile" else None


@pytest.fixture(scope="module", autouse=True)
def _garbage_is_sought_among_new_objects_alone() -> None:
    """Exclude all present objects from later garbage collections: steps.tracing.watch collects in each pass.

    Modules and tests are a million objects, and a collection that visits all of them takes 0.3 s.
    """
    gc.collect()
    gc.freeze()


def pytest_collection() -> None:
    """Collect no garbage during imports: they make little garbage, and each collection visits all objects."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Turn garbage collection on again, less often than Python's default of every 700 new objects."""
    gc.enable()
    gc.set_threshold(20_000, 20, 50)
    atexit.register(gc.unfreeze)  # extension modules report objects that are left at exit


@pytest.fixture(scope="session", autouse=True)
def _build_cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the engines that tests build outside the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steps.building.cache.FOLDER", tmp_path_factory.mktemp("builds"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _models_are_read_back_in_this_process() -> Iterator[None]:
    """Read models back in this process, to save seconds; tests/models/test_readback.py uses a new process."""
    from tests.models.reading import in_this_process

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steps.models.readback.fresh_process", in_this_process)
        yield


@pytest.fixture(scope="session")
def finished_line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """Return a small line that `dvc repro` completed, shared by all workers; copy it before a change."""
    return read_line(made_once(tmp_path_factory, "finished", make_line))


@pytest.fixture(scope="session")
def judged_line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a line of tiny forms that passed the gate; copy it before a change."""
    from tests.judged import make_judged  # imported here: it reads the environment set above

    return make_judged(tmp_path_factory.mktemp("judged"))


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> "Released":
    """Return a small release, shared by all tests that only read the release."""
    from tests.released import make_release

    return make_release(tmp_path_factory.mktemp("released"))


@pytest.fixture
def copy(released: "Released", tmp_path: Path) -> Path:
    """Return a copy of the release folder that a test may change."""
    return shutil.copytree(released.folder, tmp_path / "release")

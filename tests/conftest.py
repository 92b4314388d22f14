"""What holds for all tests: which ones run, and that none phones home or touches the user's own settings."""

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
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait sleep: steps run beside the tests
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}
OF_OTHERS = {  # warnings of third-party packages, about themselves
    "ignore:_NoneStep.value will soon raise:DeprecationWarning": "dvc builds its graph of outputs so",
}
ON_A_RUN_OF_ONES_OWN = ("PREFECT_API_URL", "STEPS_ON", "DVC_ROOT", "DVC_STAGE", "FOLDLINE_PYTHON", "STEPS_PARENT")


# Not in a hook: before the first one another conftest.py may be imported, with packages that read this.
os.environ.update(ENVIRONMENT, PREFECT_HOME=tempfile.mkdtemp(prefix="foldline-prefect-"))
for _name in ON_A_RUN_OF_ONES_OWN:
    os.environ.pop(_name, None)


def pytest_configure(config: pytest.Config) -> None:
    """Silence what others say about themselves, and leave no folder behind."""
    for warning in OF_OTHERS:
        config.addinivalue_line("filterwarnings", warning)
    home = os.environ["PREFECT_HOME"]
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what takes long or needs what is not here, each with the reason; begin with what takes longest."""
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
    """Share the files out so that the workers end together, where whole files are asked for."""
    return Scheduling(config, log) if config.option.dist == "loadfile" else None


@pytest.fixture(scope="module", autouse=True)
def _garbage_is_sought_among_new_objects_alone() -> None:
    """Take every object that exists out of later collections, as steps.tracing.watch collects in each pass.

    Modules and tests are a million objects, and a collection that visits all of them takes 0.3 s.
    """
    gc.collect()
    gc.freeze()


def pytest_collection() -> None:
    """Collect no garbage while modules are imported: hardly any is made, and each collection visits them all."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Collect it again, less often than after 700 new objects, as Python would."""
    gc.enable()
    gc.set_threshold(20_000, 20, 50)
    atexit.register(gc.unfreeze)  # extension modules complain of objects that are left at the end


@pytest.fixture(scope="session", autouse=True)
def _build_cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the engines that tests build apart from those of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steps.building.cache.FOLDER", tmp_path_factory.mktemp("builds"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _models_are_read_back_in_this_process() -> Iterator[None]:
    """Spare each training the seconds that a new Python takes; tests/models/test_readback.py takes a new one."""
    from tests.models.reading import in_this_process

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steps.models.readback.fresh_process", in_this_process)
        yield


@pytest.fixture(scope="session")
def finished_line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """A small line that `dvc repro` brought up to date, one for all workers; make a copy to change it."""
    return read_line(made_once(tmp_path_factory, "finished", make_line))


@pytest.fixture(scope="session")
def judged_line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a line of tiny forms that the gate let pass; make a copy to change it."""
    from tests.judged import make_judged  # not above: what it imports reads the environment that is set there

    return make_judged(tmp_path_factory.mktemp("judged"))


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> "Released":
    """A small release, shared by all who read it."""
    from tests.released import make_release

    return make_release(tmp_path_factory.mktemp("released"))


@pytest.fixture
def copy(released: "Released", tmp_path: Path) -> Path:
    """The folder of that release, to be changed."""
    return shutil.copytree(released.folder, tmp_path / "release")

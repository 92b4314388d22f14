"""Which worker of pytest-xdist runs which file, and when: all workers should end at about the same time."""

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

# The slowest files start first. Only the time of the whole suite depends on this list; no test result does.
LONG = (
    "tests/containers/test_docker.py",
    "tests/models/test_each_architecture.py",
    "tests/flows/test_deployments.py",
    "tests/test_kills.py",
    "tests/benchmarks/test_lite0.py",
    "tests/test_end_to_end.py",
    "tests/test_dvc.py",
    "tests/flows/test_localise.py",
    "tests/flows/test_classify.py",
    "tests/flows/test_main.py",
    "tests/parity/test_planted.py",
    "tests/test_train_interrupted.py",
    "tests/training/test_memory_format.py",
)
# Files that use the same server run on one worker: a Prefect server takes 8 CPU seconds.
TOGETHER = {
    f"tests/flows/{name}.py": "the Prefect server" for name in ("test_localise", "test_classify", "test_main")
}


class Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """Distribute whole files, as --dist loadfile does, and keep files that share a server together."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # keep the order below, not an order by number of tests

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return TOGETHER.get(file, file)


def long_ones_first(items: list[pytest.Item]) -> None:
    """Move the slowest files to the front; the order of the other files stays."""
    place = {file: number for number, file in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.nodeid.split("::")[0], len(LONG)))

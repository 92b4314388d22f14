"""Before a run: check everything that the run needs, and let only one run at a time work in this folder."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flows import graph
from flows.engines import must_be_buildable
from flows.overrides import Changes, overridden
from steps.progress import say

PARAMS = Path("params.yaml")
LOCK = Path(".foldline/locks/flow.lock")


def check(overrides: dict[str, Any], since: str | None, until: str | None) -> None:
    """Raise BadInput for the same faults as `prepare`; params.yaml does not change."""

    class _Checked(Exception): ...

    with only_run(say), suppress(_Checked), overridden(PARAMS, overrides):
        _stages(since, until)
        raise _Checked


def prepare(overrides: dict[str, Any], since: str | None, until: str | None) -> tuple[Changes, list[str]]:
    """Write the params; return the changes and the stages to run. If it raises BadInput, nothing is written."""
    with overridden(PARAMS, overrides) as changes:
        return changes, _stages(since, until)


@contextmanager
def only_run(tell: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other run works in this folder, because two runs would overwrite params and outputs."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("another run is working in this folder; waiting until that run ends")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _stages(since: str | None, until: str | None) -> list[str]:
    stages = graph.plan(since, until)
    must_be_buildable(stages)
    return stages

"""Report engines that cannot be built on this machine before the first stage, and not after the training."""

import os
import sys
from importlib.util import find_spec

from flows import graph
from steps.engines.names import BACKENDS, parse_engine
from steps.errors import BadInput


def must_be_buildable(stages: list[str]) -> None:
    """Raise BadInput if one of the stages would build an engine whose package is not installed."""
    if not _steps_run_here():
        return
    engines = [stage.partition("@")[2] for stage in stages if stage.startswith("build@")]
    missing = [engine for engine in engines if not _has_package(engine) and _would_build(engine, stages)]
    if missing:
        raise BadInput("\n".join(map(_sentence, missing)))


def _steps_run_here() -> bool:
    """Tell whether containers/run will use this machine and this Python."""
    python = os.environ.get("FOLDLINE_PYTHON", sys.executable)
    return os.environ.get("STEPS_ON", "host") == "host" and python == sys.executable


def _has_package(engine: str) -> bool:
    backend, _ = parse_engine(engine)
    return find_spec(BACKENDS[backend].package) is not None


def _would_build(engine: str, stages: list[str]) -> bool:
    """Tell whether the engine's build stage, or a stage that it needs, is stale; a pulled engine is not built."""
    return any(not graph.is_unchanged(stage) for stage in graph.plan(until=f"build@{engine}") if stage in stages)


def _sentence(engine: str) -> str:
    backend = BACKENDS[parse_engine(engine)[0]]
    return (
        f"engines: {engine} cannot be built here: the package {backend.package} is not installed; "
        f"{backend.install}, or remove it from `engines`."
    )

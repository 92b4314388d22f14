"""A cache of engines that take minutes to build: the same inputs are built only once.

The cache is in .foldline/, and no stage names it: without the cache, the engine is built and judged as well. An
entry is written whole or not at all. Before use, its checksums are compared and the engine is opened. An entry is
removed when it is damaged, does not open, or newer entries need the space. The cache is trusted as much as the
workspace, because whoever can write into one can write into the other. ONNX Runtime and OpenVINO need no cache:
they adapt a graph to the machine when they open it, so their build takes a moment.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from pydantic import ConfigDict

from steps.engines.contract import Built, Order
from steps.errors import BadInput
from steps.files import sha256
from steps.progress import say
from steps.reports.artifact import file_checksums
from steps.reports.base import JsonFile
from steps.reports.card import Device

FOLDER = Path(".foldline/builds")
PACKAGES = ("onnx", "sympy", "tensorrt", "tensorrt-rtx", "torch", "triton")
MOST_BYTES = 8 * 10**9
NOTE = "built.json"
OPENING = ".opening"  # exists in an entry while the engine is opened: damaged native code can end the process


class Builder(Protocol):
    """The module of a backend with cached engines: it has the additional function `surroundings`."""

    def build(self, order: Order) -> Built:
        """Write the engine's files into `order.out`, or raise CannotBuild."""

    def surroundings(self, backend: str) -> dict[str, str]:
        """Return all that decides an engine besides its order, the packages and this code."""


class Note(JsonFile):
    """built.json of an entry: the builder's facts, and the checksums of its files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Device
    versions: dict[str, str]
    log: tuple[str, ...]
    device_memory_bytes: int | None
    files: dict[str, str]


def build_or_take(order: Order, module: Builder, open_it: Callable[[Built], None]) -> Built:
    """Fill `order.out` from the cache and report that, or build the engine and store it in the cache.

    `open_it` raises where the cached engine does not open or answers wrongly: the entry is removed, and the engine
    is built again.
    """
    entry = FOLDER / key_of(order, module)
    taken = _taken(entry, order.out, open_it)
    if taken is not None:
        say(
            f"build: the {order.backend} engine is taken from the build cache ({entry}): same graph, params, "
            "packages and machine"
        )
        return taken
    built = module.build(order)
    _keep(entry, order.out, built)
    return built


def key_of(order: Order, module: Builder) -> str:
    """Return a sha256 over all that decides the engine: graph, order, packages, code, surroundings."""
    facts = asdict(order) | {"graph": sha256(order.graph), "out": None}
    facts |= {"packages": _packages(), "code": _code(), "surroundings": module.surroundings(order.backend)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _taken(entry: Path, out: Path, open_it: Callable[[Built], None]) -> Built | None:
    """Return the cached engine, with its files in `out`, or None; an entry that cannot be used is removed."""
    if not entry.exists():
        return None
    try:
        built = _copied(entry, out)
        (entry / OPENING).touch()
        open_it(built)
        (entry / OPENING).unlink()
        os.utime(entry)
        return built
    except Exception as fault:  # any error of any runtime: a bad cache entry must never prevent a rebuild
        reason = " ".join(str(fault).split())
        say(f"build: {entry} cannot be used and was removed ({reason}); the engine is built again")
    _remove(entry)
    for file in out.iterdir():
        file.unlink()
    return None


def _copied(entry: Path, out: Path) -> Built:
    """Copy the entry's files; raise BadInput or OSError if the entry is damaged, or ended the last run."""
    if (entry / OPENING).exists():
        raise BadInput("the last run that opened this entry ended while it did so")
    note = Note.read(entry / NOTE)
    for name in note.files:
        shutil.copyfile(entry / name, out / name)
        if sha256(out / name) != note.files[name]:
            raise BadInput(f"{name} was changed after it was written")
    return Built(note.device, note.versions, note.log, note.device_memory_bytes)


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def _keep(entry: Path, out: Path, built: Built) -> None:
    """Write the entry under a temporary name, then rename it; an entry that another run wrote first stays."""
    files = file_checksums(out)
    half = entry.with_name(f".{entry.name}.{os.getpid()}.tmp")
    shutil.rmtree(half, ignore_errors=True)
    try:
        half.mkdir(parents=True)
        for name in files:
            shutil.copyfile(out / name, half / name)
        Note(
            device=built.device,
            versions=built.versions,
            log=built.log,
            device_memory_bytes=built.device_memory_bytes,
            files=files,
        ).write(half / NOTE)
        half.rename(entry)
        _make_room(entry)
    except OSError as fault:  # such as a full disk, or the entry of another run: the engine itself is built
        say(f"build: the engine was not stored in the build cache: {fault}")
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _make_room(newest: Path) -> None:
    """Remove the entries that were unused for the longest time, until the rest fits; the newest entry stays."""
    entries = [path for path in FOLDER.iterdir() if path.is_dir() and not path.name.startswith(".")]
    sizes = {entry: sum(file.stat().st_size for file in entry.iterdir()) for entry in entries}
    total = sum(sizes.values())
    for entry in sorted(entries, key=lambda path: path.stat().st_mtime):
        if total <= MOST_BYTES:
            return
        if entry != newest:
            shutil.rmtree(entry)
            total -= sizes[entry]


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _code() -> str:
    """Return a checksum of this room's sources, because other code can build another engine."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()

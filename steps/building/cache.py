"""Engines that take minutes to build, kept by what they are made from: the same inputs are not built twice.

A cache, so it lies in .foldline/ and no stage names it: without it the engine is built, and judged, all the same.
An entry is written whole or not at all, held against its checksums and opened when it is taken, and dropped when
it is damaged, does not open, or others need its place. Whoever can write there can write into the workspace, too:
it is trusted as much, and no more. The other backends write their engine in a moment: ONNX Runtime and OpenVINO
make a graph the machine's own whenever they open it, so theirs is no machine's.
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
OPENING = ".opening"  # lies in an entry while it is opened: native code that is not what it was ends the process


class Builder(Protocol):
    """The module of a backend whose engines are kept: it has a function more than the others."""

    def build(self, order: Order) -> Built:
        """Write the engine's files into `order.out`, or raise CannotBuild."""

    def surroundings(self, backend: str) -> dict[str, str]:
        """Return what an engine's bytes, and opening it, depend on besides its order, packages and this code."""


class Note(JsonFile):
    """built.json of an entry: what the builder told, and the checksums of what it wrote."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Device
    versions: dict[str, str]
    log: tuple[str, ...]
    device_memory_bytes: int | None
    files: dict[str, str]


def build_or_take(order: Order, module: Builder, open_it: Callable[[Built], None]) -> Built:
    """Fill `order.out` from the cache, and say so, or build and keep what was built.

    `open_it` raises where what was taken cannot be opened or answers wrongly: that is dropped and built anew.
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
    """Return a sha256 over all that decides what is built: graph, order, packages, code, surroundings."""
    said = asdict(order) | {"graph": sha256(order.graph), "out": None}
    said |= {"packages": _packages(), "code": _code(), "surroundings": module.surroundings(order.backend)}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _taken(entry: Path, out: Path, open_it: Callable[[Built], None]) -> Built | None:
    """Return what was built once, its files in `out`; an entry that cannot be used is dropped, with its reason."""
    if not entry.exists():
        return None
    try:
        built = _copied(entry, out)
        (entry / OPENING).touch()
        open_it(built)
        (entry / OPENING).unlink()
        os.utime(entry)
        return built
    except Exception as fault:  # whatever a runtime raises: an engine can be built, an entry is only in its way
        reason = " ".join(str(fault).split())
        say(f"build: {entry} cannot be used and was removed ({reason}); the engine is built again")
    _remove(entry)
    for file in out.iterdir():
        file.unlink()
    return None


def _copied(entry: Path, out: Path) -> Built:
    """Copy the entry's files, or raise BadInput or OSError: it is not what it was, or its last user died of it."""
    if (entry / OPENING).exists():
        raise BadInput("the run that opened it last did not survive that")
    note = Note.read(entry / NOTE)
    for name in note.files:
        shutil.copyfile(entry / name, out / name)
        if sha256(out / name) != note.files[name]:
            raise BadInput(f"{name} is not what was written")
    return Built(note.device, note.versions, note.log, note.device_memory_bytes)


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def _keep(entry: Path, out: Path, built: Built) -> None:
    """Write the entry under another name first; where another run was faster, its entry stays."""
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
    except OSError as fault:  # a full disk, an entry that is there by now: the engine itself is built
        say(f"build: the engine was not kept in the build cache: {fault}")
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _make_room(newest: Path) -> None:
    """Remove the entries that were not used for longest, until the rest fits; the newest stays."""
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
    """Return a checksum of this room's sources: another way to build is another engine."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()

"""Engines that take minutes to build, kept by what they are made from: the same inputs are not built twice.

A cache, so it lies in .foldline/ and no stage names it: without it the engine is built, and judged, all the same.
An entry is written whole or not at all, held against its checksums when it is read, and dropped when others need
its place. Whoever can write there can write into the workspace, too: it is trusted as much, and no more.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import ConfigDict

from steps.backends.contract import Built, Order
from steps.backends.this_gpu import this_gpu
from steps.errors import BadInput
from steps.progress import say
from steps.reports.artifact import file_checksums, sha256
from steps.reports.base import JsonFile
from steps.reports.card import Device

FOLDER = Path(".foldline/builds")
CACHED = {
    "aotinductor",
    "aotinductor-cuda",
    "tensorrt",
    "tensorrt-rtx",
}  # the others write their engine in a moment
AHEAD_OF_TIME = {"tensorrt-rtx"}  # built for the devices that params.yaml names, whatever this machine has
PACKAGES = ("onnx", "tensorrt", "tensorrt-rtx", "torch", "triton")
MOST_BYTES = 8 * 10**9
NOTE = "built.json"


class Note(JsonFile):
    """built.json of an entry: what the builder told, and the checksums of what it wrote."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Device
    versions: dict[str, str]
    log: tuple[str, ...]
    device_memory_bytes: int | None
    files: dict[str, str]


def build_or_take(order: Order, build: Callable[[Order], Built]) -> Built:
    """Fill `order.out` from the cache, and say so, or build and keep what was built."""
    entry = FOLDER / key_of(order)
    note = _take(entry, order.out)
    if note is not None:
        say(
            f"build: the {order.backend} engine is taken from the build cache ({entry}): same graph, params and "
            "packages"
        )
        return Built(note.device, note.versions, note.log, note.device_memory_bytes)
    built = build(order)
    _keep(entry, order.out, built)
    return built


def key_of(order: Order) -> str:
    """Return a sha256 over all that decides what is built: graph, order, packages, this room's code, device."""
    said = asdict(order) | {"graph": sha256(order.graph), "out": None}
    said |= {"packages": _packages(), "code": _code(), "device": _device(order.backend)}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _take(entry: Path, out: Path) -> Note | None:
    """Copy the entry's files and return its note; an entry that is not what it was is dropped."""
    if not (entry / NOTE).is_file():
        return None
    try:
        note = Note.read(entry / NOTE)
        for name in note.files:
            shutil.copyfile(entry / name, out / name)
        if {name: sha256(out / name) for name in note.files} == note.files:
            os.utime(entry)
            return note
    except (OSError, BadInput):
        pass
    say(f"build: {entry} is damaged and was removed; the engine is built again")
    shutil.rmtree(entry, ignore_errors=True)
    for file in out.iterdir():
        file.unlink()
    return None


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


def _device(backend: str) -> object:
    if backend in AHEAD_OF_TIME:
        return None
    import torch

    return [this_gpu(), {name: value for name, value in torch.cpu.get_capabilities().items() if value is True}]

"""What was built is not built again for the same inputs, and never taken where anything of them differs."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import torch
from torch._inductor import config as inductor

from steps.backends import aotinductor, aotinductor_cuda, build_cache, tensorrt, this_gpu
from steps.backends import compiler as compiler_room
from steps.backends.aotinductor_cuda import NEEDED
from steps.backends.build_cache import NOTE, build_or_take, key_of
from steps.backends.compiler import compiling
from steps.backends.contract import BatchRange, Built, CannotRunHere, Order, WrongFile
from steps.reports.card import Device
from tests.backends.tiny import NAMES, onnx_model, weights

BUILT = Built(Device(kind="cuda", compute_capabilities=("8.9",)), {"tensorrt-rtx": "1"}, ("a warning",), 7)


class Builder:
    """Writes an engine of so many bytes and counts how often it was asked to."""

    def __init__(self, size: int = 100, here: str = "this machine") -> None:
        self.calls, self.size, self.here = 0, size, here

    def build(self, order: Order) -> Built:
        self.calls += 1
        (order.out / "model.engine").write_bytes(bytes([self.calls]) * self.size)
        return BUILT

    def surroundings(self, backend: str) -> dict[str, str]:
        return {backend: self.here}


HERE = Builder()


def opens(built: Built) -> None:
    assert built == BUILT


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build_cache, "FOLDER", tmp_path / "builds")
    return tmp_path / "builds"


@pytest.fixture
def order(tmp_path: Path) -> Order:
    onnx.save(onnx_model(weights()), tmp_path / "model.onnx")
    return Order(
        "tensorrt-rtx", tmp_path / "model.onnx", new(tmp_path, "out"), NAMES, BatchRange(1, 2, 4), ("8.9",)
    )


def new(root: Path, name: str) -> Path:
    (root / name).mkdir()
    return root / name


def test_the_second_build_is_taken_and_said_so(
    order: Order, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = Builder()
    assert build_or_take(order, build, opens) == BUILT
    assert "build cache" not in capsys.readouterr().err
    again = dataclasses.replace(order, out=new(tmp_path, "again"))
    assert build_or_take(again, build, opens) == BUILT
    assert build.calls == 1
    assert (again.out / "model.engine").read_bytes() == (order.out / "model.engine").read_bytes()
    assert [file.name for file in again.out.iterdir()] == ["model.engine"]
    assert "taken from the build cache" in capsys.readouterr().err


def test_whatever_decides_what_is_built_is_in_the_key(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    other = [
        dataclasses.replace(order, backend="tensorrt"),
        dataclasses.replace(order, class_names=NAMES[::-1]),
        dataclasses.replace(order, batch=BatchRange(1, 2, 8)),
        dataclasses.replace(order, compute_capabilities=("8.9", "12.0")),
    ]
    keys = [key_of(order, HERE), *(key_of(each, HERE) for each in other)]
    assert key_of(dataclasses.replace(order, out=order.out / "elsewhere"), HERE) == keys[0]
    order.graph.write_bytes(order.graph.read_bytes() + b"\0")
    keys.append(key_of(order, HERE))
    monkeypatch.setattr(build_cache, "_packages", lambda: {"tensorrt-rtx": "0.1"})
    keys.append(key_of(order, HERE))
    monkeypatch.setattr(build_cache, "_code", lambda: "other code")
    keys.append(key_of(order, HERE))
    keys.append(key_of(order, Builder(here="another machine")))
    assert len(set(keys)) == len(keys)


def compiler(folder: Path, version: str) -> str:
    """Return the path of a program that says of itself what a compiler does, and compiles nothing."""
    folder.mkdir()
    program = folder / "g++"
    program.write_text(f'#!/bin/sh\necho "g++ {version}"\n')
    program.chmod(0o755)
    return str(program)


def test_the_compiler_is_known_by_its_version_and_not_by_its_path(tmp_path: Path) -> None:
    said = []
    for folder, version in (("a", "12.2.0"), ("b", "12.2.0"), ("c", "13.1.0")):
        with inductor.patch({"cpp.cxx": (None, compiler(tmp_path / folder, version))}):
            said.append(compiling()["compiler"])
    assert said == ["g++ 12.2.0", "g++ 12.2.0", "g++ 13.1.0"]


def libc(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("platform.libc_ver", lambda: ("glibc", "2.99"))


def no_vectors(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("torch.cpu.get_capabilities", lambda: {"architecture": "x86_64", "avx2": False})


def fewer_vectors(patch: pytest.MonkeyPatch) -> None:
    patch.setenv("ATEN_CPU_CAPABILITY", "default")


def more_threads(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("torch.get_num_threads", lambda: 77)


def other_linker(patch: pytest.MonkeyPatch) -> None:
    own = compiler_room._said
    patch.setattr(compiler_room, "_said", lambda flag: own(flag) if flag == "--version" else "GNU ld 9")


@pytest.mark.parametrize("backend", ["aotinductor", "aotinductor-cuda"])
@pytest.mark.parametrize(
    "change", [libc, no_vectors, fewer_vectors, more_threads, other_linker], ids=lambda f: f.__name__
)
def test_compiled_code_belongs_to_what_compiled_it(
    order: Order, backend: str, change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = dataclasses.replace(order, backend=backend)
    before = key_of(compiled, aotinductor)
    assert key_of(compiled, aotinductor) == before
    change(monkeypatch)
    assert key_of(compiled, aotinductor) != before


def test_compiled_code_belongs_to_the_settings_of_its_compiler() -> None:
    before = compiling()
    with inductor.patch(max_autotune=not inductor.max_autotune):
        assert compiling()["settings"] != before["settings"]
    assert compiling() == before


def test_a_package_built_before_in_the_process_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    before = compiling()
    monkeypatch.setitem(inductor.aot_inductor.metadata, "AOTI_DEVICE_KEY", "another")
    with inductor.patch(max_autotune=not inductor.max_autotune):  # torch forgets the hash that it keeps
        pass
    assert compiling() == before


GPU = {"name": "A", "multi_processor_count": 10, "total_memory": 2**34}


@pytest.mark.parametrize(
    ("gpu", "capability", "driver"),
    [
        (GPU | {"name": "B"}, (8, 9), "550"),
        (GPU | {"total_memory": 2**35}, (8, 9), "550"),
        (GPU, (9, 0), "550"),
        (GPU, (8, 9), "560"),
    ],
)
def test_an_engine_for_this_gpu_belongs_to_it_and_to_its_driver(
    gpu: dict[str, object],
    capability: tuple[int, int],
    driver: str,
    order: Order,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def key(has: dict[str, object], of: tuple[int, int], by: str) -> set[str]:
        (tmp_path / "version").write_text(f"NVRM version: {by}\nGCC version: of no account\n")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: of)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(**has))
        named = [("aotinductor-cuda", aotinductor), ("tensorrt", tensorrt)]
        return {key_of(dataclasses.replace(order, backend=name), module) for name, module in named}

    monkeypatch.setattr(this_gpu, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(tensorrt, "import_module", lambda _: SimpleNamespace(__version__="10.1"))
    first = key(GPU, (8, 9), "550")
    assert key(GPU, (8, 9), "550") == first
    assert not key(gpu, capability, driver) & first


def test_code_for_a_gpu_belongs_to_the_headers_of_cuda(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cuda.h", *NEEDED):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("#define CUDA_VERSION 12040")
    monkeypatch.setattr(aotinductor_cuda, "_folders", lambda: [tmp_path, tmp_path / "none"])
    compiled = dataclasses.replace(order, backend="aotinductor-cuda")
    before = key_of(compiled, aotinductor)
    (tmp_path / "cuda.h").write_text("#define CUDA_VERSION 13010")
    assert key_of(compiled, aotinductor) != before


def test_an_engine_made_ahead_of_time_belongs_to_no_machine(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tensorrt, "import_module", lambda _: SimpleNamespace(__version__="1.7", ComputeCapability=object)
    )
    assert set(tensorrt.surroundings("tensorrt-rtx")) == {"tensorrt-rtx", "gpu"}
    before = key_of(order, tensorrt)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"architecture": "x86_64", "avx2": False})
    assert key_of(order, tensorrt) == before


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def a_file_of_it(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_bytes(b"a file where a folder should be")


SPOILS: dict[str, Callable[[Path], None]] = {
    "the engine cut short": lambda entry: cut_short(entry / "model.engine"),
    "the engine with a flipped bit": lambda entry: flip_a_bit(entry / "model.engine"),
    "the engine gone": lambda entry: (entry / "model.engine").unlink(),
    "the note cut short": lambda entry: cut_short(entry / NOTE),
    "the note gone": lambda entry: (entry / NOTE).unlink(),
    "the entry a file": a_file_of_it,
}


@pytest.mark.parametrize("spoiled", SPOILS)
def test_a_damaged_entry_is_dropped_and_built_again(
    order: Order, spoiled: str, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = Builder()
    build_or_take(order, build, opens)
    (entry,) = folder.iterdir()
    SPOILS[spoiled](entry)
    again = dataclasses.replace(order, out=new(tmp_path, "again"))
    build_or_take(again, build, opens)
    assert build.calls == 2
    assert (again.out / "model.engine").read_bytes() == b"\2" * 100
    assert [file.name for file in again.out.iterdir()] == ["model.engine"]
    assert f"{entry} cannot be used and was removed (" in capsys.readouterr().err
    build_or_take(dataclasses.replace(order, out=new(tmp_path, "third")), build, opens)
    assert build.calls == 2, "what took the place of the damaged entry is taken"


@pytest.mark.parametrize(
    "fault",
    [WrongFile("torch cannot load it"), CannotRunHere("of another version"), RuntimeError("undefined symbol")],
)
def test_an_entry_that_no_longer_opens_is_dropped_and_built_again(
    order: Order, fault: Exception, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(built: Built) -> None:
        raise fault

    build = Builder()
    build_or_take(order, build, fails)  # what was built now is for the step to judge
    again = dataclasses.replace(order, out=new(tmp_path, "again"))
    assert build_or_take(again, build, fails) == BUILT
    assert build.calls == 2
    assert f"was removed ({fault}); the engine is built again" in capsys.readouterr().err
    (entry,) = folder.iterdir()
    assert (entry / "model.engine").read_bytes() == (again.out / "model.engine").read_bytes() == b"\2" * 100


class Dies(BaseException):
    """Stands for a process that ends: no one catches it, and nothing is tidied up."""


def test_an_entry_that_its_last_user_died_of_is_dropped_and_built_again(
    order: Order, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def dies(built: Built) -> None:
        raise Dies

    build = Builder()
    build_or_take(order, build, opens)
    with pytest.raises(Dies):
        build_or_take(dataclasses.replace(order, out=new(tmp_path, "dead")), build, dies)
    for name, calls in (("again", 2), ("third", 2)):
        assert build_or_take(dataclasses.replace(order, out=new(tmp_path, name)), build, opens) == BUILT
        assert build.calls == calls
    assert capsys.readouterr().err.count("the run that opened it last did not survive that") == 1
    (entry,) = folder.iterdir()
    assert {file.name for file in entry.iterdir()} == {"model.engine", NOTE}


def test_a_build_that_fails_leaves_nothing(order: Order, folder: Path) -> None:
    class Crashes(Builder):
        def build(self, order: Order) -> Built:
            (order.out / "model.engine").write_bytes(b"half")
            raise RuntimeError("the builder crashed")

    with pytest.raises(RuntimeError):
        build_or_take(order, Crashes(), opens)
    assert not folder.exists()


def test_a_cache_that_cannot_be_written_costs_the_engine_nothing(
    order: Order, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write_text("a file where the folder should be")
    assert build_or_take(order, Builder(), opens) == BUILT
    assert "was not kept in the build cache" in capsys.readouterr().err


def test_the_entries_not_used_for_longest_make_room(
    order: Order, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = Builder(1000)
    orders = [
        dataclasses.replace(order, out=new(tmp_path, f"o{most}"), batch=BatchRange(1, 2, most))
        for most in range(4, 8)
    ]
    for place, each in enumerate(orders[:3]):
        build_or_take(each, build, opens)
        _set_age(folder / key_of(each, HERE), place)
    used = dataclasses.replace(orders[0], out=new(tmp_path, "used"))
    build_or_take(used, build, opens)  # the newest now
    monkeypatch.setattr(build_cache, "MOST_BYTES", 5000)  # an engine and its note: three fit
    build_or_take(orders[3], build, opens)
    kept = {entry.name for entry in folder.iterdir()}
    assert kept == {key_of(orders[place], HERE) for place in (0, 2, 3)}


def _set_age(entry: Path, place: int) -> None:
    os.utime(entry, (1000 + place, 1000 + place))

"""The cache key of an engine contains everything that decides the engine's contents, and nothing else."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._inductor import config as inductor

from steps.backends import aotinductor, aotinductor_cuda, tensorrt, this_gpu
from steps.backends import compiler as compiler_room
from steps.backends.aotinductor_cuda import NEEDED
from steps.backends.compiler import compiling
from steps.building import cache as build_cache
from steps.building.cache import key_of
from steps.engines.contract import BatchRange, Order
from tests.backends.tiny import NAMES
from tests.building.counting_builder import Builder, an_order

HERE = Builder()


@pytest.fixture
def order(tmp_path: Path) -> Order:
    return an_order(tmp_path)


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
    """Return the path of a program that reports a version as a compiler does, and compiles nothing."""
    folder.mkdir()
    program = folder / "g++"
    program.write_text(f'#!/bin/sh\necho "g++ {version}"\n')
    program.chmod(0o755)
    return str(program)


def test_the_compiler_is_known_by_its_version_and_not_by_its_path(tmp_path: Path) -> None:
    message = []
    for folder, version in (("a", "12.2.0"), ("b", "12.2.0"), ("c", "13.1.0")):
        with inductor.patch({"cpp.cxx": (None, compiler(tmp_path / folder, version))}):
            message.append(compiling()["compiler"])
    assert message == ["g++ 12.2.0", "g++ 12.2.0", "g++ 13.1.0"]


def libc(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("platform.libc_ver", lambda: ("glibc", "2.99"))


def no_vectors(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("torch.cpu.get_capabilities", lambda: {"architecture": "x86_64", "avx2": False})


def fewer_vectors(patch: pytest.MonkeyPatch) -> None:
    patch.setenv("ATEN_CPU_CAPABILITY", "default")


def more_threads(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("torch.get_num_threads", lambda: 77)


def other_linker(patch: pytest.MonkeyPatch) -> None:
    own = compiler_room._version_line
    patch.setattr(compiler_room, "_version_line", lambda flag: own(flag) if flag == "--version" else "GNU ld 9")


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
    with inductor.patch(max_autotune=not inductor.max_autotune):  # makes torch drop the hash that torch caches
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

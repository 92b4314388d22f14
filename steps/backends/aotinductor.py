"""AOTInductor: the exported graph compiled ahead of time to native code, for the CPU or the GPU of this machine.

`aotinductor` runs on the CPU, `aotinductor-cuda` on a GPU, even where TensorRT is not installed. A build needs a
C++ compiler, and for CUDA also CUDA's headers and the driver. The engine belongs to one version of torch, and to
the CPU instructions or the compute capability that it was compiled for. Each build gives other bytes. Opening
model.pt2 runs native code, so `open_runner` first compares the file with its card's checksum.
"""

import io
import json
import os
import re
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from steps.backends.aotinductor_cuda import cuda_home, headers
from steps.backends.compiler import compiling, find_compiler
from steps.backends.this_gpu import gpu_and_driver, this_gpu
from steps.engines.contract import (
    NO_DRIVER,
    Built,
    CannotBuild,
    CannotRunHere,
    Images,
    Logits,
    Order,
    OtherVersion,
    Runner,
    WrongFile,
)
from steps.engines.names import BACKENDS
from steps.graphs.torch_module import exported_program, input_of, read_module
from steps.reports.card import Card, Device

MODEL = "model.pt2"
METADATA = re.compile(r"[^/]+/data/aotinductor/model/[^/]+wrapper_metadata\.json")
# torch's name of a group of instructions -> the CPU capabilities that the group needs, as torch lists them
INSTRUCTIONS = {
    "AVX2": ("avx2", "fma3", "f16c", "bmi2"),
    "AVX512": ("avx512_f", "avx512_dq", "avx512_vl", "avx512_bw", "avx512_cd", "fma3", "bmi2"),
    "AVX512_VNNI": ("avx512_vnni",),
    "AMX_TILE": ("amx_tile", "amx_bf16", "amx_int8"),
    "AMX_FP16": ("amx_fp16",),
}


def open_engine(folder: Path, card: Card, threads: int | None) -> Runner:
    """Return the engine's runner; raise WrongFile, or CannotRunHere (other version, instructions or GPU)."""
    device = BACKENDS[card.backend].device
    metadata = _metadata(folder / MODEL)
    if metadata["AOTI_DEVICE_KEY"] != device:
        raise WrongFile(
            f"{folder / MODEL} was compiled for {metadata['AOTI_DEVICE_KEY']}, and its card says {device}."
        )
    _check_version(card)
    if device == "cuda":
        _check_gpu(card)
    else:
        _check_cpu(card, metadata["AOTI_MACHINE"])
        if threads:
            torch.set_num_threads(threads)
    try:
        compiled = torch._inductor.aoti_load_package(str(folder / MODEL))
    except RuntimeError as fault:
        raise WrongFile(f"torch cannot load {folder / MODEL}: {_first_line(fault)}") from fault

    @torch.inference_mode()
    def run(images_NHWC_u8: Images) -> Logits:
        images = torch.from_numpy(np.ascontiguousarray(images_NHWC_u8)).to(device)
        logits: Logits = compiled(images).float().cpu().numpy()
        return logits

    return run


def build(order: Order) -> Built:
    """Write model.pt2; raise CannotBuild without a compiler, headers or a GPU, or for an unknown operator."""
    device = BACKENDS[order.backend].device
    if device == "cuda" and not this_gpu():
        raise CannotBuild(f"{order.backend} builds on the GPU that will run the engine, and {NO_DRIVER}.")
    _check_compiler(order.backend)
    free, shape, dtype = input_of(order.graph)
    module = read_module(order.graph, order.backend).to(device)
    program = exported_program(module, torch.zeros(shape, dtype=dtype, device=device), free, order.backend)
    with cuda_home(order.backend) if device == "cuda" else nullcontext():
        _compile(program, order)
    metadata = _metadata(order.out / MODEL)
    version = {"torch": str(torch.__version__)}
    runtime = f"torch {torch.__version__}"
    if device == "cuda":
        return Built(Device(kind="cuda", compute_capabilities=(this_gpu(),), runtime=runtime), version)
    instructions = tuple(metadata["AOTI_CPU_ISA"].split())
    return Built(Device(kind="cpu", runtime=runtime, instructions=instructions), version)


def surroundings(backend: str) -> dict[str, str]:
    """Return all that decides the engine besides its order and the packages: compiler, libc, CPU or GPU."""
    on_gpu = BACKENDS[backend].device == "cuda"
    return compiling() | (gpu_and_driver() | headers() if on_gpu else {})


def _compile(program: Any, order: Order) -> None:
    """Compile in a fresh cache, so that files of an earlier build cannot change the result.

    The package is made in memory: on a full disk, torch's writer of files aborts the process.
    """
    from torch._inductor.utils import fresh_cache

    package = io.BytesIO()
    try:
        with fresh_cache(), torch.no_grad():
            torch._inductor.aoti_compile_and_package(
                program, package_path=package, inductor_configs=_settings(order.backend)
            )
    except Exception as fault:  # inductor's errors share no base
        raise CannotBuild(f"{order.backend} cannot compile the graph: {_first_line(fault)}") from fault
    (order.out / MODEL).write_bytes(package.getbuffer())


def _settings(backend: str) -> dict[str, Any]:
    """Return torch's settings: the instructions are limited to those in the card, and a run chooses the threads.

    By default, the compiler uses every instruction of this CPU.
    """
    has = torch.cpu.get_capabilities()
    settings: dict[str, Any] = {"cpp.dynamic_threads": True}
    if backend == "aotinductor":
        settings["freezing"] = (
            True  # one call of oneDNN for convolution and activation: 1.15 to 1.45 times as fast
        )
    if has.get("architecture") == "x86_64":
        settings["cpp.march"] = (
            "x86-64-v4" if all(has.get(need) for need in INSTRUCTIONS["AVX512"]) else "x86-64-v3"
        )
    return settings


def _check_compiler(backend: str) -> None:
    try:
        find_compiler()
    except OSError as fault:
        setting = f" (CXX is {os.environ['CXX']})" if "CXX" in os.environ else ""
        raise CannotBuild(
            f"{backend} compiles C++, and there is no compiler that works here{setting}; install g++ 11 or newer."
        ) from fault


def _metadata(file: Path) -> dict[str, str]:
    """Return the package's metadata, read without running its code, or raise WrongFile."""
    try:
        with zipfile.ZipFile(file) as package:
            (name,) = [name for name in package.namelist() if METADATA.fullmatch(name)]
            metadata = json.loads(package.read(name))
            return {key: str(metadata[key]) for key in ("AOTI_DEVICE_KEY", "AOTI_MACHINE", "AOTI_CPU_ISA")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as fault:
        raise WrongFile(f"{file} is no package of AOTInductor: {_first_line(fault)}") from fault


def _check_version(card: Card) -> None:
    built = card.versions.get("torch")
    if built != torch.__version__:
        raise OtherVersion(
            f"{card.form} was compiled by torch {built}, and torch {torch.__version__} is installed here. An "
            f"engine runs with one version only: build the engine again, or install torch {built}."
        )


def _check_cpu(card: Card, machine: str) -> None:
    has = torch.cpu.get_capabilities()
    if machine != has.get("architecture"):
        raise CannotRunHere(
            f"{card.form} was compiled for {machine}, and this machine is {has.get('architecture')}; build it on "
            "this machine."
        )
    missing = [
        name
        for name in card.device.instructions
        if not all(has.get(need) for need in INSTRUCTIONS.get(name, (name.lower(),)))
    ]
    if missing:
        raise CannotRunHere(
            f"{card.form} was compiled for a CPU with {', '.join(missing)}, which this one lacks; build it on "
            "this machine."
        )


def _check_gpu(card: Card) -> None:
    here = this_gpu()
    if not here:
        raise CannotRunHere(f"{card.form} runs on a GPU, and {NO_DRIVER}.")
    if here not in card.device.compute_capabilities:
        built_for = ", ".join(card.device.compute_capabilities)
        raise CannotRunHere(
            f"{card.form} was compiled for compute capability {built_for}, and this GPU has {here}; build it "
            "on this machine."
        )


def _first_line(fault: Exception) -> str:
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(fault).__name__

"""AOTInductor: engines are compiled where a compiler exists; messages name what is missing or different."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._inductor import config as inductor

from steps.backends import aotinductor, aotinductor_cuda
from steps.backends.aotinductor_cuda import NEEDED, cuda_home, include_folders
from steps.backends.runner import open_runner
from steps.build import build
from steps.engines.contract import CannotBuild, CannotRunHere, WrongFile
from steps.engines.names import parse_engine
from steps.errors import BadInput, Refused
from steps.reports.build import BuildReport
from steps.reports.card import Card, Device
from tests.backends.tiny import (
    ANY_CLASS,
    clipped,
    onnx_model,
    probe_images,
    reference,
    seal,
    weights,
    write_exported,
    write_images,
)

METADATA = "model/data/aotinductor/model/x.wrapper_metadata.json"
HERE = "{}.{}".format(*torch.cuda.get_device_capability(0)) if torch.cuda.is_available() else None
THIS_CPU = "AVX512" if torch.cpu.get_capabilities().get("avx512_f") else "AVX2"


def exported(folder: Path) -> Path:
    write_exported(folder / "model", onnx_model(weights()))
    write_images(folder)
    return folder


def built(root: Path, engine: str) -> Path:
    (root / engine).mkdir()
    build(ANY_CLASS, 0, engine, root / "model", root / "ingest", root / "split", root / engine)
    return root / engine


def package(folder: Path, backend: str, device: Device, version: str = "", **message: str) -> Path:
    """Write an engine package with the metadata of a real package, and without code."""
    told = {"AOTI_DEVICE_KEY": device.kind, "AOTI_CPU_ISA": "", "AOTI_MACHINE": "x86_64", **message}
    with zipfile.ZipFile(folder / "model.pt2", "w") as file:
        file.writestr(METADATA, json.dumps(told))
    card = seal(folder, backend=backend)
    versions = {"torch": version or str(torch.__version__)}
    card.model_copy(update={"device": device, "versions": versions, "form": f"{backend}-fp32"}).write(
        folder / "card.json"
    )
    return folder


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("engine", ["aotinductor-fp32", "aotinductor-bf16"])
def test_a_compiled_engine_says_what_it_needs_and_answers_as_the_network_does(engine: str, tmp_path: Path) -> None:
    out = built(exported(tmp_path), engine)
    card = Card.read(out / "card.json")
    assert card.made_from == Card.read(tmp_path / "model/card.json").artifact
    assert card.device.instructions and card.device.runtime == f"torch {torch.__version__}"
    for batch in (1, 2, 7):
        images_NHWC_u8 = probe_images(7)[:batch]
        wanted_NK = reference(images_NHWC_u8, weights())
        error = np.abs(open_runner(out)[0](images_NHWC_u8) - wanted_NK).max() / np.abs(wanted_NK).max()
        assert error <= {"fp32": 1e-5, "bf16": 2e-2}[card.precision]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_a_convolution_with_a_relu6_behind_it_is_compiled(tmp_path: Path) -> None:
    write_exported(tmp_path / "model", clipped(weights(), most=0.5))
    write_images(tmp_path)
    images_NHWC_u8 = probe_images(7)
    wanted_NK = open_runner(tmp_path / "model")[0](images_NHWC_u8)
    assert np.abs(wanted_NK - reference(images_NHWC_u8, weights())).max() > 1e-2, "nothing is clipped"
    found_NK = open_runner(built(tmp_path, "aotinductor-fp32"))[0](images_NHWC_u8)
    np.testing.assert_allclose(found_NK, wanted_NK, rtol=0, atol=1e-5 * np.abs(wanted_NK).max())


def test_without_a_compiler_the_refusal_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = exported(tmp_path)
    monkeypatch.setattr("steps.building.cache.FOLDER", tmp_path / "nothing was built yet")
    message = r"aotinductor-fp32: aotinductor compiles C\+\+, .* install g\+\+"
    with inductor.patch({"cpp.cxx": (None, "no-such-compiler")}), pytest.raises(Refused, match=message):
        built(root, "aotinductor-fp32")
    assert list((root / "aotinductor-fp32").iterdir()) == []


def test_an_operator_that_is_not_known_is_refused_before_anything_is_compiled(tmp_path: Path) -> None:
    root = exported(tmp_path)
    model = onnx_model(weights())
    model.graph.node[5].op_type = "Det"
    write_exported(root / "model", model)
    with pytest.raises(Refused, match="ONNX's Det is not implemented"):
        built(root, "aotinductor-fp32")


def test_a_changed_file_is_not_opened_as_it_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = package(tmp_path, "aotinductor", Device(kind="cpu"))
    (folder / "model.pt2").write_bytes(b"native code of somebody else")
    monkeypatch.setattr("torch._inductor.aoti_load_package", lambda path: pytest.fail(f"{path} was opened"))
    with pytest.raises(BadInput, match=r"model\.pt2 has the checksum"):
        open_runner(folder)


def test_a_file_that_is_no_package_is_a_wrong_file(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(b"no package")
    seal(tmp_path, backend="aotinductor")
    with pytest.raises(WrongFile, match=r"model\.pt2 is no package of AOTInductor"):
        open_runner(tmp_path)


def test_a_package_that_torch_cannot_load_is_a_wrong_file(tmp_path: Path) -> None:
    with pytest.raises(WrongFile, match=r"torch cannot load .*model\.pt2"):
        open_runner(package(tmp_path, "aotinductor", Device(kind="cpu", instructions=(THIS_CPU,))))


def test_a_package_for_another_kind_of_device_is_a_wrong_file(tmp_path: Path) -> None:
    with pytest.raises(WrongFile, match="compiled for cpu, and its card says cuda"):
        open_runner(package(tmp_path, "aotinductor-cuda", Device(kind="cpu")))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"version": "1.0.0"}, "was compiled by torch 1.0.0, and .* is installed here"),
        ({"device": Device(kind="cpu", instructions=("AVX512_OF_ANOTHER",))}, "a CPU with AVX512_OF_ANOTHER"),
        ({"AOTI_MACHINE": "riscv64"}, "was compiled for riscv64, and this machine is"),
    ],
)
def test_another_version_or_another_cpu_is_said_before_anything_runs(
    changed: dict[str, str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch._inductor.aoti_load_package", lambda path: pytest.fail(f"{path} was opened"))
    arguments = {"device": Device(kind="cpu"), **changed}
    with pytest.raises(CannotRunHere, match=sentence):
        open_runner(package(tmp_path, "aotinductor", **arguments))  # type: ignore[arg-type]


def test_a_cpu_without_the_instructions_is_told_by_what_torch_says_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package(tmp_path, "aotinductor", Device(kind="cpu", instructions=("AVX512",)))
    older = {"architecture": "x86_64", "avx2": True, "fma3": True, "f16c": True, "bmi2": True}
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: older)
    with pytest.raises(CannotRunHere, match="for a CPU with AVX512, which this one lacks"):
        open_runner(folder)
    assert aotinductor._settings("aotinductor")["cpp.march"] == "x86-64-v3"


@pytest.mark.parametrize(("here", "sentence"), [("", "no NVIDIA GPU"), ("9.0", "this GPU has 9.0")])
def test_a_missing_gpu_and_another_gpu_are_two_sentences(
    here: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steps.backends.aotinductor.this_gpu", lambda: here)
    with pytest.raises(CannotRunHere, match=sentence):
        open_runner(package(tmp_path, "aotinductor-cuda", Device(kind="cuda", compute_capabilities=("8.9",))))


@pytest.mark.skipif(HERE is not None, reason="this machine has a GPU")
def test_without_a_gpu_no_engine_for_one_is_built(tmp_path: Path) -> None:
    with pytest.raises(
        Refused, match="aotinductor-cuda builds on the GPU that will run the engine, and there is no"
    ):
        built(exported(tmp_path), "aotinductor-cuda-fp16")


def test_headers_of_cuda_are_laid_where_torch_looks_and_taken_away_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.utils import cpp_extension

    own, other = tmp_path / "own", tmp_path / "other"
    for name, folder in zip(("cuda.h", *NEEDED), (own, own, other, other), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.setattr(aotinductor_cuda, "TOOLKIT", tmp_path / "none")
    monkeypatch.setattr(aotinductor_cuda, "include_folders", lambda: [own, other])
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setenv("CPATH", "before")
    torchs_own = cpp_extension.CUDA_HOME
    with cuda_home("aotinductor-cuda"):
        home = Path(os.environ["CUDA_HOME"])
        assert (home / "include/cuda.h").is_file() and (home / "lib64/libcuda.so").is_symlink()
        assert os.environ["CPATH"] == f"{other}:before"
        assert str(home / "include") in cpp_extension.include_paths("cuda")
        assert str(home / "lib64") in cpp_extension.library_paths("cuda")
    assert not home.exists()
    assert "CUDA_HOME" not in os.environ and os.environ["CPATH"] == "before"
    assert torchs_own == cpp_extension.CUDA_HOME


@pytest.mark.parametrize("missing", NEEDED)
def test_a_missing_header_is_named_with_its_package(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NEEDED.keys() - {missing}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(aotinductor_cuda, "TOOLKIT", tmp_path / "none")
    monkeypatch.setattr(aotinductor_cuda, "include_folders", lambda: [tmp_path])
    monkeypatch.delenv("CUDA_HOME", raising=False)
    with (
        pytest.raises(CannotBuild, match=rf"{missing} \(package {NEEDED[missing]}\) is not there"),
        cuda_home("aotinductor-cuda"),
    ):
        pass


def test_the_wheels_that_torch_depends_on_bring_the_headers_of_the_runtime() -> None:
    if torch.version.cuda is None:
        pytest.skip("this torch was built without CUDA")
    found = {name for name in NEEDED for folder in include_folders() if (folder / name).is_file()}
    assert {"cuda_runtime_api.h", "crt/host_defines.h"} <= found


@pytest.mark.gpu
@pytest.mark.skipif(HERE is None, reason="this machine has no NVIDIA GPU")
@pytest.mark.parametrize("engine", ["aotinductor-cuda-fp32", "aotinductor-cuda-fp16", "aotinductor-cuda-bf16"])
def test_on_a_gpu_an_engine_answers_as_the_network_does(engine: str, tmp_path: Path) -> None:
    out = built(exported(tmp_path), engine)
    assert BuildReport.read(out / "report.json").not_run is None
    assert Card.read(out / "card.json").device.compute_capabilities == (HERE,)
    _, precision = parse_engine(engine)
    for batch in (1, 2, 7):
        wanted_NK = reference(probe_images(7)[:batch], weights())
        error = np.abs(open_runner(out)[0](probe_images(7)[:batch]) - wanted_NK).max() / np.abs(wanted_NK).max()
        assert error <= {"fp32": 1e-2, "fp16": 1e-2, "bf16": 2e-2}[precision]  # convolutions may use TF32

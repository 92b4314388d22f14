"""TensorRT: engines are built where it is installed and run where a GPU exists; messages name what is missing."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from steps.backends.runner import open_runner
from steps.build import build
from steps.building import cache as build_cache
from steps.building.cache import NOTE, Note
from steps.engines.contract import CannotRunHere, WrongFile
from steps.engines.names import BACKENDS, ENGINES, parse_engine
from steps.errors import Refused
from steps.files import sha256
from steps.params.build import BatchProfile, BuildParams
from steps.reports.build import BuildReport, EngineFacts
from steps.reports.card import Card
from tests.backends.tiny import (
    ANY_CLASS,
    onnx_model,
    probe_images,
    reference,
    seal,
    weights,
    write_exported,
    write_images,
)

pytestmark = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="the package tensorrt_rtx is not installed"
)
RTX = [engine for engine in ENGINES if engine.startswith("tensorrt-rtx-")]
PARAMS = BuildParams(
    batch=BatchProfile(min=2, opt=2, max=4), compute_capabilities=("8.6", "8.9", "12.0"), int8=ANY_CLASS.int8
)
BITS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
HERE = "{}.{}".format(*torch.cuda.get_device_capability(0)) if torch.cuda.is_available() else None


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tensorrt")
    write_exported(root / "model", onnx_model(weights()))
    write_images(root)
    return root


def built(root: Path, engine: str, out: Path, params: BuildParams = PARAMS) -> Path:
    out.mkdir(exist_ok=True)
    build(params, 0, engine, root / "model", root / "ingest", root / "split", out)
    return out


@pytest.mark.parametrize("engine", RTX)
def test_an_rtx_engine_is_built_ahead_of_time_without_a_gpu(root: Path, engine: str, tmp_path: Path) -> None:
    out = built(root, engine, tmp_path)
    card = Card.read(out / "card.json")
    assert (out / "model.engine").read_bytes()[:4] == b"vtrt"
    assert card.device.kind == "cuda"
    assert card.device.compute_capabilities == PARAMS.compute_capabilities
    assert card.device.batch == (2, 2, 4)
    assert card.device.runtime == f"tensorrt-rtx {card.versions['tensorrt-rtx']}"
    report = BuildReport.read(out / "report.json")
    assert report.refused is None
    assert report.size_bytes == (out / "model.engine").stat().st_size


def no_engine(content: bytearray) -> None:
    content[:4] = b"none"


def of_another_version(content: bytearray) -> None:
    content[24:28] = bytes([1, 3, 0, 35])


@pytest.mark.parametrize("spoil", [no_engine, of_another_version], ids=lambda f: f.__name__)
def test_a_kept_engine_that_opens_no_more_is_built_again(
    root: Path,
    spoil: Callable[[bytearray], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The bytes of the engine match its note, so that only an attempt to open the engine can reveal the fault."""
    monkeypatch.setattr(build_cache, "FOLDER", tmp_path / "builds")
    first = built(root, "tensorrt-rtx-fp32", tmp_path / "first")
    (entry,) = (tmp_path / "builds").iterdir()
    content = bytearray((entry / "model.engine").read_bytes())
    spoil(content)
    (entry / "model.engine").write_bytes(content)
    note = Note.read(entry / NOTE)
    note.model_copy(update={"files": {"model.engine": sha256(entry / "model.engine")}}).write(entry / NOTE)
    again = built(root, "tensorrt-rtx-fp32", tmp_path / "again")
    assert f"{entry} cannot be used and was removed (" in capsys.readouterr().err
    assert (again / "model.engine").read_bytes() != bytes(content)
    assert BuildReport.read(again / "report.json").not_run == BuildReport.read(first / "report.json").not_run
    third = built(root, "tensorrt-rtx-fp32", tmp_path / "third")
    assert "is taken from the build cache" in capsys.readouterr().err
    assert (third / "model.engine").read_bytes() == (again / "model.engine").read_bytes()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_an_engine_is_built_and_not_run(root: Path, tmp_path: Path) -> None:
    out = built(root, "tensorrt-rtx-fp32", tmp_path)
    assert "no NVIDIA GPU with a working driver" in str(BuildReport.read(out / "report.json").not_run)
    with pytest.raises(CannotRunHere, match="no NVIDIA GPU with a working driver"):
        open_runner(out)


def test_a_compute_capability_that_the_package_does_not_know_is_refused_by_its_key(
    root: Path, tmp_path: Path
) -> None:
    params = BuildParams(compute_capabilities=("8.9", "9.0"))
    with pytest.raises(Refused, match=r"capabilities .*8\.9.*, not for 9\.0; change build.compute_capabilities"):
        built(root, "tensorrt-rtx-fp32", tmp_path, params)
    assert list(tmp_path.iterdir()) == []


def test_what_the_builder_only_logs_is_the_reason_of_the_refusal(root: Path, tmp_path: Path) -> None:
    """TensorRT has no float32 matrix product for capability 7.5: the builder logs that and returns nothing."""
    with pytest.raises(Refused, match=r"cannot build the engine: .*FP32 GEMM is not supported"):
        built(root, "tensorrt-rtx-fp32", tmp_path, BuildParams(compute_capabilities=("7.5",)))


def test_a_setting_that_was_only_logged_as_wrong_is_a_refusal_and_no_engine_without_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def beyond_the_end(trt: Any, config: Any, *_: Any) -> None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM89, 7)  # returns False and raises nothing

    monkeypatch.setattr("steps.backends.tensorrt._target", beyond_the_end)
    monkeypatch.setattr(build_cache, "FOLDER", tmp_path / "builds")
    with pytest.raises(Refused, match=r"does not take the settings: .*Index of compute capability is not in"):
        built(root, "tensorrt-rtx-fp32", tmp_path / "out")


def test_a_capability_that_is_named_twice_is_one(root: Path, tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"compute_capabilities": ("8.9", "8.6", "8.9")})
    out = built(root, "tensorrt-rtx-fp32", tmp_path, params)
    assert Card.read(out / "card.json").device.compute_capabilities == ("8.9", "8.6")
    assert EngineFacts.read(out / "engine.json").device == Card.read(out / "card.json").device


def test_an_engine_holds_code_for_each_of_its_compute_capabilities(root: Path, tmp_path: Path) -> None:
    """Byte 32 of the file is a bit mask of the compute capabilities, in the order of BITS."""
    for wanted in (("8.9",), ("8.0", "8.6", "8.9", "12.0")):
        params = PARAMS.model_copy(update={"compute_capabilities": wanted, "preprocess": "host"})
        content = (built(root, "tensorrt-rtx-fp16", tmp_path, params) / "model.engine").read_bytes()
        assert {name for place, name in enumerate(BITS) if content[32] >> place & 1} == set(wanted)


def test_a_graph_that_the_parser_does_not_take_is_refused_with_its_reason(root: Path, tmp_path: Path) -> None:
    model = onnx_model(weights())
    model.graph.node[5].op_type = "Det"
    write_exported(tmp_path / "model", model)
    (tmp_path / "out").mkdir()
    with pytest.raises(Refused, match=r"tensorrt-rtx cannot read the graph: .*Det"):
        build(PARAMS, 0, "tensorrt-rtx-fp32", tmp_path / "model", root, root / "split", tmp_path / "out")


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="the package tensorrt is installed")
def test_tensorrt_without_its_package_says_how_to_get_it(root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        Refused, match=r"tensorrt-fp16: the package tensorrt .*make tensorrt.*, or remove it from `engines`\.$"
    ):
        built(root, "tensorrt-fp16", tmp_path)


def test_a_file_that_is_no_engine_is_a_wrong_file(tmp_path: Path) -> None:
    (tmp_path / "model.engine").write_bytes(b"no engine" * 100)
    seal(tmp_path, backend="tensorrt-rtx")
    with pytest.raises(WrongFile, match="is no engine of TensorRT for RTX"):
        open_runner(tmp_path)


def test_an_engine_of_another_version_says_what_to_rebuild(root: Path, tmp_path: Path) -> None:
    out = built(root, "tensorrt-rtx-fp32", tmp_path)
    content = bytearray((out / "model.engine").read_bytes())
    content[24:28] = bytes([1, 3, 0, 35])
    (out / "model.engine").write_bytes(content)
    seal(out, backend="tensorrt-rtx")
    with pytest.raises(CannotRunHere, match=r"built by tensorrt-rtx 1\.3\.0\.35, and .* is installed here"):
        open_runner(out)


@pytest.mark.parametrize(("here", "sentence"), [("", "no NVIDIA GPU"), ("9.0", "this GPU has 9.0")])
def test_a_missing_gpu_and_another_gpu_are_two_sentences(
    root: Path, tmp_path: Path, here: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steps.backends.tensorrt.this_gpu", lambda: here)
    out = built(root, "tensorrt-rtx-fp32", tmp_path)
    with pytest.raises(CannotRunHere, match=sentence):
        open_runner(out)


@pytest.mark.gpu
@pytest.mark.skipif(HERE is None, reason="this machine has no NVIDIA GPU")
@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine.startswith("tensorrt")])
def test_on_a_gpu_an_engine_answers_as_the_network_does(root: Path, engine: str, tmp_path: Path) -> None:
    backend, precision = parse_engine(engine)
    if find_spec(BACKENDS[backend].package) is None:
        pytest.skip(f"the package {BACKENDS[backend].package} is not installed")
    if backend == "tensorrt-rtx" and HERE == "9.0":
        pytest.skip("TensorRT for RTX does not build for compute capability 9.0")
    out = built(root, engine, tmp_path, PARAMS.model_copy(update={"compute_capabilities": (HERE,)}))
    run, _ = open_runner(out)
    for batch in (1, 2, 7):
        wanted_NK = reference(probe_images(7)[:batch], weights())
        error = np.abs(run(probe_images(7)[:batch]) - wanted_NK).max() / np.abs(wanted_NK).max()
        assert (
            error <= {"fp32": 1e-2, "fp16": 1e-2, "bf16": 2e-2, "int8": 5e-2}[precision]
        )  # fp32 computes in TF32 on a GPU

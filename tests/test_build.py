"""build: an engine whose answers were checked, or a refusal with the reason."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from steps.backends.runner import open_runner
from steps.build import build
from steps.engines.names import BACKENDS, ENGINES, parse_engine
from steps.engines.sanity import output_fault
from steps.errors import BadInput, Refused
from steps.export import export
from steps.fuse import fuse
from steps.models.normalised import normalised
from steps.params.build import BuildParams
from steps.params.export import ExportParams
from steps.params.fuse import FuseParams
from steps.reports.base import read_refusal
from steps.reports.build import BuildReport
from steps.reports.card import Card
from tests.backends.test_pytorch import stored
from tests.backends.tiny import (
    HOW,
    Weights,
    onnx_model,
    probe_images,
    run_step_in,
    weights,
    write_exported,
    write_images,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_exported(tmp_path / "model", onnx_model(weights()))
    write_images(tmp_path)
    return tmp_path


def built(
    root: Path, engine: str, params: BuildParams | None = None, seed: int = 0, model: Path | None = None
) -> Path:
    out = root / f"{engine}-{seed}"
    out.mkdir()
    build(params or BuildParams(), seed, engine, model or root / "model", root / "ingest", root / "split", out)
    return out


def test_the_report_and_the_card_tell_what_was_built(root: Path) -> None:
    out = built(root, "onnxruntime-fp32")
    report, card = BuildReport.read(out / "report.json"), Card.read(out / "card.json")
    assert (report.engine, report.refused, report.not_run) == ("onnxruntime-fp32", None, None)
    assert report.size_bytes == (out / "model.onnx").stat().st_size
    assert set(card.files) == {path.name for path in out.iterdir()} - {"card.json", "report.json"}


def constant(by: Weights) -> None:
    by["w3"][:] = 0


def not_finite(by: Weights) -> None:
    by["b3"][2] = np.nan


def infinite(by: Weights) -> None:
    by["b3"][2] = np.inf


def saturated(by: Weights) -> None:
    by["b3"][1] = 60000
    by["b1"][:] = 6e4
    by["w2"][:] = 6e4


@pytest.mark.parametrize(
    ("engine", "fault", "sentence"),
    [
        ("onnxruntime-fp32", constant, "its outputs are constant: over 17 different probes"),
        ("openvino-fp32", constant, "its outputs are constant"),
        ("onnxruntime-fp32", not_finite, "17 of 17 probes give outputs that are not finite"),
        ("onnxruntime-fp16", infinite, "17 of 17 probes give outputs that are not finite"),
        ("onnxruntime-fp16", saturated, r"reaches .* beyond float16's end at 65504"),
    ],
)
def test_an_engine_whose_outputs_mean_nothing_is_refused(
    root: Path, engine: str, fault: Callable[[Weights], None], sentence: str
) -> None:
    by = weights()
    fault(by)
    write_exported(root / "model", onnx_model(by))
    with pytest.raises(Refused, match=sentence):
        built(root, engine)
    assert list((root / f"{engine}-0").iterdir()) == [], "no engine may lie beside a refusal"


def test_a_weight_beyond_float16_is_refused_before_it_becomes_infinite(root: Path) -> None:
    by = weights()
    by["w1"][0, 0, 0, 0] = 1e5
    write_exported(root / "model", onnx_model(by))
    with pytest.raises(Refused, match=r"weight w1 reaches 100000, beyond float16"):
        built(root, "onnxruntime-fp16")


def test_int8_is_calibrated_on_training_images_drawn_by_the_seed(root: Path) -> None:
    few = BuildParams.model_validate({"calibration_images": 3, "int8": {"min_agreement": 0}})
    first, again, other = (built(root, "onnxruntime-int8", few, seed) for seed in (0, 1, 2))
    contents = {(out / "model.onnx").read_bytes() for out in (first, again, other)}
    assert len(contents) > 1, "another draw of three images gives other ranges"


def test_only_int8_reads_the_images(root: Path) -> None:
    for file in (root / "files").iterdir():
        file.unlink()
    built(root, "onnxruntime-fp32")
    with pytest.raises(BadInput, match=r"image .*\.png cannot be read"):
        built(root, "onnxruntime-int8")


@pytest.mark.parametrize("branches", ["fold", "keep"])
def test_every_engine_takes_the_graph_that_export_writes(root: Path, branches: str) -> None:
    """A network with branches, folded or not, exported by the steps themselves."""
    wide = stored(root / "train", "repvgg", head_scale=100.0)
    for name in ("fuse", "export"):
        (root / name).mkdir()
    fuse(FuseParams.model_validate({"branches": branches}), 0, root / "train", root / "fuse")
    export(ExportParams(), 0, root / "fuse/model", root / "export")
    images_NHWC_u8 = probe_images(7)
    with torch.inference_mode():
        wanted_NK = normalised(wide, HOW)(torch.from_numpy(images_NHWC_u8)).numpy()
    spread = float(np.ptp(wanted_NK, axis=0).max())
    for engine in ENGINES:
        backend, precision = parse_engine(engine)
        if find_spec(BACKENDS[backend].package) is None or backend.startswith("aotinductor"):
            continue  # tests/backends/test_tensorrt.py and test_aotinductor.py test this case
        out = built(root, engine, model=root / "export/model")
        if BuildReport.read(out / "report.json").not_run is None:
            error = float(np.abs(open_runner(out)[0](images_NHWC_u8) - wanted_NK).max())
            assert error <= {"fp32": 1e-4, "fp16": 2e-2, "bf16": 0.1, "int8": 0.3}[precision] * spread, engine


def test_an_unknown_engine_is_wrong_params_and_no_refusal(root: Path) -> None:
    with pytest.raises(BadInput, match="Did you mean 'openvino-int8'"):
        built(root, "openvino-int9")


def test_a_model_that_was_changed_after_export_is_not_built(root: Path) -> None:
    with (root / "model/model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BadInput, match=r"model.onnx has the checksum"):
        built(root, "onnxruntime-fp32")


def test_from_the_command_line_a_refusal_is_exit_3_and_stands_in_the_report(root: Path) -> None:
    by = weights()
    constant(by)
    write_exported(root / "model", onnx_model(by))
    arguments = {"engine": "onnxruntime-fp32", "model": "model", "images": "ingest", "split": "split"}
    ran = run_step_in(root, "build", {**arguments, "out": "data/build/onnxruntime-fp32"})
    assert ran.returncode == 3
    assert "its outputs are constant" in ran.stderr
    refusal = read_refusal(root / "data/build/onnxruntime-fp32/report.json")
    assert refusal is not None
    assert "its outputs are constant" in refusal


@pytest.mark.parametrize(
    ("logits", "fault"),
    [
        ([[1.0, 2.0], [1.0, 2.0]], "constant"),
        ([[0.0, 0.0], [0.0, 0.0]], "constant"),
        ([[1.0, np.inf], [1.0, 2.0]], "1 of 2 probes"),
        ([[1.0, -65504.0], [1.0, 2.0]], "saturated: fp16 ends at 65504"),
        ([[1.0, 2.0], [1.5, 2.0]], None),
        ([[1.0, 2.0, -1e4], [1.005, 2.0, -1e4]], None),  # a masked class
    ],
)
def test_outputs_are_judged_by_what_no_working_engine_gives(logits: list[list[float]], fault: str | None) -> None:
    message = output_fault(np.array(logits, np.float32), "fp16")
    assert message is None if fault is None else fault in str(message)

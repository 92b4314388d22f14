"""int8: an engine is judged on images outside its calibration; a refusal names the layers to keep in float32."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from steps.build import build
from steps.building import int8
from steps.building.int8 import Int8Images, Int8Outcome, Int8Plan, write_int8
from steps.building.sensitivity import fewest_left, worst_first
from steps.engines.contract import CannotBuild, Images, Logits
from steps.errors import Refused
from steps.params.build import BuildParams
from steps.reports.build import BuildReport
from tests.backends.tiny import (
    Weights,
    onnx_model,
    padded_with_infinity,
    probe_images,
    weights,
    write_exported,
    write_images,
)

IMAGES = probe_images(96)
DRAWN = Int8Images(IMAGES[:48], IMAGES[48:])
LAYERS = ("Conv_4", "Conv_6", "Gemm_10")


def with_outliers() -> Weights:
    """Return weights of the same function, with one channel between two layers far larger than the others."""
    by = weights()
    by["w1"][0] *= 1e4
    by["b1"][0] *= 1e4
    by["w2"][:, 0] /= 1e4
    return by


def written(folder: Path, by: Weights, plan: Int8Plan) -> tuple[Path, Int8Outcome]:
    source, target = folder / "model.onnx", folder / "int8.onnx"
    onnx.save(onnx_model(by), source)
    return target, write_int8(source, target, plan)


def quantized_layers(graph: Path) -> list[str]:
    model = onnx.load(graph)
    scaled = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return [node.name for node in model.graph.node if node.name in LAYERS and node.input[1] in scaled]


def test_a_channel_that_dwarfs_the_others_is_seen_on_the_held_out_images(tmp_path: Path) -> None:
    _, sound = written(tmp_path, weights(), Int8Plan(DRAWN))
    _, broken = written(tmp_path, with_outliers(), Int8Plan(DRAWN))
    assert (sound.images, sound.layers, sound.left_in_float) == (48, 3, ())
    assert broken.agreement < 0.8 < sound.agreement


def test_the_worst_layers_stay_in_float_until_the_classes_agree(tmp_path: Path) -> None:
    plan = Int8Plan(DRAWN, "sensitivity", 0.97)
    graph, outcome = written(tmp_path, with_outliers(), plan)
    assert outcome.agreement >= 0.97
    assert outcome.left_in_float == LAYERS[:2]
    assert quantized_layers(graph) == [LAYERS[2]]
    first = graph.read_bytes()
    assert written(tmp_path, with_outliers(), plan)[0].read_bytes() == first


def test_a_graph_that_agrees_keeps_every_layer_in_int8(tmp_path: Path) -> None:
    graph, outcome = written(tmp_path, weights(), Int8Plan(DRAWN, "sensitivity", 0.8))
    assert outcome.left_in_float == ()
    assert quantized_layers(graph) == list(LAYERS)


def test_the_infinity_that_a_pooling_is_padded_with_gets_no_steps(tmp_path: Path) -> None:
    source, target = tmp_path / "model.onnx", tmp_path / "int8.onnx"
    onnx.save(padded_with_infinity(weights()), source)
    assert write_int8(source, target, Int8Plan(DRAWN)).agreement > 0.8
    scales = [numpy_helper.to_array(stored) for stored in onnx.load(target).graph.initializer]
    assert sum(np.isinf(values).sum() for values in scales) == 1, "the constant itself"


def test_an_int8_graph_without_an_int8_layer_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.building.int8._agreement", lambda *_: 0.5)
    with pytest.raises(CannotBuild, match="only with all of its 3 layers in float32"):
        written(tmp_path, weights(), Int8Plan(DRAWN, "sensitivity", 0.9))


def test_layers_are_ranked_by_the_error_that_each_makes_alone() -> None:
    wanted_NK = np.zeros((2, 3), np.float32)
    error = {"a": 0.5, "b": 0.1, "c": 0.9}
    ranked = worst_first(("a", "b", "c"), wanted_NK, lambda one: wanted_NK + np.float32(error[one]))
    assert ranked == ("c", "a", "b")


@pytest.mark.parametrize("needed", range(1, 8))
def test_the_fewest_layers_are_found_with_few_tries(needed: int) -> None:
    ranked, tries = tuple("abcdefg"), []

    def agreement(left: tuple[str, ...]) -> float:
        tries.append(left)
        return 0.99 if len(left) >= needed else 0.5

    assert fewest_left(ranked, 0.98, agreement) == (ranked[:needed], 0.99 if needed < 7 else 1.0)
    assert len(tries) <= 3


@pytest.mark.parametrize("engine", ["onnxruntime-int8", "openvino-int8", "tensorrt-rtx-int8"])
def test_every_backend_takes_a_graph_of_which_layers_stay_in_float(tmp_path: Path, engine: str) -> None:
    if engine.startswith("tensorrt") and find_spec("tensorrt_rtx") is None:
        pytest.skip("the package tensorrt_rtx is not installed")
    write_exported(tmp_path / "model", onnx_model(with_outliers()))
    write_images(tmp_path)
    params = BuildParams.model_validate({"int8": {"fallback": "sensitivity", "min_agreement": 0.9}})
    build(params, 0, engine, tmp_path / "model", tmp_path / "ingest", tmp_path / "split", made(tmp_path / "out"))
    report = BuildReport.read(tmp_path / "out/report.json")
    assert report.int8 is not None
    assert report.int8.left_in_float == LAYERS[:2]


def test_what_disappoints_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    write_exported(tmp_path / "model", onnx_model(with_outliers()))
    write_images(tmp_path)
    sentence = (
        r"class on only \d+\.\d% of 16 training images .* build\.int8\.min_agreement asks for 95\.0%\. Train"
    )
    out = made(tmp_path / "out")
    with pytest.raises(Refused, match=sentence):
        build(BuildParams(), 0, "openvino-int8", tmp_path / "model", tmp_path / "ingest", tmp_path / "split", out)
    assert list(out.iterdir()) == []


def test_no_image_is_both_calibrated_on_and_judged_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_exported(tmp_path / "model", onnx_model(weights()))
    write_images(tmp_path)
    plans: list[Int8Plan] = []

    def seen(*given: object) -> None:
        assert isinstance(given[-1], Int8Plan)
        plans.append(given[-1])
        raise CannotBuild("enough was seen")

    monkeypatch.setattr("steps.build.build_engine", seen)
    with pytest.raises(Refused, match="enough was seen"):
        build(
            BuildParams(calibration_images=20),
            0,
            "openvino-int8",
            tmp_path / "model",
            tmp_path / "ingest",
            tmp_path / "split",
            made(tmp_path / "out"),
        )
    one, other = (
        {image.tobytes() for image in images}
        for images in (plans[0].images.calibration_NHWC_u8, plans[0].images.held_out_NHWC_u8)
    )
    assert (len(one), len(other), one & other) == (16, 16, set())


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def loud(seed: int) -> Weights:
    """Return weights that all lie at an end of their range: the worst case for sums of neighbouring pairs."""
    by = weights(seed)
    for name in ("w1", "w2"):
        by[name] = (np.sign(by[name] + 0.1) * 0.3).astype(np.float32)
    return by


def answered(graph: Path, level: onnxruntime.GraphOptimizationLevel) -> Logits:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    logits_NK: Logits = session.run(None, {"images_NHWC_u8": IMAGES})[0]
    return logits_NK


@pytest.mark.parametrize("by", [weights(), loud(0), loud(1)], ids=["random", "loud", "louder"])
def test_the_fused_kernels_of_this_cpu_compute_what_the_graph_says(tmp_path: Path, by: Weights) -> None:
    """With 127 steps a weight this fails on a CPU with AVX2 only; with VNNI (32-bit sums) it cannot fail."""
    graph, _ = written(tmp_path, by, Int8Plan(DRAWN))
    weights_u8 = [
        numpy_helper.to_array(t) for t in onnx.load(graph).graph.initializer if t.data_type == 3 and t.dims
    ]
    assert max(int(np.abs(each.astype(int)).max()) for each in weights_u8) == 64
    levels = onnxruntime.GraphOptimizationLevel
    fused_NK, plain_NK = answered(graph, levels.ORT_ENABLE_ALL), answered(graph, levels.ORT_DISABLE_ALL)
    apart_N = np.abs(fused_NK - plain_NK).max(1)
    best_NK = np.sort(plain_NK, axis=1)
    sure_N = best_NK[:, -1] - best_NK[:, -2] > 2e-2 * np.ptp(plain_NK, axis=0).max()  # else one step decides
    assert apart_N.max() < 2e-2 * np.ptp(plain_NK, axis=0).max()
    assert sure_N.sum() > len(IMAGES) / 2
    np.testing.assert_array_equal(fused_NK.argmax(1)[sure_N], plain_NK.argmax(1)[sure_N])


def test_kernels_that_saturate_are_named_and_the_network_is_not_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = int8._logits

    def saturating(model: onnx.ModelProto, images_NHWC_u8: Images, level: Any = int8.FUSED) -> Logits:
        logits_NK = right(model, images_NHWC_u8, level)
        quantized = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
        return np.minimum(logits_NK, np.median(logits_NK)) if quantized and level == int8.FUSED else logits_NK

    monkeypatch.setattr(int8, "_logits", saturating)
    with pytest.raises(
        CannotBuild, match=r"int8 kernels of this CPU do not compute .* the network is not to blame"
    ):
        written(tmp_path, weights(), Int8Plan(DRAWN))
    assert not (tmp_path / "int8.onnx").exists()

"""build refuses a network whose values exceed float16 before it starts, even if the CPU would not overflow."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from steps.backends.onnxruntime import open_engine
from steps.building.engine import Target, build_engine
from steps.engines.contract import BatchRange, CannotBuild
from steps.reports.artifact import CARD
from steps.reports.card import Card
from tests.backends.tiny import Weights, onnx_model, padded_with_infinity, probe_images, weights, write_exported


def scaled(scale: float) -> Weights:
    """Return weights of the same function in float32, with the first layer's results multiplied by `scale`."""
    by = weights()
    for key, factor in (("w1", scale), ("b1", scale), ("w2", 1 / scale)):
        by[key] = (by[key] * np.float32(factor)).astype(np.float32)
    return by


def build(root: Path, precision: str, model: onnx.ModelProto) -> None:
    write_exported(root / "model", model)
    (root / "engine").mkdir()
    target = Target("onnxruntime", precision, BatchRange(1, 1, 8), ())  # type: ignore[arg-type]
    build_engine(target, root / "model", root / "engine", None)


def test_a_tensor_beyond_the_end_of_float16_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotBuild, match=r"the tensor c1 \(Conv\) reaches .* beyond float16's end at 65504"):
        build(tmp_path, "fp16", onnx_model(scaled(5e4)))


@pytest.mark.parametrize(("precision", "scale"), [("fp32", 5e4), ("fp16", 1.0)])
def test_what_the_precision_can_hold_is_built(tmp_path: Path, precision: str, scale: float) -> None:
    build(tmp_path, precision, onnx_model(scaled(scale)))
    assert (tmp_path / "engine/model.onnx").is_file()


def test_the_infinity_that_a_pooling_is_padded_with_is_no_overflow(tmp_path: Path) -> None:
    build(tmp_path, "fp16", padded_with_infinity(weights()))
    card = Card.read(tmp_path / "model" / CARD)
    half_NK, wanted_NK = (
        open_engine(tmp_path / folder, card, 1)(probe_images(20)) for folder in ("engine", "model")
    )
    np.testing.assert_allclose(half_NK, wanted_NK, atol=5e-3 * np.abs(wanted_NK).max())


def test_beside_an_infinity_a_finite_value_beyond_the_end_is_still_named(tmp_path: Path) -> None:
    with pytest.raises(CannotBuild, match=r"the tensor c1 \(Conv\) reaches \d+ on .* beyond float16's end"):
        build(tmp_path, "fp16", padded_with_infinity(scaled(5e4)))


def test_what_is_no_number_is_not_called_an_overflow(tmp_path: Path) -> None:
    by = weights()
    by["b1"][0] = np.nan
    with pytest.raises(CannotBuild, match=r"the tensor c1 \(Conv\) is not a number \(NaN\)"):
        build(tmp_path, "fp16", onnx_model(by))

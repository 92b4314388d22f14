"""A network that float16 cannot hold is refused before it is built, also where the CPU would not overflow."""

from pathlib import Path

import numpy as np
import pytest

from steps.backends.contract import BatchRange, CannotBuild
from steps.backends.engine import Target, build_engine
from tests.backends.tiny import onnx_model, weights, write_exported


def build(root: Path, precision: str, scale: float) -> None:
    by = weights()
    for key, factor in (("w1", scale), ("b1", scale), ("w2", 1 / scale)):  # the same function in float32
        by[key] = (by[key] * np.float32(factor)).astype(np.float32)
    write_exported(root / "model", onnx_model(by))
    (root / "engine").mkdir()
    target = Target("onnxruntime", precision, BatchRange(1, 1, 8), ())  # type: ignore[arg-type]
    build_engine(target, root / "model", root / "engine", None)


def test_a_tensor_beyond_the_end_of_float16_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotBuild, match=r"the tensor c1 \(Conv\) reaches .* beyond float16's end at 65504"):
        build(tmp_path, "fp16", 5e4)


@pytest.mark.parametrize(("precision", "scale"), [("fp32", 5e4), ("fp16", 1.0)])
def test_what_the_precision_can_hold_is_built(tmp_path: Path, precision: str, scale: float) -> None:
    build(tmp_path, precision, scale)
    assert (tmp_path / "engine/model.onnx").is_file()

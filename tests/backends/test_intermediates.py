"""Intermediate tensors: layers are found by their weights' names, and a reader opens the files of an engine."""

from pathlib import Path

import pytest

from steps.backends import openvino as backend
from steps.backends.intermediates import read_tensors
from steps.engines.contract import CannotRunHere, WrongFile
from steps.engines.intermediate import layer_of
from tests.backends.tiny import onnx_model, probe_images, seal, weights, write_exported


@pytest.mark.parametrize(
    "name",
    [
        "a.conv.weight",
        "network.a.conv.weight",
        "a.conv.weight_bf16",
        "a.conv.weight.of_pixels",
        "a.conv.weight.of_pixels_",
        "a.conv.weight.of_pixels_bf16",
        "a.conv.weight.of_pixels_DequantizeLinear_Output",
    ],
)
def test_a_layer_is_known_by_its_weights_whatever_became_of_them(name: str) -> None:
    assert layer_of(["x", name, "a.conv.bias"]) == "a.conv"


@pytest.mark.parametrize("name", ["a.conv.bias", "a.conv.weight.bias_of_pixels", "levels"])
def test_what_is_no_weight_names_no_layer(name: str) -> None:
    assert layer_of([name]) == ""


def test_a_bfloat16_engine_is_not_read_where_it_would_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = write_exported(tmp_path, onnx_model(weights()))
    card = card.model_copy(update={"form": "openvino-bf16", "backend": "openvino", "precision": "bf16"})
    monkeypatch.setattr("openvino.Core.get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(CannotRunHere, match="computes in bfloat16, which this CPU lacks"):
        backend.read_tensors(tmp_path, card, probe_images(2))


def test_an_ir_that_openvino_cannot_read_is_a_wrong_file(tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text("<net/>")
    seal(tmp_path, backend="openvino")
    with pytest.raises(WrongFile, match=r"OpenVINO cannot read .*model\.xml"):
        read_tensors(tmp_path, probe_images(2))

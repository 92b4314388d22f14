"""A bfloat16 graph uses bfloat16 in every layer, and not before the first layer."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from steps.building.precision import write_graph
from steps.graphs.bfloat16 import to_bfloat16
from steps.graphs.torch_module import read_module
from tests.backends.tiny import onnx_model, probe_images, reference, weights


@pytest.fixture
def lowered(tmp_path: Path) -> onnx.ModelProto:
    onnx.save(onnx_model(weights()), tmp_path / "full.onnx")
    write_graph(tmp_path / "full.onnx", tmp_path / "model.onnx", "bf16", None)
    return onnx.load(tmp_path / "model.onnx")


def test_layers_and_weights_are_bfloat16_and_both_ends_as_they_were(lowered: onnx.ModelProto) -> None:
    onnx.checker.check_model(lowered, full_check=True)
    kept = {weight.name: weight.data_type for weight in lowered.graph.initializer}
    assert {name for name, kind in kept.items() if kind == TensorProto.FLOAT} == {"mean", "std"}
    assert {name for name, kind in kept.items() if kind == TensorProto.BFLOAT16} == {
        f"{name}_bf16" for name in ("w1", "b1", "w2", "b2", "w3", "b3")
    }
    typed = onnx.shape_inference.infer_shapes(lowered, strict_mode=True).graph
    layers = {item.name: item.type.tensor_type.elem_type for item in typed.value_info}
    assert {layers[name] for name in ("c1", "r1", "c2", "pooled", "flat")} == {TensorProto.BFLOAT16}
    assert layers["planes"] == TensorProto.FLOAT
    assert typed.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert typed.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert {entry.key for entry in lowered.metadata_props} == {"class_names"}


def test_the_scores_are_those_of_the_network_to_two_decimals(lowered: onnx.ModelProto, tmp_path: Path) -> None:
    images_NHWC_u8 = probe_images(7)
    with torch.inference_mode():
        found_NK = read_module(tmp_path / "model.onnx", "aotinductor")(torch.from_numpy(images_NHWC_u8)).numpy()
    wanted_NK = reference(images_NHWC_u8, weights())
    error = np.abs(found_NK - wanted_NK).max() / np.abs(wanted_NK).max()
    assert 0 < error < 2e-2  # bfloat16 has 8 bits, half a step of rounding is 2e-3 a layer


def test_weights_are_rounded_to_the_nearest_as_torch_rounds_them() -> None:
    by = weights()
    by["w1"] = np.random.default_rng(5).standard_normal(by["w1"].shape).astype(np.float32) * 3
    lowered = to_bfloat16(_named(onnx_model(by)), [])
    (found,) = [weight for weight in lowered.graph.initializer if weight.name == "w1_bf16"]
    wanted = torch.from_numpy(by["w1"]).to(torch.bfloat16)
    assert torch.equal(torch.frombuffer(bytearray(found.raw_data), dtype=torch.bfloat16), wanted.flatten())


def test_a_node_that_is_left_in_float32_gets_and_gives_what_its_neighbours_need(tmp_path: Path) -> None:
    model = _named(onnx_model(weights()))
    lowered = to_bfloat16(model, ["Cast_0", "Sub_1", "Div_2", "Transpose_3", "Relu_5"])
    onnx.checker.check_model(lowered, full_check=True)
    (relu,) = [node for node in lowered.graph.node if node.name == "Relu_5"]
    casts = {node.output[0]: node for node in lowered.graph.node if node.op_type == "Cast"}
    assert helper.get_attribute_value(casts[relu.input[0]].attribute[0]) == TensorProto.FLOAT
    assert helper.get_attribute_value(casts[f"{relu.output[0]}_bf16"].attribute[0]) == TensorProto.BFLOAT16


def test_the_same_graph_is_the_same_bytes(lowered: onnx.ModelProto, tmp_path: Path) -> None:
    write_graph(tmp_path / "full.onnx", tmp_path / "again.onnx", "bf16", None)
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    for place, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{place}"
    return model

"""An ONNX graph as a PyTorch module gives the same values as ONNX Runtime, operator by operator."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from steps.engines.contract import CannotBuild
from steps.graphs.operators import OPERATORS
from steps.graphs.preprocessing import preprocessing_graph
from steps.graphs.torch_module import exported_program, input_of, read_module
from steps.reports.card import Interpolation
from tests.backends.tiny import HOW, onnx_model, probe_images, reference, weights

Array = npt.NDArray[Any]
SEEDED = np.random.default_rng(0)
IMAGE = SEEDED.standard_normal((2, 4, 7, 9)).astype(np.float32)
ROW = SEEDED.standard_normal((3, 8)).astype(np.float32)
KERNEL = SEEDED.standard_normal((6, 2, 3, 3)).astype(np.float32)
FOUR = [SEEDED.uniform(0.5, 1.5, 4).astype(np.float32) for _ in range(4)]
Case = tuple[dict[str, Any], list[Any]]  # attributes; inputs, of which the first is the graph's input


def whole(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


# One row for each way in which exported classifiers use the operator.
CASES: dict[str, list[Case]] = {
    "Abs": [({}, [ROW])],
    "Add": [({}, [ROW, ROW[:1]])],
    "And": [({}, [ROW > 0, ROW < 1])],
    "AveragePool": [
        ({"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}, [IMAGE]),
        ({"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, [IMAGE]),
        ({"kernel_shape": [3, 3], "pads": [1, 0, 0, 1], "count_include_pad": 1}, [IMAGE]),
    ],
    "BatchNormalization": [({"epsilon": 1e-3}, [IMAGE, *FOUR])],
    "Cast": [({"to": TensorProto.FLOAT16}, [ROW])],
    "Ceil": [({}, [ROW])],
    "Clip": [({}, [ROW, np.float32(0), np.float32(0.5)]), ({}, [ROW, np.float32(0)])],
    "Concat": [({"axis": 1}, [ROW, ROW[:, :2]])],
    "Constant": [({"value": numpy_helper.from_array(ROW)}, [])],
    "Conv": [
        ({"pads": [1, 1, 1, 1], "strides": [2, 1], "group": 2}, [IMAGE, KERNEL, KERNEL[:, 0, 0, 0]]),
        ({"pads": [0, 1, 2, 1], "dilations": [2, 1], "group": 2}, [IMAGE, KERNEL]),
    ],
    "Div": [({}, [ROW, np.float32(3)])],
    "Dropout": [({}, [ROW])],
    "Elu": [({"alpha": 0.7}, [ROW])],
    "Equal": [({}, [ROW, ROW[:1]])],
    "Erf": [({}, [ROW])],
    "Exp": [({}, [ROW])],
    "Expand": [({}, [ROW[:1], whole(3, 8)])],
    "Flatten": [({}, [IMAGE]), ({"axis": 2}, [IMAGE])],
    "Floor": [({}, [ROW])],
    "Gather": [
        ({"axis": 1}, [ROW, np.int64(-2)]),
        ({"axis": 1}, [ROW, whole(1, -1, 0)]),
        ({"axis": 1}, [ROW, whole(1, -1, 0, 2).reshape(2, 2)]),
    ],
    "Gelu": [({}, [ROW]), ({"approximate": "tanh"}, [ROW])],
    "Gemm": [
        ({"transB": 1}, [ROW, ROW[:2], ROW[0, :2]]),
        ({"alpha": 0.5, "beta": 2.0, "transA": 1}, [ROW, ROW[:, :3], ROW[0, :3]]),
    ],
    "GlobalAveragePool": [({}, [IMAGE])],
    "GlobalMaxPool": [({}, [IMAGE])],
    "Greater": [({}, [ROW, ROW[:1]])],
    "GreaterOrEqual": [({}, [ROW, ROW[:1]])],
    "HardSigmoid": [({}, [ROW]), ({"alpha": 1 / 6, "beta": 0.5}, [ROW])],
    "HardSwish": [({}, [ROW * 4])],
    "Identity": [({}, [ROW])],
    "LayerNormalization": [({"epsilon": 1e-6}, [ROW, ROW[0], ROW[1]])],
    "LeakyRelu": [({"alpha": 0.2}, [ROW])],
    "Less": [({}, [ROW, np.float32(0)])],
    "LessOrEqual": [({}, [ROW, np.float32(0)])],
    "MatMul": [({}, [ROW, ROW.T.copy()])],
    "Max": [({}, [ROW, np.float32(0.1)])],
    "MaxPool": [
        ({"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, [IMAGE]),
        ({"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}, [IMAGE - 9]),
        ({"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, [IMAGE]),
    ],
    "Min": [({}, [ROW, np.float32(0.1)])],
    "Mul": [({}, [ROW, ROW[:1]])],
    "Neg": [({}, [ROW])],
    "PRelu": [({}, [IMAGE, FOUR[0].reshape(4, 1, 1)])],
    "Pad": [({}, [IMAGE, whole(0, 0, 1, 2, 0, 0, 0, 3), np.float32(0.5)])],
    "Pow": [({}, [ROW, np.float32(2)])],
    "Range": [({}, [np.int64(1), np.int64(9), np.int64(3)])],
    "Reciprocal": [({}, [ROW])],
    "ReduceMax": [({"keepdims": 0}, [IMAGE, whole(2, 3)])],
    "ReduceMean": [({"keepdims": 0}, [IMAGE, whole(2, 3)]), ({"keepdims": 1}, [IMAGE, whole(-1)])],
    "ReduceSum": [({"keepdims": 1}, [IMAGE, whole(1)]), ({"noop_with_empty_axes": 1}, [IMAGE])],
    "Relu": [({}, [ROW])],
    "Reshape": [({}, [IMAGE, whole(0, -1)]), ({}, [IMAGE, whole(2, 2, 2, 63)])],
    "Shape": [({}, [IMAGE]), ({"start": 1, "end": 3}, [IMAGE])],
    "Sigmoid": [({}, [ROW])],
    "Slice": [({}, [IMAGE, whole(1, 0), whole(2**63 - 1, -2), whole(3, 1), whole(2, 1)])],
    "Softmax": [({}, [ROW]), ({"axis": 0}, [ROW])],
    "Softplus": [({}, [ROW])],
    "Split": [({"axis": 1}, [ROW, whole(3, 5)]), ({"axis": 1, "num_outputs": 2}, [ROW])],
    "Sqrt": [({}, [np.abs(ROW)])],
    "Squeeze": [({}, [IMAGE[:, :1], whole(1)])],
    "Sub": [({}, [ROW, ROW[:1]])],
    "Tanh": [({}, [ROW])],
    "Transpose": [({"perm": [0, 2, 3, 1]}, [IMAGE]), ({}, [ROW])],
    "Unsqueeze": [({}, [ROW, whole(0, -1)])],
    "Where": [({}, [ROW > 0, ROW, np.float32(3)])],
}
ROWS = [(kind, number) for kind in CASES for number in range(len(CASES[kind]))]


def test_every_operator_of_the_table_is_tried_here() -> None:
    assert set(CASES) == set(OPERATORS)


@pytest.mark.parametrize(("kind", "number"), ROWS)
def test_an_operator_computes_what_onnx_runtime_computes(kind: str, number: int, tmp_path: Path) -> None:
    attributes, inputs = CASES[kind][number]
    names = [f"input_{place}" for place in range(len(inputs))]
    outputs = ["output", "other"] if kind == "Split" else ["output"]
    node = helper.make_node(kind, names, outputs, **attributes)
    first = np.asarray(inputs[0]) if inputs else ROW  # a graph of constants still has an input
    given = names[0] if inputs and kind != "Range" else "unused"
    stored = [
        numpy_helper.from_array(np.asarray(value), name)
        for name, value in zip(names, inputs, strict=True)
        if name != given
    ]
    graph = helper.make_graph(
        [node],
        kind,
        [helper.make_tensor_value_info(given, helper.np_dtype_to_tensor_dtype(first.dtype), first.shape)],
        [helper.make_empty_tensor_value_info("output")],
        stored,
    )
    model = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    )
    onnx.save(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {given: first})
    with torch.inference_mode():
        found = read_module(tmp_path / "model.onnx", "aotinductor")(torch.from_numpy(first.copy()))
    got = found.numpy() if isinstance(found, torch.Tensor) else np.array(found)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6 * max(1.0, float(np.abs(wanted).max())))


def test_a_whole_graph_is_the_same_for_batches_that_tracing_did_not_see(tmp_path: Path) -> None:
    onnx.save(onnx_model(weights()), tmp_path / "model.onnx")
    free, shape, dtype = input_of(tmp_path / "model.onnx")
    assert (free, shape, dtype) == (("batch", None, None, None), (2, 16, 16, 3), torch.uint8)
    module = read_module(tmp_path / "model.onnx", "aotinductor")
    program = exported_program(module, torch.zeros(shape, dtype=dtype), free, "aotinductor").module()
    for count in (1, 2, 7):
        images_NHWC_u8 = probe_images(7)[:count]
        wanted_NK = reference(images_NHWC_u8, weights())
        with torch.inference_mode():
            found_NK = program(torch.from_numpy(images_NHWC_u8)).numpy()
        np.testing.assert_allclose(found_NK, wanted_NK, rtol=0, atol=1e-5 * np.abs(wanted_NK).max())


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resize_and_crop_in_the_graph_are_computed_alike_for_sizes_that_tracing_did_not_see(
    interpolation: Interpolation, tmp_path: Path
) -> None:
    graph = tmp_path / "model.onnx"
    onnx.save(preprocessing_graph(HOW.model_copy(update={"interpolation": interpolation}), 20), graph)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    free, shape, dtype = input_of(graph)
    module = read_module(graph, "aotinductor")
    program = exported_program(module, torch.zeros(shape, dtype=dtype), free, "aotinductor").module()
    for height, width in ((31, 50), (100, 17), (16, 16), (3, 128)):
        images_NHWC_u8 = SEEDED.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        (wanted_NHWC,) = session.run(None, {session.get_inputs()[0].name: images_NHWC_u8})
        with torch.inference_mode():
            found_NHWC = program(torch.from_numpy(images_NHWC_u8)).numpy()
        off = np.abs(found_NHWC - wanted_NHWC)
        assert off.max() <= 1 and (off > 0).mean() < 1e-2  # ties may round to the next level


@pytest.mark.parametrize(
    ("place", "change", "sentence"),
    [
        (5, {"op_type": "Det"}, "ONNX's Det is not implemented; build onnxruntime or openvino"),
        (5, {"domain": "com.example"}, "com.example's Relu is not implemented"),
    ],
)
def test_an_operator_without_a_counterpart_is_named(
    place: int, change: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    model = onnx_model(weights())
    for name, value in change.items():
        setattr(model.graph.node[place], name, value)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(CannotBuild, match=sentence):
        read_module(tmp_path / "model.onnx", "aotinductor")


def test_an_attribute_without_a_counterpart_is_named(tmp_path: Path) -> None:
    model = onnx_model(weights())
    del model.graph.node[4].attribute[:]
    model.graph.node[4].attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))
    onnx.save(model, tmp_path / "model.onnx")
    free, shape, dtype = input_of(tmp_path / "model.onnx")
    module = read_module(tmp_path / "model.onnx", "aotinductor")
    with pytest.raises(CannotBuild, match="auto_pad SAME_UPPER is not implemented"):
        exported_program(module, torch.zeros(shape, dtype=dtype), free, "aotinductor")

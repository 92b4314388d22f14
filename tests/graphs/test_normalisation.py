"""The normalisation folds into the first convolutions as far as their padding allows, and no output changes."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from steps.graphs.normalisation import fold_normalisation

SIZE, OUT = 9, 6
MEAN, STD = np.array([124.0, 116.0, 104.0], np.float32), np.array([58.0, 57.0, 51.0], np.float32)
ALL, NO_MEAN, NOTHING = {"Sub", "Div"}, {"Div"}, set[str]()
Node = onnx.NodeProto


def conv(source: str, target: str, weight: str, bias: str | None = None, **how: Any) -> Node:
    return helper.make_node("Conv", [source, weight] + ([bias] if bias else []), [target], **how)


def pad(mode: str, value: str = "") -> Node:
    return helper.make_node("Pad", ["x", "around", value], ["padded"], mode=mode)


def flat(*names: str) -> list[Node]:
    """Return the nodes that join several tensors of any shape into one output."""
    ends = [helper.make_node("Flatten", [name], [f"{name}_flat"]) for name in names]
    return [*ends, helper.make_node("Concat", [f"{name}_flat" for name in names], ["logits"], axis=1)]


FIRST_LAYERS: dict[str, tuple[set[str], list[Node]]] = {
    "zero padding keeps the mean outside": (NO_MEAN, [conv("x", "y", "w", "b", pads=[1, 1, 1, 1])]),
    "no padding takes both": (ALL, [conv("x", "y", "w", "b")]),
    "no bias gets one": (ALL, [conv("x", "y", "w")]),
    "a patch embedding": (ALL, [conv("x", "y", "w", "b", strides=[3, 3])]),
    "one pixel wide": (ALL, [conv("x", "y", "w1", "b")]),
    "dilated": (ALL, [conv("x", "y", "w", "b", dilations=[2, 2])]),
    "a group a channel": (ALL, [conv("x", "y", "wg", "b", group=3)]),
    "a group a channel, padded": (NO_MEAN, [conv("x", "y", "wg", "b", group=3, pads=[1, 1, 1, 1])]),
    "padding on one side": (NO_MEAN, [conv("x", "y", "w", "b", strides=[2, 2], pads=[0, 0, 1, 1])]),
    "automatic padding": (NO_MEAN, [conv("x", "y", "w", "b", auto_pad="SAME_UPPER")]),
    "reflected": (ALL, [pad("reflect"), conv("padded", "y", "w", "b")]),
    "repeated": (ALL, [pad("edge"), conv("padded", "y", "w", "b")]),
    "repeated, then zeros": (NO_MEAN, [pad("edge"), conv("padded", "y", "w", "b", pads=[1, 1, 1, 1])]),
    "zeros by a node of their own": (NO_MEAN, [pad("constant"), conv("padded", "y", "w", "b")]),
    "a border of ones": (NOTHING, [pad("constant", "one"), conv("padded", "y", "w", "b")]),
    "two of them": (ALL, [conv("x", "y", "w", "b"), conv("x", "z", "w1")]),
    "two with the same weights": (ALL, [conv("x", "y", "w", "b"), conv("x", "z", "w", strides=[2, 2])]),
    "two, one padded": (NO_MEAN, [conv("x", "y", "w", "b"), conv("x", "z", "w", pads=[1, 1, 1, 1])]),
    "a convolution and another reader": (NOTHING, [conv("x", "y", "w"), helper.make_node("Relu", ["x"], ["z"])]),
    "the first layer of an MLP": (
        NOTHING,
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "wf"], ["y"])],
    ),
    "a convolution of its own weights": (
        NOTHING,
        [helper.make_node("Identity", ["w"], ["computed"]), conv("x", "y", "computed", "b")],
    ),
}


def network(layers: list[Node]) -> onnx.ModelProto:
    """Return a graph that normalises as an exported graph does and then has these layers."""
    random = np.random.default_rng(0)
    stored: dict[str, Any] = {
        "mean": MEAN.reshape(3, 1, 1),
        "std": STD.reshape(3, 1, 1),
        "w": random.standard_normal((OUT, 3, 3, 3)),
        "w1": random.standard_normal((OUT, 3, 1, 1)),
        "wg": random.standard_normal((OUT, 1, 3, 3)),
        "wf": random.standard_normal((3 * SIZE * SIZE, OUT)),
        "b": random.standard_normal(OUT),
        "one": np.ones(()),
    }
    numbers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in stored.items()]
    around = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), "around")
    nodes = [
        helper.make_node("Cast", ["images_NHWC_u8"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["real"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["planes", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["x"]),
        *layers,
        *flat(*(name for node in layers for name in node.output if name in ("y", "z"))),
    ]
    source = helper.make_tensor_value_info("images_NHWC_u8", TensorProto.UINT8, ["N", SIZE, SIZE, 3])
    target = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", None])
    graph = helper.make_graph(nodes, "g", [source], [target], [*numbers, around])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def outputs(model: onnx.ModelProto) -> Any:
    images = np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    (result,) = list(ReferenceEvaluator(model).run(None, {"images_NHWC_u8": images}))
    return result


@pytest.mark.parametrize(("gone", "layers"), FIRST_LAYERS.values(), ids=FIRST_LAYERS.keys())
def test_it_folds_as_far_as_the_border_allows_and_no_output_moves(gone: set[str], layers: list[Node]) -> None:
    model = network(layers)
    folded = fold_normalisation(model)
    onnx.checker.check_model(folded, full_check=True)
    assert {node.op_type for node in folded.graph.node} == {node.op_type for node in model.graph.node} - gone
    before, after = outputs(model), outputs(folded)
    assert np.abs(before - after).max() <= 2e-6 * np.abs(before).max()  # float32 sums of 27 products


def test_a_mean_folded_behind_a_border_of_zeros_would_be_seen_here() -> None:
    """Check that the table above would detect the fault that the table is about."""
    model = network([conv("x", "y", "w", "b", pads=[1, 1, 1, 1])])
    folded = fold_normalisation(network([conv("x", "y", "w", "b")]))
    next(node for node in folded.graph.node if node.op_type == "Conv").attribute.extend(
        [helper.make_attribute("pads", [1, 1, 1, 1])]
    )
    before, after = outputs(model), outputs(folded)
    assert np.abs(before - after).max() > 0.1 * np.abs(before).max()


def test_the_graph_that_was_given_is_left_as_it_was() -> None:
    model = network([conv("x", "y", "w", "b")])
    content = model.SerializeToString(deterministic=True)
    fold_normalisation(model)
    assert model.SerializeToString(deterministic=True) == content


def test_what_nothing_reads_any_more_is_gone() -> None:
    folded = fold_normalisation(network([conv("x", "y", "w")]))
    kept = {tensor.name for tensor in folded.graph.initializer}
    assert not kept & {"mean", "std", "w"}

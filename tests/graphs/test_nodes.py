"""Questions about a graph's nodes are answered from the graph alone, including ONNX's default values."""

from typing import Any

import numpy as np
import pytest
from onnx import GraphProto, TensorProto, helper, numpy_helper

from steps.graphs.nodes import attribute_of, border_follows, constant_of, drop_unread, pads, readers_of


@pytest.mark.parametrize(
    ("how", "padded"),
    [
        ({}, False),
        ({"pads": [0, 0, 0, 0]}, False),
        ({"pads": [0, 0, 0, 1]}, True),
        ({"auto_pad": "VALID"}, False),
        ({"auto_pad": "NOTSET"}, False),
        ({"auto_pad": "SAME_UPPER"}, True),
        ({"auto_pad": "SAME_LOWER"}, True),
    ],
)
def test_a_convolution_pads_by_either_attribute(how: dict[str, Any], padded: bool) -> None:
    assert pads(helper.make_node("Conv", ["x", "w"], ["y"], **how)) == padded


@pytest.mark.parametrize(
    ("how", "follows"),
    [
        ({}, False),
        ({"mode": "constant"}, False),
        *[({"mode": mode}, True) for mode in ("reflect", "edge", "wrap")],
    ],
)
def test_a_border_follows_unless_it_is_a_constant_which_is_the_default(how: dict[str, str], follows: bool) -> None:
    assert border_follows(helper.make_node("Pad", ["x", "around"], ["y"], **how)) == follows


def graph() -> GraphProto:
    nodes = [helper.make_node("Add", ["x", "kept"], ["y"], name="add"), helper.make_node("Relu", ["y"], ["z"])]
    x, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xz")
    stored = [numpy_helper.from_array(np.array([1, 2], np.float16), name) for name in ("kept", "unread", "given")]
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("y", "gone")]
    made = helper.make_graph(nodes, "g", [x], [z], stored, value_info=shapes)
    made.output.append(helper.make_tensor_value_info("given", TensorProto.FLOAT16, [2]))
    return made


def test_readers_and_constants_are_found_by_name() -> None:
    made = graph()
    assert [node.op_type for node in readers_of(made, "y")] == ["Relu"]
    assert readers_of(made, "nobody's") == []
    values = constant_of(made, "kept")
    assert values is not None and values.dtype == np.float64 and values.tolist() == [1, 2]
    assert constant_of(made, "y") is None
    assert attribute_of(made.node[0], "axis") is None


def test_what_is_dropped_is_read_by_no_node_and_is_no_output() -> None:
    made = graph()
    drop_unread(made)
    assert [tensor.name for tensor in made.initializer] == ["kept", "given"]
    assert [shape.name for shape in made.value_info] == ["y"]

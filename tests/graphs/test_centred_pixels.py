"""int8 gets pixels centred around zero: the pixels then get twice the steps, and float32 output is unchanged."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from steps.building.int8 import Int8Images, Int8Plan
from steps.building.precision import write_graph
from steps.graphs.centred_pixels import recentre_pixels
from steps.graphs.normalisation import fold_normalisation
from tests.graphs.test_normalisation import ALL, FIRST_LAYERS, SIZE, Node, conv, network, outputs


@pytest.mark.parametrize(("gone", "layers"), FIRST_LAYERS.values(), ids=FIRST_LAYERS.keys())
def test_levels_are_centred_where_the_mean_was_folded_and_no_output_moves(
    gone: set[str], layers: list[Node]
) -> None:
    folded, centred = (fold_normalisation(network(layers)) for _ in range(2))
    recentre_pixels(centred.graph)
    onnx.checker.check_model(centred, full_check=True)
    before, after = outputs(folded), outputs(centred)
    assert np.abs(before - after).max() <= 2e-6 * np.abs(before).max()
    assert (folded.SerializeToString() != centred.SerializeToString()) == (gone == ALL)
    begin = ["Cast", "Sub", "Transpose"] if gone == ALL else ["Cast", "Transpose", "Sub"]
    assert [node.op_type for node in centred.graph.node[:3]] == begin


def test_the_quantizer_has_a_step_for_each_level(tmp_path: Path) -> None:
    onnx.save(fold_normalisation(network([conv("x", "y", "w", "b")])), tmp_path / "model.onnx")
    ends_NHWC_u8 = np.array([0, 255], np.uint8).repeat(SIZE * SIZE * 3).reshape(2, SIZE, SIZE, 3)
    write_graph(
        tmp_path / "model.onnx", tmp_path / "int8.onnx", "int8", Int8Plan(Int8Images(ends_NHWC_u8, ends_NHWC_u8))
    )
    graph = onnx.load(tmp_path / "int8.onnx").graph
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear")
    step = next(numpy_helper.to_array(each) for each in graph.initializer if each.name == first.input[1])
    assert step == pytest.approx(128 / 127, rel=0.01)  # uncentred, levels from 0 to 255 would get steps of two

"""int8 keeps everything between the last layers and the logits in float32, whatever the operators."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import NodeProto, helper

from steps.building.int8 import Int8Images, Int8Plan, write_int8
from steps.engines.contract import Images, Logits
from steps.graphs.float_tail import Tail, tail_of
from steps.graphs.layers import name_nodes
from steps.graphs.nodes import drop_unread
from tests.backends.tiny import onnx_model, probe_images, weights

BRIGHT = probe_images(400)
# One colour an image: each channel keeps its range, and the sum of the three channels has a third of its range.
COLOURED = BRIGHT * np.eye(3, dtype=np.uint8)[np.arange(len(BRIGHT)) % 3][:, None, None]


def node(operator: str, given: list[str], result: str) -> NodeProto:
    return helper.make_node(operator, given, [result])


POOL, FLATTEN = node("GlobalAveragePool", ["r2"], "pooled"), node("Flatten", ["pooled"], "flat")
CONVOLVE = node("Conv", ["r2", "w4", "b4"], "c3")
HEADS = {  # name: (nodes behind the tensor r2, how many of the last nodes stay in float32)
    "squeezenet": (
        [
            CONVOLVE,
            node("Relu", ["c3"], "r3"),
            node("GlobalAveragePool", ["r3"], "p3"),
            node("Flatten", ["p3"], "logits_NK"),
        ],
        3,
    ),
    "a pooling convolved": ([POOL, node("Conv", ["pooled", "w4"], "c3"), node("Flatten", ["c3"], "logits_NK")], 1),
    "a bias apart": (
        [POOL, FLATTEN, node("MatMul", ["flat", "w5"], "m"), node("Add", ["m", "b3"], "logits_NK")],
        1,
    ),
    "two heads": (
        [
            CONVOLVE,
            node("Conv", ["r2", "w4"], "c4"),
            node("Add", ["c3", "c4"], "both"),
            node("GlobalAveragePool", ["both"], "p3"),
            node("Flatten", ["p3"], "logits_NK"),
        ],
        3,
    ),
}
CASES = pytest.mark.parametrize(("head", "behind"), HEADS.values(), ids=HEADS)


def headed(head: list[NodeProto]) -> onnx.ModelProto:
    """Return the tiny network with convolutions that pass the colours on unchanged and a head that sums them."""
    by = weights()
    for name in ("w1", "w2", "w3"):
        by[name] *= 0
    for colour in range(3):
        by["w1"][colour, colour, 1, 1] = by["w2"][colour, colour, 1, 1] = 1
    by["w3"][:, :3] = np.random.default_rng(0).uniform(0.5, 1, (len(by["w3"]), 3))
    for name in ("b1", "b2", "b3"):
        by[name] *= 0
    by |= {"w4": by["w3"][:, :, None, None], "b4": by["b3"], "w5": by["w3"].T.copy()}
    model = onnx_model(by)
    del model.graph.node[-3:]
    model.graph.node.extend(head)
    drop_unread(model.graph)
    name_nodes(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def in_int8(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    onnx.save(model, folder / "model.onnx")
    write_int8(folder / "model.onnx", folder / "int8.onnx", Int8Plan(Int8Images(COLOURED[:96], BRIGHT[:64])))
    return onnx.load(folder / "int8.onnx")


def answers(model: onnx.ModelProto, images_NHWC_u8: Images) -> Logits:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits_NK: Logits = session.run(None, {"images_NHWC_u8": images_NHWC_u8})[0]
    return logits_NK


@CASES
def test_logits_are_neither_steps_nor_cut_off(tmp_path: Path, head: list[NodeProto], behind: int) -> None:
    model = headed(head)
    quantized = in_int8(model, tmp_path)
    given_NK, wanted_NK = answers(quantized, BRIGHT), answers(model, BRIGHT)
    assert len(np.unique(given_NK)) > 1000
    calibrated = answers(model, COLOURED[:96]).max()
    beyond_NK = wanted_NK > 1.5 * calibrated
    assert beyond_NK.any() and (given_NK[beyond_NK] > 1.4 * calibrated).all()
    assert np.sqrt(np.square(given_NK - wanted_NK).mean()) < 0.1 * wanted_NK.std()


@CASES
def test_every_layer_is_in_int8_and_all_behind_the_last_in_float(
    tmp_path: Path, head: list[NodeProto], behind: int
) -> None:
    model = headed(head)
    quantized = in_int8(model, tmp_path)
    names = [each.name for each in model.graph.node]
    assert tail_of(model).behind == tuple(names[-behind:])
    restored = {
        name for each in quantized.graph.node if each.op_type == "DequantizeLinear" for name in each.output
    }
    layers = [each for each in quantized.graph.node if each.op_type in ("Conv", "MatMul")]
    assert all(set(each.input[:2]) <= restored for each in layers)
    ends = [each for each in quantized.graph.node if each.name in names[-behind:]]
    assert len(ends) == behind and not restored & {name for each in ends for name in each.input}
    read = {name for each in quantized.graph.node for name in each.input}
    assert {tensor.name for tensor in quantized.graph.initializer} <= read


def test_a_network_that_ends_in_its_last_layer_has_nothing_behind_it() -> None:
    model = onnx_model(weights())
    name_nodes(model)
    assert tail_of(model) == Tail(("Gemm_10",), ())


def test_where_nothing_is_behind_it_the_graph_is_the_quantizer_s_own_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = in_int8(onnx_model(weights()), tmp_path)
    monkeypatch.setattr("steps.building.int8.tail_of", lambda _: Tail((), ()))
    assert in_int8(onnx_model(weights()), tmp_path).SerializeToString() == written.SerializeToString()

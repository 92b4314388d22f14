"""Faults of engines that resize by themselves, and of those that are compiled: on pictures of many sizes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.planted import graphs, resizes
from benchmarks.planted.in_engines import OF_GRAPH
from benchmarks.planted.line import BY_ITS_STEPS, downstream
from benchmarks.planted.mutant import Mutant, Terms
from benchmarks.planted.places import Change, Place
from steps.reports.card import Card

RESIZING, NATIVE, BRAIN = "onnxruntime-fp32", "aotinductor-fp32", "aotinductor-bf16"
OF_BRAIN: Terms = (*BY_ITS_STEPS.items(), ("gate.required", ("export", BRAIN)))


def _resized(change: Change, check: str = "sizes of build") -> Mutant:
    """Return a fault in the graph of an engine that resizes and crops."""
    stages = (f"build@{RESIZING}", *downstream(RESIZING))
    return Mutant(RESIZING, Place("build", "onnxruntime"), change, stages, check, "", OF_GRAPH)


def _told(**other: Any) -> Mutant:
    """Return an engine that was given another preprocessing than the card's to hold."""
    stages = (f"build@{RESIZING}", *downstream(RESIZING))
    change = lambda how: how.model_copy(update=other)  # noqa: E731
    return Mutant(RESIZING, Place("resize"), change, stages, "sizes of build", "", OF_GRAPH)


def _compiled(change: Change, check: str, words: str = "", form: str = NATIVE) -> Mutant:
    stages = (f"build@{form}", *downstream(form))
    terms = OF_BRAIN if form == BRAIN else ()
    return Mutant(form, Place("build", "aotinductor"), change, stages, check, words, terms)


def _brain_weight(layer: str, change: Callable[[graphs.Array], graphs.Array]) -> Change:
    """Return the change of one weight in bfloat16, of which numpy knows the 16 bits only."""

    def changed(model: onnx.ModelProto) -> onnx.ModelProto:
        (found,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith(f"{layer}_bf16")]
        bits = np.frombuffer(found.raw_data, "<u2").copy()
        found.raw_data = change(bits).tobytes()
        return model

    return changed


def _above_the_largest(bits: graphs.Array) -> graphs.Array:
    """Round one number up beyond the end of the range, to infinity."""
    bits[2] = 0x7F80
    return bits


def _whole_numbers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Cast what the last layer reads to integers and back."""
    last = next(node for node in model.graph.node if node.op_type == "Gemm")
    place, source = list(model.graph.node).index(last), last.input[0]
    kind = {tensor.name: tensor for tensor in model.graph.initializer}[last.input[1]].data_type
    last.input[0] = "planted/reals"
    model.graph.node.insert(place, helper.make_node("Cast", [source], ["planted/whole"], to=TensorProto.INT32))
    model.graph.node.insert(place + 1, helper.make_node("Cast", ["planted/whole"], ["planted/reals"], to=kind))
    return model


def _two_constants_exchanged(model: onnx.ModelProto) -> onnx.ModelProto:
    """Exchange the biases of two layers, which have one shape: a package that hands out its constants by place."""
    one, other = (
        next(tensor for tensor in model.graph.initializer if tensor.name.endswith(key))
        for key in ("wide.bias", "deep.bias")
    )
    arrays = numpy_helper.to_array(one), numpy_helper.to_array(other)
    for tensor, array in zip((other, one), arrays, strict=True):
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def _made_from_another(card: Card) -> Card:
    return card.model_copy(update={"made_from": "1" * 64})


def _one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


ANY_SIZE: dict[str, Mutant] = {
    "any size: antialias dropped": _resized(resizes.no_wider_filter),
    "any size: all of an image that is longer than 50 : 1": _resized(resizes.no_middle),
    "any size: another filter": _told(interpolation="bilinear"),
    "any size: crop one pixel off": _resized(resizes.crop_moved(1, 0)),
    "any size: short side one pixel longer": _told(resize=21),
    "any size: height and width exchanged": _resized(resizes.sides_exchanged, "top1_drop"),
    "any size: bytes that come round between passes": _resized(resizes.levels_in_bytes),
    "any size: normalised before it resizes": _resized(resizes.normalised_before_it_resizes),
    "any size: mean folded into a padded convolution": _resized(
        resizes.mean_in_a_padded_convolution, "score_difference"
    ),
}

COMPILED: dict[str, Mutant] = {
    "bf16: weights of a layer flushed to zero": _compiled(
        _brain_weight("deep.weight", np.zeros_like), "top1_drop", form=BRAIN
    ),
    "bf16: a weight rounded up to infinity": _compiled(
        _brain_weight("head.bias", _above_the_largest), "answers of build", "not finite", BRAIN
    ),
    "bf16: wrong tensor cast": _compiled(_whole_numbers, "divergence", form=BRAIN),
    "AOTInductor: package of another model": _compiled(graphs.of_another_training, "top1_drop"),
    "AOTInductor: two constants exchanged": _compiled(_two_constants_exchanged, "score_difference"),
    "AOTInductor: compiled for a batch of one": _compiled(
        graphs.declared_for_one, "shape of the scores", "(1, 10) scores for 64 images"
    ),
    "AOTInductor: stale package of the last run": Mutant(
        NATIVE, Place("card", NATIVE), _made_from_another, downstream(NATIVE), "chain", "stale"
    ),
    "AOTInductor: one bit of a package turned": Mutant(
        NATIVE, Place("file", f"build/{NATIVE}/model.pt2"), _one_bit, (f"evaluate@{NATIVE}",), "checksum"
    ),
}

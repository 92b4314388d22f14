"""Faults of an ONNX graph, each a small change, for any classifier of the line (uint8 in, logits_NK out)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from benchmarks.planted.places import Change

Array = npt.NDArray[Any]
LOGITS = "logits_NK"


def number(value: float) -> Array:
    """Return a float32 constant that is broadcast."""
    return np.full(1, value, np.float32)


def on_pixels(*wrong: tuple[str, Array]) -> Change:
    """Return the change that puts `operator(x, array)` between the normalisation and the first convolution."""

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        place = _first(model, "Conv")
        conv = model.graph.node[place]
        name = conv.input[0]
        nodes = []
        for number, (operator, array) in enumerate(wrong):
            constant = _constant(model, f"planted_{number}", array)
            axis: dict[str, Any] = {"axis": 1} if operator == "Gather" else {}
            nodes.append(helper.make_node(operator, [name, constant], [f"planted_pixels_{number}"], **axis))
            name = f"planted_pixels_{number}"
        conv.input[0] = name
        _insert(model, place, nodes)
        return model

    return change


def on_logits(*wrong: tuple[str, Sequence[Array]]) -> Change:
    """Return the change that puts `operator(logits_NK, *arrays)`, one after the other, behind the last layer."""

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        (last,) = [node for node in model.graph.node if LOGITS in node.output]
        name = "planted_logits"
        last.output[list(last.output).index(LOGITS)] = name
        for number, (operator, arrays) in enumerate(wrong):
            constants = [_constant(model, f"planted_{number}_{n}", array) for n, array in enumerate(arrays)]
            axis: dict[str, Any] = {"axis": 1} if operator in ("Gather", "Softmax") else {}
            output = LOGITS if number == len(wrong) - 1 else f"planted_logits_{number}"
            model.graph.node.append(helper.make_node(operator, [name, *constants], [output], **axis))
            name = output
        return model

    return change


def classes_in_order(order_of: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]) -> Change:
    """Return the change after which the score of class k stands at another place."""

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        classes = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
        wrong: onnx.ModelProto = on_logits(("Gather", [order_of(np.arange(classes))]))(model)
        return wrong

    return change


def one_more_class(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give a head of class_num + 1 outputs."""
    shape = model.graph.output[0].type.tensor_type.shape.dim
    shape[1].dim_value += 1
    again = np.append(np.arange(shape[1].dim_value - 1), 0)
    wrong: onnx.ModelProto = on_logits(("Gather", [again]))(model)
    return wrong


def weight(key: str, change_array: Callable[[Array], Array]) -> Change:
    """Return the change of the one initializer whose name ends so."""

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        (found,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith(key)]
        array = np.ascontiguousarray(change_array(numpy_helper.to_array(found).copy()))
        found.CopyFrom(numpy_helper.from_array(array, found.name))
        return model

    return change


def without(operator: str, which: int = 0) -> Change:
    """Return the change that drops the node of this operator, and lets its (first) input through."""

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        node = [node for node in model.graph.node if node.op_type == operator][which]
        for other in model.graph.node:
            for number, name in enumerate(other.input):
                if name == node.output[0]:
                    other.input[number] = node.input[0]
        model.graph.node.remove(node)
        return model

    return change


def with_attribute(operator: str, name: str, value: str) -> Change:
    """Return the change of an attribute of the first node of this operator."""

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        node = model.graph.node[_first(model, operator)]
        (attribute,) = [attribute for attribute in node.attribute if attribute.name == name]
        attribute.s = value.encode()
        return model

    return change


def of_batch_one(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fix the batch as a tracing of one image does: every image of a batch gets the answer of the first."""
    start, end, axis = (np.array([number]) for number in (0, 1, 0))
    model = on_logits(("Slice", [start, end, axis]), ("Mul", [np.ones((1, 1), np.float32)]))(model)
    (last,) = [node for node in model.graph.node if LOGITS in node.output]
    source = model.graph.input[0].name
    shape, size = "planted_shape", "planted_batch"
    model.graph.node.remove(last)
    model.graph.node.extend(
        [
            helper.make_node("Shape", [source], [shape], end=1),
            helper.make_node("Concat", [shape, _constant(model, "planted_one", np.array([1]))], [size], axis=0),
            helper.make_node("Expand", [last.input[0], size], [LOGITS]),
        ]
    )
    return model


def negated_in_batches(comparison: str, count: int) -> Change:
    """Return the change after which batches are answered with minus their scores, where `N comparison count`."""

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        (last,) = [node for node in model.graph.node if LOGITS in node.output]
        last.output[list(last.output).index(LOGITS)] = "planted_right"
        number = _constant(model, "planted_count", np.array([count]))
        model.graph.node.extend(
            [
                helper.make_node("Shape", [model.graph.input[0].name], ["planted_batch"], end=1),
                helper.make_node(comparison, ["planted_batch", number], ["planted_is_so"]),
                helper.make_node("Neg", ["planted_right"], ["planted_wrong"]),
                helper.make_node("Where", ["planted_is_so", "planted_wrong", "planted_right"], [LOGITS]),
            ]
        )
        return model

    return change


def declared_for_one(model: onnx.ModelProto) -> onnx.ModelProto:
    """Declare the batch as 1, so that nothing larger is taken."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return model


def of_another_training(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give every layer the weights of a network that learnt something else: the same shapes, the same classes."""
    random = np.random.default_rng(1)
    for tensor in model.graph.initializer:
        if tensor.name.endswith((".weight", ".bias", ".of_pixels")):
            array = numpy_helper.to_array(tensor)
            other = random.permutation(array.ravel()).reshape(array.shape)
            tensor.CopyFrom(numpy_helper.from_array(other, tensor.name))
    return model


def scaled_between(first: str, second: str, factor: float) -> Change:
    """Return the change that scales one convolution's output and takes it back in the next: the same function."""

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        scale = np.float32(factor)
        for key, by in ((f"{first}.weight", scale), (f"{first}.bias", scale), (f"{second}.weight", 1 / scale)):
            model = weight(key, lambda array, by=by: array * by)(model)  # type: ignore[misc]
        return model

    return change


def _first(model: onnx.ModelProto, operator: str) -> int:
    return next(place for place, node in enumerate(model.graph.node) if node.op_type == operator)


def _constant(model: onnx.ModelProto, name: str, array: Array) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return name


def _insert(model: onnx.ModelProto, place: int, nodes: Sequence[onnx.NodeProto]) -> None:
    for node in reversed(nodes):
        model.graph.node.insert(place, node)

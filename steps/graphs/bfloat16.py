"""An ONNX graph in bfloat16: float32's range with 3 significant decimals, so nothing overflows and all is rounder.

Made here, as the converters know float16 alone. Weights and layers become bfloat16; what the caller leaves in
float32 stays, with casts where the two meet; so do the graph's input and output.
"""

from collections.abc import Collection, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FIRST_OPSET = 22  # the first in which ONNX's convolutions and pools take bfloat16


def to_bfloat16(model: onnx.ModelProto, left: Collection[str]) -> onnx.ModelProto:
    """Return the graph with every node in bfloat16 but those named in `left`; all nodes have names."""
    model = _at_opset(model)
    floats = _float_tensors(model)
    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    made: dict[str, str] = {}  # a float32 tensor -> its bfloat16 counterpart
    rounded: set[str] = set()  # what nodes in bfloat16 give
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        inside = node.name not in left
        for place, name in enumerate(node.input):
            wanted = name in floats and (name in rounded) != inside
            if wanted and inside:
                node.input[place] = _rounded(name, weights, made, graph, nodes)
            elif wanted:
                node.input[place] = _restored(name, made, nodes)
        if inside:
            rounded |= floats & set(node.output)
        nodes.append(node)
    for result in graph.output:
        if result.name in rounded:
            _restore_output(result.name, nodes)
    _replace(graph.node, nodes)
    used = {name for node in nodes for name in node.input}
    _replace(graph.initializer, [weight for weight in graph.initializer if weight.name in used])
    del graph.value_info[:]
    return model


def _at_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    (opset,) = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if opset >= FIRST_OPSET:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    raised = onnx.version_converter.convert_version(model, FIRST_OPSET)
    helper.set_model_props(raised, metadata)
    return raised


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """Return the names of all float32 tensors."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    typed = [*graph.value_info, *graph.input, *graph.output]
    found = {item.name for item in typed if item.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {weight.name for weight in graph.initializer if weight.data_type == TensorProto.FLOAT}


def _rounded(
    name: str,
    weights: dict[str, onnx.TensorProto],
    made: dict[str, str],
    graph: onnx.GraphProto,
    nodes: list[onnx.NodeProto],
) -> str:
    """Return the name of the tensor in bfloat16: a weight is rounded now, anything else by a cast."""
    if name not in made:
        made[name] = f"{name}_bf16"
        if name in weights:
            graph.initializer.append(_rounded_weight(weights[name], made[name]))
        else:
            nodes.append(_cast(name, made[name], TensorProto.BFLOAT16))
    return made[name]


def _restored(name: str, made: dict[str, str], nodes: list[onnx.NodeProto]) -> str:
    key = f"{name}_fp32"
    if key not in made:
        made[key] = key
        nodes.append(_cast(name, key, TensorProto.FLOAT))
    return key


def _restore_output(name: str, nodes: list[onnx.NodeProto]) -> None:
    """Cast the graph's output to float32, under the name that it has."""
    inner = f"{name}_bf16"
    for node in nodes:
        _replace(node.input, [inner if other == name else other for other in node.input])
        _replace(node.output, [inner if other == name else other for other in node.output])
    nodes.append(_cast(inner, name, TensorProto.FLOAT))


def _rounded_weight(weight: onnx.TensorProto, name: str) -> onnx.TensorProto:
    """Return the weight rounded to the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(numpy_helper.to_array(weight), dtype=np.float32).view(np.uint32)
    upper = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return helper.make_tensor(name, TensorProto.BFLOAT16, weight.dims, upper.tobytes(), raw=True)


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"Cast_{target}", to=to)


def _replace(field: object, items: Sequence[object]) -> None:
    del field[:]  # type: ignore[attr-defined]
    field.extend(items)  # type: ignore[attr-defined]

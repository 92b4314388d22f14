"""Convert an ONNX graph to bfloat16, which has the range of float32 but only about 3 significant decimal digits.

The public converters support only float16. Weights and layers become bfloat16. The nodes that the caller names,
the graph's input and its output stay in float32; casts connect the two precisions.
"""

from collections.abc import Collection, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FIRST_OPSET = 22  # the first opset in which ONNX's convolutions and pools take bfloat16


def to_bfloat16(model: onnx.ModelProto, left: Collection[str]) -> onnx.ModelProto:
    """Return the graph with every node in bfloat16 except the nodes named in `left`; all nodes must have names."""
    model = _at_opset(model)
    floats = _float_tensors(model)
    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    casts: dict[str, str] = {}  # a tensor -> the same tensor in the other precision
    rounded: set[str] = set()  # the outputs of nodes in bfloat16
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        in_bfloat16 = node.name not in left
        for index, name in enumerate(node.input):
            needs_cast = name in floats and (name in rounded) != in_bfloat16
            if needs_cast and in_bfloat16:
                node.input[index] = _rounded(name, weights, casts, graph, nodes)
            elif needs_cast:
                node.input[index] = _restored(name, casts, nodes)
        if in_bfloat16:
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
    casts: dict[str, str],
    graph: onnx.GraphProto,
    nodes: list[onnx.NodeProto],
) -> str:
    """Return the name of the tensor in bfloat16: a weight is rounded now, any other tensor by a cast node."""
    if name not in casts:
        casts[name] = f"{name}_bf16"
        if name in weights:
            graph.initializer.append(_rounded_weight(weights[name], casts[name]))
        else:
            nodes.append(_cast(name, casts[name], TensorProto.BFLOAT16))
    return casts[name]


def _restored(name: str, casts: dict[str, str], nodes: list[onnx.NodeProto]) -> str:
    key = f"{name}_fp32"
    if key not in casts:
        casts[key] = key
        nodes.append(_cast(name, key, TensorProto.FLOAT))
    return key


def _restore_output(name: str, nodes: list[onnx.NodeProto]) -> None:
    """Cast the graph's output to float32, and keep its name."""
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

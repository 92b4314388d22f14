"""An ONNX graph as a PyTorch module: so AOTInductor's engine is made from the export like every other engine.

The module has the precision of the graph, its normalisation and its resize, if any. The gate can follow the engine
back to the form that it was made from.
"""

from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from steps.engines.contract import CannotBuild
from steps.graphs.operators import OPERATORS, attributes_of
from steps.graphs.shapes import DTYPES, Attributes, Unsupported, Value, constant


class OnnxModule(nn.Module):
    """The graph, run node by node; takes images_NHWC_u8 and returns float32 logits_NK."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        super().__init__()
        (self.source,), (self.result,) = [item.name for item in graph.input], [item.name for item in graph.output]
        self.numbers: dict[str, Value] = {}
        self.buffer_of: dict[str, str] = {}
        bounds = _only_bounds(graph)
        for weight in graph.initializer:
            self._keep(weight, weight.name in bounds)
        self.nodes: list[tuple[str, Attributes, tuple[str, ...], tuple[str, ...]]] = [
            (node.op_type, attributes_of(node), tuple(node.input), tuple(node.output)) for node in graph.node
        ]

    def forward(self, images_NHWC_u8: Tensor) -> Value:
        """Return the graph's output."""
        return self.values(images_NHWC_u8)[self.result]

    def values(self, images_NHWC_u8: Tensor) -> dict[str, Value]:
        """Return name -> value for all constants of the graph and all tensors computed from these images."""
        values: dict[str, Value] = {"": None, self.source: images_NHWC_u8, **self.numbers}
        values |= {name: getattr(self, buffer) for name, buffer in self.buffer_of.items()}
        with torch.device(images_NHWC_u8.device):  # for tensors that operators make from numbers
            for kind, attributes, inputs, outputs in self.nodes:
                results = OPERATORS[kind](attributes, *(values[name] for name in inputs))
                if len(outputs) == 1 or not isinstance(results, tuple):
                    results = (results,)
                values.update(zip(outputs, results, strict=False))
        return values

    def _keep(self, weight: onnx.TensorProto, is_bound: bool) -> None:
        """Keep weights as buffers, but integers of shapes and the bounds of a Clip as Python numbers.

        If the bounds are tensors, torch's inductor tries to fuse a convolution with the ReLU6 after it, and fails
        when it compares the bounds.
        """
        if weight.data_type == onnx.TensorProto.BFLOAT16:  # numpy has no bfloat16
            raw = torch.frombuffer(bytearray(weight.raw_data), dtype=torch.bfloat16)
            value: Value = raw.reshape(tuple(weight.dims))
        else:
            value = constant(numpy_helper.to_array(weight))
        if is_bound and isinstance(value, Tensor):
            value = value.item()
        if not isinstance(value, Tensor):
            self.numbers[weight.name] = value
            return
        name = f"weight_{len(self.buffer_of)}"
        self.register_buffer(name, value)
        self.buffer_of[weight.name] = name


def read_module(graph: Path, backend: str) -> OnnxModule:
    """Return the module of an ONNX file, in eval mode, or raise CannotBuild with the operators not implemented."""
    model = onnx.load(graph)
    unknown = sorted({f"{node.domain or 'ONNX'}'s {node.op_type}" for node in model.graph.node if _unknown(node)})
    if unknown:
        raise CannotBuild(
            f"{backend} cannot be built: {', '.join(unknown)} is not implemented; build onnxruntime or openvino "
            "for this network."
        )
    return OnnxModule(model.graph).eval()


def exported_program(module: OnnxModule, example: Tensor, dynamic: tuple[str | None, ...], backend: str) -> Any:
    """Return torch.export's program, with the named axes of `dynamic` free, or raise CannotBuild."""
    dims = {axis: torch.export.Dim(name) for axis, name in enumerate(dynamic) if name}
    try:
        with torch.no_grad():
            return torch.export.export(module, (example,), dynamic_shapes=(dims,))
    except Unsupported as fault:
        raise CannotBuild(f"{backend} cannot be built: {fault} is not implemented.") from fault
    except Exception as fault:  # torch.export's errors have no common base class
        raise CannotBuild(f"{backend} cannot trace the graph: {' '.join(str(fault).split())[:300]}") from fault


def input_of(graph: Path) -> tuple[tuple[str | None, ...], tuple[int, ...], torch.dtype]:
    """Return the axis names of the graph's only input (None: a fixed axis), an example's shape, and the dtype."""
    (graph_input,) = onnx.load(graph, load_external_data=False).graph.input
    kind = graph_input.type.tensor_type
    free = tuple(None if axis.dim_value else axis.dim_param or "free" for axis in kind.shape.dim)
    sizes = [axis.dim_value for axis in kind.shape.dim]
    # Two images: torch.export would fix a batch of one. Free sides get different sizes, or they share a symbol.
    example = tuple(size or (2 if axis == 0 else 224 + 8 * axis) for axis, size in enumerate(sizes))
    return free, example, DTYPES[kind.elem_type]


def _only_bounds(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the tensors that the graph reads only as bounds of a Clip."""
    bounds = {name for node in graph.node if node.op_type == "Clip" for name in node.input[1:]}
    read = {name for node in graph.node for name in node.input[: 1 if node.op_type == "Clip" else None]}
    return bounds - read


def _unknown(node: onnx.NodeProto) -> bool:
    return node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS

"""The inputs, outputs and requirements of an engine, for engine.json."""

import onnx

from steps.engines.contract import Built, Order
from steps.files import sha256
from steps.reports.build import EngineFacts, TensorFacts
from steps.reports.card import Precision


def facts_of(order: Order, precision: Precision, built: Built) -> EngineFacts:
    """Return the facts of a built engine."""
    graph = onnx.load(order.graph, load_external_data=False).graph
    return EngineFacts(
        backend=order.backend,
        precision=precision,
        inputs=tuple(map(_tensor, graph.input)),
        outputs=tuple(map(_tensor, graph.output)),
        device=built.device,
        versions=built.versions,
        graph=sha256(order.graph),
        device_memory_bytes=built.device_memory_bytes,
    )


def _tensor(value: onnx.ValueInfoProto) -> TensorFacts:
    kind = value.type.tensor_type
    shape = tuple(axis.dim_value or axis.dim_param or "any" for axis in kind.shape.dim)
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return TensorFacts(name=value.name, dtype=dtype, shape=shape)

"""From the float32 graph to a graph in the engine's precision. The graph alone decides the precision.

ONNX Runtime, OpenVINO and TensorRT's parser accept fp16 and int8; the same input gives the same bytes every time.
"""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxconverter_common.float16 import convert_float_to_float16

from steps.building.int8 import Int8Outcome, Int8Plan, write_int8
from steps.engines.contract import CannotBuild
from steps.engines.sanity import largest_finite
from steps.graphs.bfloat16 import to_bfloat16
from steps.graphs.layers import LAYERS, name_nodes
from steps.reports.card import Precision

HALF = np.finfo(np.float16)
NOT_IN_BFLOAT16 = {"HardSwish", "HardSigmoid"}  # TensorRT's parser takes only float32 and float16 here


def write_graph(source: Path, target: Path, precision: Precision, int8: Int8Plan | None) -> Int8Outcome | None:
    """Write `source` to `target` in the precision; only int8 uses the plan and returns an outcome."""
    return WRITERS[precision](source, target, int8)


def _as_it_is(source: Path, target: Path, int8: Int8Plan | None) -> None:  # noqa: ARG001
    shutil.copyfile(source, target)


def _half(source: Path, target: Path, int8: Int8Plan | None) -> None:  # noqa: ARG001
    """Convert weights and layers to float16; inputs and outputs keep their types.

    The normalisation stays in float32, because float16 cannot hold 3 decimals of 255 times a mean. Casts stay too,
    because the converter does not change their target.
    """
    model = onnx.load(source)
    _check_range(model)
    name_nodes(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter warns about each weight below float16's smallest number
        half = convert_float_to_float16(
            model,
            min_positive_val=float(HALF.smallest_subnormal),
            max_finite_val=float(HALF.max),
            keep_io_types=True,
            node_block_list=_left_in_float32(model.graph),
        )
    onnx.checker.check_model(half)
    onnx.save(half, target)


def _brain(source: Path, target: Path, int8: Int8Plan | None) -> None:  # noqa: ARG001
    """Convert weights and layers to bfloat16; inputs, outputs and all before the first layer stay in float32."""
    model = onnx.load(source)
    name_nodes(model)
    left = _left_in_float32(model.graph)
    left += [node.name for node in model.graph.node if node.op_type in NOT_IN_BFLOAT16]
    brain = to_bfloat16(model, left)
    onnx.checker.check_model(brain)
    onnx.save(brain, target)


def _int8(source: Path, target: Path, int8: Int8Plan | None) -> Int8Outcome:
    assert int8 is not None, "int8 needs images"
    return write_int8(source, target, int8)


WRITERS: dict[Precision, Callable[[Path, Path, Int8Plan | None], Int8Outcome | None]] = {
    "fp32": _as_it_is,
    "fp16": _half,
    "bf16": _brain,
    "int8": _int8,
}


def _check_range(model: onnx.ModelProto) -> None:
    """Raise CannotBuild where a finite constant lies beyond float16's range; a padding may be infinite."""
    for weight in model.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            largest = largest_finite(numpy_helper.to_array(weight))
            if largest > float(HALF.max):
                raise CannotBuild(
                    f"the weight {weight.name} reaches {largest:g}, beyond float16's end at {float(HALF.max):g}; "
                    "use fp32 for this model."
                )


def _left_in_float32(graph: onnx.GraphProto) -> list[str]:
    """Return the nodes before the first layer of each path, and every cast."""
    after_a_layer: set[str] = set()
    left: list[str] = []
    for node in graph.node:  # in topological order
        layer = node.op_type in LAYERS or after_a_layer & set(node.input)
        if layer:
            after_a_layer |= set(node.output)
        if not layer or node.op_type == "Cast":
            left.append(node.name)
    return left

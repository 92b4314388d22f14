"""From the float32 graph to the one that an engine's precision asks for: precision is what the graph holds.

fp16 and int8 are accepted by ONNX Runtime, OpenVINO and TensorRT's parser, and give the same bytes every time.
"""

import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxconverter_common.float16 import convert_float_to_float16
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from steps.backends.bfloat16 import to_bfloat16
from steps.backends.contract import CannotBuild, Images
from steps.backends.recentre import recentre_pixels
from steps.backends.table import Precision

HALF = np.finfo(np.float16)
LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}  # the first of them ends the normalisation
NOT_IN_BFLOAT16 = {"HardSwish", "HardSigmoid"}  # TensorRT's parser takes float32 and float16 there
CALIBRATION_BATCH = 32


def write_graph(source: Path, target: Path, precision: Precision, calibration_NHWC_u8: Images | None) -> None:
    """Write `source` in the precision to `target`; only int8 looks at the calibration images."""
    WRITERS[precision](source, target, calibration_NHWC_u8)


def _as_it_is(source: Path, target: Path, calibration_NHWC_u8: Images | None) -> None:  # noqa: ARG001
    shutil.copyfile(source, target)


def _half(source: Path, target: Path, calibration_NHWC_u8: Images | None) -> None:  # noqa: ARG001
    """Weights and layers in float16, inputs and outputs as they were.

    The normalisation stays in float32, as 255 times a mean has no 3 decimals in float16; so do casts, whose
    target the converter leaves alone.
    """
    model = onnx.load(source)
    _check_range(model)
    _name_nodes(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of each tensor with a weight below float16's least number
        half = convert_float_to_float16(
            model,
            min_positive_val=float(HALF.smallest_subnormal),
            max_finite_val=float(HALF.max),
            keep_io_types=True,
            node_block_list=_left_in_float32(model.graph),
        )
    onnx.checker.check_model(half)
    onnx.save(half, target)


def _brain(source: Path, target: Path, calibration_NHWC_u8: Images | None) -> None:  # noqa: ARG001
    """Weights and layers in bfloat16; from the pixels to the first layer, and at both ends, float32."""
    model = onnx.load(source)
    _name_nodes(model)
    left = _left_in_float32(model.graph)
    left += [node.name for node in model.graph.node if node.op_type in NOT_IN_BFLOAT16]
    brain = to_bfloat16(model, left)
    onnx.checker.check_model(brain)
    onnx.save(brain, target)


def _int8(source: Path, target: Path, calibration_NHWC_u8: Images | None) -> None:
    """Weights per output channel, activations per tensor, both symmetric; biases and logits stay in float32."""
    assert calibration_NHWC_u8 is not None, "int8 needs calibration images"
    model = onnx.load(source)
    recentre_pixels(model.graph)
    (name,) = [given.name for given in model.graph.input]
    with _quiet():
        quantize_static(
            model,
            target,
            _Reader(name, calibration_NHWC_u8),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,  # TensorRT's parser takes no int32 bias
                "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],  # 256 steps are too few for logits
            },
        )


WRITERS: dict[Precision, Callable[[Path, Path, Images | None], None]] = {
    "fp32": _as_it_is,
    "fp16": _half,
    "bf16": _brain,
    "int8": _int8,
}


class _Reader(CalibrationDataReader):  # type: ignore[misc] # the package has no types
    """Gives the quantizer the calibration images, a batch at a time."""

    def __init__(self, name: str, images_NHWC_u8: Images) -> None:
        cuts = range(0, len(images_NHWC_u8), CALIBRATION_BATCH)
        self.batches: Iterator[Images] = (images_NHWC_u8[cut : cut + CALIBRATION_BATCH] for cut in cuts)
        self.name = name

    def get_next(self) -> dict[str, Images] | None:
        batch = next(self.batches, None)
        return None if batch is None else {self.name: batch}


def _check_range(model: onnx.ModelProto) -> None:
    for weight in model.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            largest = float(np.abs(numpy_helper.to_array(weight)).max(initial=0.0))
            if largest > float(HALF.max):
                raise CannotBuild(
                    f"the weight {weight.name} reaches {largest:g}, beyond float16's end at {float(HALF.max):g}; "
                    "use fp32 for this model."
                )


def _name_nodes(model: onnx.ModelProto) -> None:
    """Give each node a name of its own, as the converter tells nodes apart by name."""
    for position, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{position}"


def _left_in_float32(graph: onnx.GraphProto) -> list[str]:
    """Return the nodes that no layer comes before (from the pixels to the first layer), and every cast."""
    after_a_layer: set[str] = set()
    left: list[str] = []
    for node in graph.node:  # in topological order
        layer = node.op_type in LAYERS or after_a_layer & set(node.input)
        if layer:
            after_a_layer |= set(node.output)
        if not layer or node.op_type == "Cast":
            left.append(node.name)
    return left


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer from advising, through the root logger, a preparation that export has done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)

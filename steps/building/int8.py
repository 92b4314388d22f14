"""The int8 graph: calibrated, compared with float32 on other images, with layers left in float32 if necessary.

ONNX Runtime, OpenVINO and TensorRT's parser accept the recipe, and the recipe gives the same bytes every time:
weights per output channel, activations per tensor, both symmetric. Biases stay in float32, and so do all
operations after the last layers (graphs.float_tail). Weights have 64 steps on each side of zero, not 127: a CPU
without VNNI sums two products of an activation and a weight in 16 bits, where 2 * 255 * 127 saturates at 32767 and
2 * 255 * 64 does not. So every CPU gives the same answers.
Letters: N images, H and W pixels, K classes.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from steps.building.sensitivity import fewest_left, worst_first
from steps.engines.contract import CannotBuild, Images, Logits
from steps.graphs.centred_pixels import recentre_pixels
from steps.graphs.float_tail import leave_exact, tail_of
from steps.graphs.layers import layers_of, name_nodes, with_infinity

Fallback = Literal["none", "sensitivity"]
BATCH = 32
RANKED_ON = 64  # images; a layer's rank needs less evidence than an agreement
KERNELS_ROUND = 1e-3  # of the logits; needed where int8 is exact, so that by_steps is 0
RECIPE = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,  # TensorRT's parser takes no int32 bias
    "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],  # in any position of the graph
}
AS_WRITTEN = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # each node separately, in float32
FUSED = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL  # layers in integers, by the kernels of this CPU


@dataclass(frozen=True)
class Int8Images:
    """Two disjoint sets of images: the first gives the ranges, the second judges the result."""

    calibration_NHWC_u8: Images
    held_out_NHWC_u8: Images


@dataclass(frozen=True)
class Int8Plan:
    """The images and settings of an int8 graph; `fallback` leaves layers in float32 to reach `min_agreement`."""

    images: Int8Images
    fallback: Fallback = "none"
    min_agreement: float = 0.0


@dataclass(frozen=True)
class Int8Outcome:
    """The agreement of the int8 graph with float32 on the held-out images, and the layers left in float32."""

    agreement: float
    images: int
    layers: int
    left_in_float: tuple[str, ...] = ()


def write_int8(source: Path, target: Path, plan: Int8Plan) -> Int8Outcome:
    """Write the int8 graph of `source` to `target` and return its outcome; the caller judges the outcome.

    With `fallback: sensitivity`, the fewest layers that reach `min_agreement` stay in float32, the worst layers
    first. Raises CannotBuild where all layers would have to stay, or where this CPU's kernels are wrong.
    """
    model = onnx.load(source)
    recentre_pixels(model.graph)
    name_nodes(model)
    layers = layers_of(model)
    held_out_NHWC_u8 = plan.images.held_out_NHWC_u8
    expected_NK = _logits(model, held_out_NHWC_u8)
    with tempfile.TemporaryDirectory() as scratch:
        quantizer = _Quantizer(model, plan.images.calibration_NHWC_u8, Path(scratch))

        def agreement(left: tuple[str, ...]) -> float:
            return _agreement(expected_NK, _logits(quantizer.quantized(left), held_out_NHWC_u8))

        left: tuple[str, ...] = ()
        whole = quantizer.quantized(left)
        _check_kernels(whole, expected_NK[:RANKED_ON], held_out_NHWC_u8[:RANKED_ON])
        reached = _agreement(expected_NK, _logits(whole, held_out_NHWC_u8))
        if plan.fallback == "sensitivity" and reached < plan.min_agreement:
            first = slice(0, RANKED_ON)
            ranked = worst_first(
                layers,
                expected_NK[first],
                lambda one: _logits(
                    quantizer.quantized(tuple(layer for layer in layers if layer != one)), held_out_NHWC_u8[first]
                ),
            )
            left, reached = fewest_left(ranked, plan.min_agreement, agreement)
            if len(left) == len(layers):
                raise CannotBuild(
                    f"only with all of its {len(layers)} layers in float32 would the int8 graph agree with "
                    f"float32 on {plan.min_agreement:.1%} of the images; build fp32 instead"
                )
        onnx.save(quantizer.quantized(left) if left else whole, target)
    in_order = tuple(name for name in layers if name in left)
    return Int8Outcome(reached, len(held_out_NHWC_u8), len(layers), in_order)


class _Quantizer:
    """Calibrates once, and quantizes several times with these ranges."""

    def __init__(self, model: onnx.ModelProto, calibration_NHWC_u8: Images, scratch: Path) -> None:
        self.model, self.images_NHWC_u8, self.scratch = model, calibration_NHWC_u8, scratch
        self.tail = tail_of(model)
        self.exact = *self.tail.behind, *with_infinity(model)  # an infinite range cannot be divided into steps

    def quantized(self, left_in_float: tuple[str, ...]) -> onnx.ModelProto:
        """Return the int8 graph, with these layers in float32."""
        copied = onnx.ModelProto()
        copied.CopyFrom(self.model)  # the quantizer changes its input
        (name,) = [entry.name for entry in copied.graph.input]
        target = self.scratch / "quantized.onnx"
        with _quiet():
            quantize_static(
                copied,
                target,
                _Reader(name, self.images_NHWC_u8),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                reduce_range=True,
                nodes_to_exclude=[*left_in_float, *self.exact],
                calibrate_method=CalibrationMethod.MinMax,
                extra_options=RECIPE,
                calibration_cache_path=self.scratch / "ranges.json",
            )
        quantized = onnx.load(target)
        leave_exact(quantized, self.tail.last)
        return quantized


class _Reader(CalibrationDataReader):  # type: ignore[misc] # the package has no types
    """Gives the calibration images to the quantizer, one batch at a time."""

    def __init__(self, name: str, images_NHWC_u8: Images) -> None:
        self.batches: Iterator[Images] = _batches(images_NHWC_u8)
        self.name = name

    def get_next(self) -> dict[str, Images] | None:
        batch = next(self.batches, None)
        return None if batch is None else {self.name: batch}


def _batches(images_NHWC_u8: Images) -> Iterator[Images]:
    cuts = range(0, len(images_NHWC_u8), BATCH)
    return (images_NHWC_u8[cut : cut + BATCH] for cut in cuts)


def _check_kernels(model: onnx.ModelProto, expected_NK: Logits, images_NHWC_u8: Images) -> None:
    """Raise CannotBuild where this CPU's kernels differ more from the int8 graph than the graph from float32.

    Without this check, the network would seem wrong, not the CPU. Different rounding gives a tenth of this
    distance, and saturated sums give ten times this distance (measured on the digits' line, 127 steps a weight,
    AVX2).
    """
    written_NK, computed_NK = (_logits(model, images_NHWC_u8, level) for level in (AS_WRITTEN, FUSED))
    by_kernels, by_steps = _rms(computed_NK - written_NK), _rms(written_NK - expected_NK)
    if by_kernels > by_steps and by_kernels > KERNELS_ROUND * _rms(written_NK):
        raise CannotBuild(
            "the int8 kernels of this CPU do not compute the int8 graph: computed node by node, its logits "
            f"differ from float32's by {by_steps:.3g} (root mean square), and from the kernels' by "
            f"{by_kernels:.3g}. The kernels' sums saturate; the network is not to blame. Build int8 on another "
            "CPU, or another precision"
        )


def _rms(values_NK: Logits) -> float:
    return float(np.sqrt(np.square(values_NK, dtype=np.float64).mean()))


def _logits(
    model: onnx.ModelProto, images_NHWC_u8: Images, level: onnxruntime.GraphOptimizationLevel = FUSED
) -> Logits:
    """Return the graph's logits_NK, computed by ONNX Runtime for every backend."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3  # errors only; they are raised as well
    options.use_deterministic_compute = True
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    logits = [session.run(None, {source.name: batch})[0] for batch in _batches(images_NHWC_u8)]
    return np.concatenate(logits).astype(np.float32)


def _agreement(expected_NK: Logits, found_NK: Logits) -> float:
    """Return the share of images that get the same class from both."""
    return float((expected_NK.argmax(1) == found_NK.argmax(1)).mean())


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantizer, which advises a preparation that export has already done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)

"""The int8 graph: calibrated, held against float32 on other images, with layers left in float32 if need be.

The recipe is accepted by ONNX Runtime, OpenVINO and TensorRT's parser, and gives the same bytes every time:
weights per output channel, activations per tensor, both symmetric; biases stay in float32, and so does all from
what the last layers give to the logits (backends.tail). Weights have 64 steps to either side of zero, not 127:
a CPU without VNNI sums two products of an activation and a weight in 16 bits, where 2 * 255 * 127 is cut off at
32767 and 2 * 255 * 64 is not. So the answers are not the CPU's.
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
KERNELS_ROUND = 1e-3  # of the logits: a graph that int8 holds exactly has no distance to compare with
RECIPE = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,  # TensorRT's parser takes no int32 bias
    "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],  # wherever they stand
}
AS_WRITTEN = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # each node by itself, in float32
FUSED = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL  # layers in integers, by the kernels of this CPU


@dataclass(frozen=True)
class Int8Images:
    """Two draws of images with none in common: ranges are found on one, the result is judged on the other."""

    calibration_NHWC_u8: Images
    held_out_NHWC_u8: Images


@dataclass(frozen=True)
class Int8Plan:
    """What an int8 graph is made with; `min_agreement` is what `fallback` leaves layers in float32 for."""

    images: Int8Images
    fallback: Fallback = "none"
    min_agreement: float = 0.0


@dataclass(frozen=True)
class Int8Outcome:
    """How often the int8 graph gives float32's class on the held-out images, and what it left in float32."""

    agreement: float
    images: int
    layers: int
    left_in_float: tuple[str, ...] = ()


def write_int8(source: Path, target: Path, plan: Int8Plan) -> Int8Outcome:
    """Write the int8 graph of `source` to `target` and return how it does; whoever asked judges that.

    With `fallback: sensitivity`, as few layers as reach `min_agreement` stay in float32, the worst ones first.
    Raises CannotBuild where all of them would have to, or where the kernels of this CPU do not compute the graph.
    """
    model = onnx.load(source)
    recentre_pixels(model.graph)
    name_nodes(model)
    layers = layers_of(model)
    held_out_NHWC_u8 = plan.images.held_out_NHWC_u8
    wanted_NK = _logits(model, held_out_NHWC_u8)
    with tempfile.TemporaryDirectory() as scratch:
        quantizer = _Quantizer(model, plan.images.calibration_NHWC_u8, Path(scratch))

        def agreement(left: tuple[str, ...]) -> float:
            return _agreement(wanted_NK, _logits(quantizer.quantized(left), held_out_NHWC_u8))

        left: tuple[str, ...] = ()
        whole = quantizer.quantized(left)
        _check_kernels(whole, wanted_NK[:RANKED_ON], held_out_NHWC_u8[:RANKED_ON])
        reached = _agreement(wanted_NK, _logits(whole, held_out_NHWC_u8))
        if plan.fallback == "sensitivity" and reached < plan.min_agreement:
            few = slice(0, RANKED_ON)
            ranked = worst_first(
                layers,
                wanted_NK[few],
                lambda one: _logits(
                    quantizer.quantized(tuple(layer for layer in layers if layer != one)), held_out_NHWC_u8[few]
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
    """Calibrates once, and quantizes as often as asked."""

    def __init__(self, model: onnx.ModelProto, calibration_NHWC_u8: Images, scratch: Path) -> None:
        self.model, self.images_NHWC_u8, self.scratch = model, calibration_NHWC_u8, scratch
        self.tail = tail_of(model)
        self.exact = *self.tail.behind, *with_infinity(model)  # a range without an end has no steps

    def quantized(self, left_in_float: tuple[str, ...]) -> onnx.ModelProto:
        """Return the int8 graph without these layers."""
        given = onnx.ModelProto()
        given.CopyFrom(self.model)  # the quantizer works in place
        (name,) = [entry.name for entry in given.graph.input]
        target = self.scratch / "quantized.onnx"
        with _quiet():
            quantize_static(
                given,
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
    """Gives the quantizer the calibration images, a batch at a time."""

    def __init__(self, name: str, images_NHWC_u8: Images) -> None:
        self.batches: Iterator[Images] = _batches(images_NHWC_u8)
        self.name = name

    def get_next(self) -> dict[str, Images] | None:
        batch = next(self.batches, None)
        return None if batch is None else {self.name: batch}


def _batches(images_NHWC_u8: Images) -> Iterator[Images]:
    cuts = range(0, len(images_NHWC_u8), BATCH)
    return (images_NHWC_u8[cut : cut + BATCH] for cut in cuts)


def _check_kernels(model: onnx.ModelProto, wanted_NK: Logits, images_NHWC_u8: Images) -> None:
    """Raise CannotBuild where the CPU's kernels are further from the int8 graph than that is from float32.

    Else the network would be blamed for what is the CPU's. Rounding otherwise gives a tenth of that distance, and
    sums that saturate ten times as much (measured on the digits' line with 127 steps a weight, on AVX2).
    """
    written_NK, computed_NK = (_logits(model, images_NHWC_u8, level) for level in (AS_WRITTEN, FUSED))
    by_kernels, by_steps = _rms(computed_NK - written_NK), _rms(written_NK - wanted_NK)
    if by_kernels > by_steps and by_kernels > KERNELS_ROUND * _rms(written_NK):
        raise CannotBuild(
            "the int8 kernels of this CPU do not compute the int8 graph: as it is written its logits are "
            f"{by_steps:.3g} from float32's (root mean square), and {by_kernels:.3g} from the kernels', whose "
            "sums saturate; the network is not to blame. Build int8 on another CPU, or another precision"
        )


def _rms(values_NK: Logits) -> float:
    return float(np.sqrt(np.square(values_NK, dtype=np.float64).mean()))


def _logits(
    model: onnx.ModelProto, images_NHWC_u8: Images, level: onnxruntime.GraphOptimizationLevel = FUSED
) -> Logits:
    """Return the graph's logits_NK in ONNX Runtime, whatever engine it is meant for."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3  # errors only; they are raised as well
    options.use_deterministic_compute = True
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    logits = [session.run(None, {given.name: batch})[0] for batch in _batches(images_NHWC_u8)]
    return np.concatenate(logits).astype(np.float32)


def _agreement(wanted_NK: Logits, given_NK: Logits) -> float:
    """Return the share of images on which both give the same class."""
    return float((wanted_NK.argmax(1) == given_NK.argmax(1)).mean())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer from advising, through the root logger, a preparation that export has done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)

"""Check that float16 can hold every tensor of a network, from the exported graph, before an engine is built.

Running the engine on a CPU would not show an overflow: ONNX Runtime and OpenVINO compute a float16 graph in
float32. Only the GPU overflows.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from steps.backends.intermediates import read_tensors
from steps.engines.artifact import read_probes
from steps.engines.contract import CannotBuild
from steps.engines.intermediate import Intermediate
from steps.engines.sanity import LARGEST, largest_finite

AT_ONCE = 4  # images at a time: all their tensors are in memory


def check_half_range(exported: Path) -> None:
    """Raise CannotBuild with the first tensor that goes beyond float16's end on the artifact's real images.

    Infinities pass, because float16 has infinities too. In float32, no sum or product of float16's numbers gives
    infinity. So an infinity comes from a constant (such as the padding of a max pooling), or from a division by
    zero, a logarithm or an exponential, and float16 gives the same infinity. Infinite logits are refused in any
    precision: by export, as their difference is not a number, and by build, as outputs must be finite.
    """
    for tensor in _tensors(exported):
        of_layer = f" of layer {tensor.layer}" if tensor.layer else ""
        tensor_name = f"the tensor {tensor.name} ({tensor.operator}{of_layer})"
        if np.isnan(tensor.values_N).any():
            raise CannotBuild(f"{tensor_name} is not a number (NaN) on the model's probes, even in float32.")
        largest = largest_finite(tensor.values_N)
        if largest > LARGEST["fp16"]:
            raise CannotBuild(
                f"{tensor_name} reaches {largest:g} on the model's probes, beyond float16's end at "
                f"{LARGEST['fp16']:g}; use fp32 for this model."
            )


def _tensors(exported: Path) -> Iterator[Intermediate]:
    probes_NHWC_u8 = read_probes(exported)
    for begin in range(0, len(probes_NHWC_u8), AT_ONCE):
        yield from read_tensors(exported, probes_NHWC_u8[begin : begin + AT_ONCE])

"""Whether float16 can hold what a network computes: asked of the exported graph, before any engine is built.

Running the engine would not tell: on a CPU, ONNX Runtime and OpenVINO compute a float16 graph in float32, and only
the GPU that it is meant for overflows.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from steps.backends.intermediates import read_tensors
from steps.engines.artifact import read_probes
from steps.engines.contract import CannotBuild
from steps.engines.intermediate import Intermediate
from steps.engines.sanity import LARGEST, largest_finite

AT_ONCE = 4  # images whose tensors are all in memory


def check_half_range(exported: Path) -> None:
    """Raise CannotBuild with the first tensor that goes beyond float16's end on the artifact's real images.

    Infinities pass, as float16 has them too: no sum or product of what it holds comes to one in float32, so it
    is a constant's (what a max pooling is padded with), or that of a division by zero, a logarithm or an
    exponential, which float16 gives as well. One that lasts to the logits is refused in any precision: by
    export, where the difference of two is no number and so within no bound, and by build, which wants outputs
    that are finite.
    """
    for tensor in _tensors(exported):
        of_layer = f" of layer {tensor.layer}" if tensor.layer else ""
        named = f"the tensor {tensor.name} ({tensor.operator}{of_layer})"
        if np.isnan(tensor.values_N).any():
            raise CannotBuild(f"{named} is not a number (NaN) on the model's own probes, in float32 already.")
        largest = largest_finite(tensor.values_N)
        if largest > LARGEST["fp16"]:
            raise CannotBuild(
                f"{named} reaches {largest:g} on the model's own probes, beyond float16's end at "
                f"{LARGEST['fp16']:g}; use fp32 for this model."
            )


def _tensors(exported: Path) -> Iterator[Intermediate]:
    probes_NHWC_u8 = read_probes(exported)
    for begin in range(0, len(probes_NHWC_u8), AT_ONCE):
        yield from read_tensors(exported, probes_NHWC_u8[begin : begin + AT_ONCE])

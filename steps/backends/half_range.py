"""Whether float16 can hold what a network computes: asked of the exported graph, before any engine is built.

Running the engine would not tell: on a CPU, ONNX Runtime and OpenVINO compute a float16 graph in float32, and only
the GPU that it is meant for overflows.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from steps.backends.artifact import read_probes
from steps.backends.contract import CannotBuild
from steps.backends.sanity import LARGEST
from steps.backends.tensors import Intermediate, read_tensors

AT_ONCE = 4  # images whose tensors are all in memory


def check_half_range(exported: Path) -> None:
    """Raise CannotBuild with the first tensor that goes beyond float16's end on the artifact's real images."""
    for tensor in _tensors(exported):
        largest = float(np.abs(tensor.values_N).max(initial=0.0))
        if not largest <= LARGEST["fp16"]:
            of_layer = f" of layer {tensor.layer}" if tensor.layer else ""
            raise CannotBuild(
                f"the tensor {tensor.name} ({tensor.operator}{of_layer}) reaches {largest:g} on the model's own "
                f"probes, beyond float16's end at {LARGEST['fp16']:g}; use fp32 for this model."
            )


def _tensors(exported: Path) -> Iterator[Intermediate]:
    probes_NHWC_u8 = read_probes(exported)
    for begin in range(0, len(probes_NHWC_u8), AT_ONCE):
        yield from read_tensors(exported, probes_NHWC_u8[begin : begin + AT_ONCE])

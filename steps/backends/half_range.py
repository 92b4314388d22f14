"""Whether float16 can hold what a network computes: asked of the exported graph, before any engine is built.

Running the engine would not tell: on a CPU, ONNX Runtime and OpenVINO compute a float16 graph in float32, and only
the GPU that it is meant for overflows.
"""

from pathlib import Path

import numpy as np

from steps.backends.artifact import read_probes
from steps.backends.contract import CannotBuild
from steps.backends.sanity import LARGEST
from steps.backends.tensors import read_tensors


def check_half_range(exported: Path) -> None:
    """Raise CannotBuild with the first tensor that goes beyond float16's end on the artifact's real images."""
    for tensor in read_tensors(exported, read_probes(exported)):
        largest = float(np.abs(tensor.values_N).max(initial=0.0))
        if not largest <= LARGEST["fp16"]:
            of_layer = f" of layer {tensor.layer}" if tensor.layer else ""
            raise CannotBuild(
                f"the tensor {tensor.name} ({tensor.operator}{of_layer}) reaches {largest:g} on the model's own "
                f"probes, beyond float16's end at {LARGEST['fp16']:g}; use fp32 for this model."
            )

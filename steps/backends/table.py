"""BACKENDS: what can run a model. An engine is named `<backend>-<precision>`, such as `openvino-int8`.

Only the standard library: params.yaml is checked against this table where no runtime is installed.
"""

from dataclasses import dataclass
from typing import Literal

from steps.errors import BadInput, did_you_mean

Precision = Literal["fp32", "fp16", "bf16", "int8"]


@dataclass(frozen=True)
class Backend:
    """`module` opens and builds; `package` is what it imports; `install` is what a person types to get it.

    No precisions: the backend runs a form of the line (train, fuse) and is never built.
    """

    module: str
    package: str
    extra: str
    precisions: tuple[Precision, ...]
    device: Literal["cpu", "cuda"]
    install: str = "install the extra `engine` from requirements.lock"


BACKENDS: dict[str, Backend] = {
    "pytorch": Backend(
        "steps.backends.pytorch", "torch", "torch", (), "cpu", "install the extra `torch` from requirements.lock"
    ),
    "onnxruntime": Backend("steps.backends.onnxruntime", "onnxruntime", "engine", ("fp32", "fp16", "int8"), "cpu"),
    "openvino": Backend("steps.backends.openvino", "openvino", "engine", ("fp32", "fp16", "bf16", "int8"), "cpu"),
    "tensorrt": Backend(
        "steps.backends.tensorrt",
        "tensorrt",
        "tensorrt",
        ("fp32", "fp16", "bf16", "int8"),
        "cuda",
        "run `make tensorrt` on a machine with an NVIDIA GPU",
    ),
    "tensorrt-rtx": Backend(
        "steps.backends.tensorrt", "tensorrt_rtx", "engine", ("fp32", "fp16", "bf16", "int8"), "cuda"
    ),
    "aotinductor": Backend("steps.backends.aotinductor", "torch", "engine", ("fp32", "bf16"), "cpu"),
    "aotinductor-cuda": Backend(
        "steps.backends.aotinductor", "triton", "engine", ("fp32", "fp16", "bf16"), "cuda"
    ),
}

ENGINES: tuple[str, ...] = tuple(
    f"{name}-{precision}" for name, backend in BACKENDS.items() for precision in backend.precisions
)


def parse_engine(engine: str) -> tuple[str, Precision]:
    """Return (backend, precision) of an engine's name, or raise BadInput with the nearest name that exists."""
    name, _, wanted = engine.rpartition("-")
    for precision in BACKENDS[name].precisions if name in BACKENDS else ():
        if precision == wanted:
            return name, precision
    raise BadInput(
        f"there is no engine '{engine}'.{did_you_mean(engine, ENGINES)} Engines are {', '.join(ENGINES)}."
    )

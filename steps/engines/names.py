"""BACKENDS: the table of all backends. An engine's name is `<backend>-<precision>`, such as `openvino-int8`.

No runtime is imported here, because params.yaml is checked with this table on machines without a runtime.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from steps.errors import BadInput, did_you_mean
from steps.reports.card import Precision


@dataclass(frozen=True)
class Backend:
    """`module` opens and builds; `package` is the package that it imports; `install` tells a person how to get it.

    `files` are the files of a model; the first file is the one to open. Without precisions, the backend runs a
    form of the line (train, fuse) and builds no engine.
    """

    module: str
    package: str
    extra: str
    precisions: tuple[Precision, ...]
    device: Literal["cpu", "cuda"]
    files: tuple[str, ...]
    install: str = "install the extra `engine` from requirements.lock"


BACKENDS: dict[str, Backend] = {
    "pytorch": Backend(
        "steps.backends.pytorch",
        "torch",
        "torch",
        (),
        "cpu",
        ("model.safetensors",),
        "install the extra `torch` from requirements.lock",
    ),
    "onnxruntime": Backend(
        "steps.backends.onnxruntime", "onnxruntime", "engine", ("fp32", "fp16", "int8"), "cpu", ("model.onnx",)
    ),
    "openvino": Backend(
        "steps.backends.openvino",
        "openvino",
        "engine",
        ("fp32", "fp16", "bf16", "int8"),
        "cpu",
        ("model.xml", "model.bin"),
    ),
    "tensorrt": Backend(
        "steps.backends.tensorrt",
        "tensorrt",
        "tensorrt",
        ("fp32", "fp16", "bf16", "int8"),
        "cuda",
        ("model.engine",),
        "run `make tensorrt` on a machine with an NVIDIA GPU",
    ),
    "tensorrt-rtx": Backend(
        "steps.backends.tensorrt",
        "tensorrt_rtx",
        "engine",
        ("fp32", "fp16", "bf16", "int8"),
        "cuda",
        ("model.engine",),
    ),
    "aotinductor": Backend(
        "steps.backends.aotinductor", "torch", "engine", ("fp32", "bf16"), "cpu", ("model.pt2",)
    ),
    "aotinductor-cuda": Backend(
        "steps.backends.aotinductor", "triton", "engine", ("fp32", "fp16", "bf16"), "cuda", ("model.pt2",)
    ),
}

ENGINES: tuple[str, ...] = tuple(
    f"{name}-{precision}" for name, backend in BACKENDS.items() for precision in backend.precisions
)


def parse_engine(engine: str) -> tuple[str, Precision]:
    """Return (backend, precision) of an engine's name, or raise BadInput with the nearest existing name."""
    name, _, precision_name = engine.rpartition("-")
    for precision in BACKENDS[name].precisions if name in BACKENDS else ():
        if precision == precision_name:
            return name, precision
    raise BadInput(
        f"there is no engine '{engine}'.{did_you_mean(engine, ENGINES)} Engines are {', '.join(ENGINES)}."
    )


def missing_files(backend: str, files: Collection[str]) -> str | None:
    """Return why an artifact with these files is no model of the backend, or None."""
    if backend not in BACKENDS:
        known = f"{', '.join(BACKENDS)}.{did_you_mean(backend, BACKENDS)}"
        return f"wants the backend '{backend}', which is not one of {known}"
    missing = [name for name in BACKENDS[backend].files if name not in files]
    return f"has a card that lists no {' and no '.join(missing)}, which {backend} runs." if missing else None

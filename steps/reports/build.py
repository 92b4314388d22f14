"""data/build/<engine>/: report.json, the result of the build, and engine.json, the requirements of the engine."""

from steps.reports.base import JsonFile, Report
from steps.reports.card import Device, Precision


class Int8Report(JsonFile):
    """`agreement`: the share of `images`, none used for calibration, on which int8 gives the class of float32."""

    agreement: float
    images: int
    layers: int
    left_in_float: tuple[str, ...] = ()


class BuildReport(Report):
    """`builder_log` holds the warnings of the engine builder, without times."""

    engine: str = ""
    size_bytes: int = 0
    builder_log: tuple[str, ...] = ()
    int8: Int8Report | None = None  # of the graph that the engine was built from
    not_run: str | None = (
        None  # why the outputs were not checked: this machine can build the engine, but not run it
    )


class TensorFacts(JsonFile):
    """An input or output. A text in `shape` is an axis of any size, such as the number of images."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class EngineFacts(JsonFile):
    """engine.json: inputs, outputs and requirements of an engine, readable without the engine's GPU."""

    backend: str
    precision: Precision
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    device: Device
    versions: dict[str, str]
    graph: str  # sha256 of the ONNX graph that the engine was built from, in the engine's precision
    device_memory_bytes: int | None = None  # scratch memory without the weights; null: unknown without the device

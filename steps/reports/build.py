"""data/build/<engine>/: report.json, what the builder made and said, and engine.json, what the engine needs."""

from steps.reports.base import JsonFile, Report
from steps.reports.card import Device, Precision


class Int8Report(JsonFile):
    """`agreement`: the share of `images` held out from calibration to which int8 gives float32's class."""

    agreement: float
    images: int
    layers: int
    left_in_float: tuple[str, ...] = ()


class BuildReport(Report):
    """`builder_log` holds the warnings of the engine builder, without times."""

    engine: str = ""
    size_bytes: int = 0
    builder_log: tuple[str, ...] = ()
    int8: Int8Report | None = None  # of the graph that the engine was made from
    not_run: str | None = None  # why its outputs were not looked at: this machine can build it, but not run it


class TensorFacts(JsonFile):
    """An input or output: a text in the shape is an axis of any size, such as the number of images."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class EngineFacts(JsonFile):
    """engine.json: what an engine takes, gives and needs, readable where it cannot be opened: without its GPU."""

    backend: str
    precision: Precision
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    device: Device
    versions: dict[str, str]
    graph: str  # sha256 of the ONNX graph that it was built from, the precision written into it
    device_memory_bytes: int | None = (
        None  # scratch memory besides the weights; null: not known without the device
    )

"""data/build/<engine>/report.json: what the builder made and said."""

from steps.reports.base import JsonFile, Report


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

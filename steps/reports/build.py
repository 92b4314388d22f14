"""data/build/<engine>/report.json: what the builder made and said."""

from steps.reports.base import Report


class BuildReport(Report):
    """`builder_log` holds the warnings of the engine builder, without times."""

    engine: str = ""
    size_bytes: int = 0
    builder_log: tuple[str, ...] = ()
    not_run: str | None = None  # why its outputs were not looked at: this machine can build it, but not run it

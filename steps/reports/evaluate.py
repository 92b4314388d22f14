"""data/evaluate/FORM.json: one form's figures on the test images; its scores stand in FORM.parquet."""

from steps.reports.base import JsonFile, Report
from steps.reports.card import Card


class FormReport(Report):
    """Figures are null for a form that was not run; `deferred` then says why."""

    form: str = ""
    deferred: str | None = None
    card: Card | None = None
    images: int = 0
    top1: float | None = None
    macro_recall: float | None = None
    worst_recall: float | None = None
    worst_class: str | None = None
    still: int = 0  # classes with test images whose score is the same in all images
    first_still: int | None = None  # the first of them
    size_bytes: int = 0
    test_set: str = ""  # sha256 over the names, checksums and labels of the test images, in order


class Metrics(JsonFile):
    """FORM.metrics.json: the figures of a form that `dvc metrics show` lists, and nothing that is no figure."""

    images: int
    top1: float | None
    macro_recall: float | None
    worst_recall: float | None
    size_bytes: int


class Latency(JsonFile):
    """.foldline/latency/FORM.json: milliseconds a call, by batch size, as p50, p90 and p99."""

    form: str
    threads: int
    milliseconds: dict[int, dict[str, float]]

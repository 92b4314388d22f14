"""data/evaluate/FORM.json: one form's figures on the test images. FORM.parquet has the scores."""

from steps.reports.base import JsonFile, Report
from steps.reports.card import Card, Takes

# The note beside a latency. All forms are timed on images of the network's size, so the latency of an engine that
# resizes does not include the resize.
TIMED: dict[Takes, str] = {"sized": "", "any": " (resize not included)"}


class FormReport(Report):
    """Figures are null for a form that was not run; `deferred` is then the reason."""

    form: str = ""
    deferred: str | None = None
    card: Card | None = None
    images: int = 0
    top1: float | None = None
    macro_recall: float | None = None
    worst_recall: float | None = None
    worst_class: str | None = None
    still: int = 0  # classes with test images whose score is the same in all images
    first_still: int | None = None  # the class id of the first of them
    size_bytes: int = 0
    scores_checksum: str = ""  # sha256 of FORM.parquet
    test_set: str = ""  # sha256 over the names, checksums and labels of the test images, in order


class Metrics(JsonFile):
    """FORM.metrics.json: the figures of a form that `dvc metrics show` lists, and figures only."""

    images: int
    top1: float | None
    macro_recall: float | None
    worst_recall: float | None
    size_bytes: int


class Latency(JsonFile):
    """.foldline/latency/FORM.json: milliseconds a call, by batch size, as p50, p90 and p99."""

    form: str
    takes: Takes = "sized"
    threads: int
    milliseconds: dict[int, dict[str, float]]

    def of_one_image(self) -> str | None:
        """Return the median for one image as text, or None where it was not measured."""
        median = self.milliseconds.get(1, {}).get("p50")
        return None if median is None else f"{median:.2f} ms{TIMED[self.takes]}"

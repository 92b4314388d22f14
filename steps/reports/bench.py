""".foldline/bench/bench.json: what forms cost on one machine; measured, so no stage writes or reads it."""

from steps.reports.base import JsonFile
from steps.reports.card import Precision, Takes


class BenchRow(JsonFile):
    """One form under one setting. Milliseconds are of a call with `batch` images, or of an image's share of it."""

    form: str
    threads: int
    batch: int
    calls: int
    p50: float
    p90: float
    p99: float
    cpu_per_image: float  # CPU time of the whole process, all its threads together

    @property
    def images_per_second(self) -> float:
        """Return the throughput at the median."""
        return 1000 * self.batch / self.p50


class BenchForm(JsonFile):
    """A form, and why it was not run where it was not. Peak memory is of a process that runs this form alone."""

    form: str
    backend: str
    precision: Precision
    device: str
    takes: Takes = "sized"
    size_bytes: int
    peak_bytes: int | None = None
    top1: float | None = None  # of the evaluation of these very files, as a fraction
    not_run: str | None = None
    on_front: bool | None = None  # over the best latency of one image and top-1; null: one of them is not known


class BenchReport(JsonFile):
    """All forms and rows, with what they were measured on."""

    cpu: str
    cpus: int
    image_size: int
    forms: tuple[BenchForm, ...]
    rows: tuple[BenchRow, ...]

    def best_latency(self, form: str) -> BenchRow | None:
        """Return the row with the least median for one image, or None where the form was not run on one."""
        single = [row for row in self.rows if row.form == form and row.batch == 1]
        return min(single, key=lambda row: row.p50, default=None)

    def marked(self) -> "BenchReport":
        """Return the report with the Pareto front marked: no other form is as fast and as accurate, or more so."""
        known = {
            form.form: (row.p50, -form.top1)
            for form in self.forms
            if (row := self.best_latency(form.form)) is not None and form.top1 is not None
        }
        forms = tuple(
            form.model_copy(update={"on_front": _undominated(form.form, known) if form.form in known else None})
            for form in self.forms
        )
        return self.model_copy(update={"forms": forms})


def _undominated(name: str, costs: dict[str, tuple[float, float]]) -> bool:
    own = costs[name]
    return not any(
        all(a <= b for a, b in zip(other, own, strict=True)) and other != own for other in costs.values()
    )

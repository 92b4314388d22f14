""".foldline/bench/bench.json: the measured cost of the forms on one machine. No stage writes or reads the file."""

from steps.reports.base import JsonFile
from steps.reports.card import Precision, Takes


class BenchRow(JsonFile):
    """One form under one setting. Milliseconds are for a call with `batch` images, if not named otherwise."""

    form: str
    threads: int
    batch: int
    calls: int
    p50: float
    p90: float
    p99: float
    cpu_per_image: float  # CPU time of all threads of the process, in milliseconds

    @property
    def images_per_second(self) -> float:
        """Return the throughput at the median."""
        return 1000 * self.batch / self.p50


class BenchForm(JsonFile):
    """A form; `not_run` is the reason why it was not run. Peak memory is of a process that runs only this form."""

    form: str
    backend: str
    precision: Precision
    device: str
    takes: Takes = "sized"
    size_bytes: int
    peak_bytes: int | None = None
    top1: float | None = None  # a fraction, from the evaluation of these files
    not_run: str | None = None
    on_front: bool | None = None  # Pareto front of best latency of one image and top-1; null: one is unknown


class BenchReport(JsonFile):
    """All forms and rows, and the machine that they were measured on."""

    cpu: str
    cpus: int
    image_size: int
    forms: tuple[BenchForm, ...]
    rows: tuple[BenchRow, ...]

    def best_latency(self, form: str) -> BenchRow | None:
        """Return the row with the least median for one image, or None where the form has no such row."""
        single = [row for row in self.rows if row.form == form and row.batch == 1]
        return min(single, key=lambda row: row.p50, default=None)

    def marked(self) -> "BenchReport":
        """Return the report with the Pareto front marked: forms that no other form beats in latency and top-1."""
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
    cost = costs[name]
    return not any(
        all(a <= b for a, b in zip(other, cost, strict=True)) and other != cost for other in costs.values()
    )

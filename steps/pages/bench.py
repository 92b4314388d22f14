"""How tools.bench shows its report: as a table on a terminal, and as a page with a plot that loads nothing."""

from matplotlib.figure import Figure

from steps.pages import html
from steps.pages.tables import aligned
from steps.params.build import BatchProfile
from steps.reports.bench import BenchForm, BenchReport, BenchRow
from steps.reports.evaluate import TIMED
from steps.training.plot import svg_of

HEADER = (
    "form", "threads", "images", "p50 ms", "p90 ms", "p99 ms", "images/s", "CPU ms/image", "size MB", "peak MB",
    "top-1 %", "front",
)  # fmt: skip
BUSY = 1.25  # times longer on the clock than the CPU time would take on all threads
ENOUGH = 0.97  # of the most images a second: what takes fewer images or threads for that is the better setting
NO_FRONT = "No form has an accuracy that was measured on these files (data/evaluate), so no front is claimed."


def lines(report: BenchReport) -> list[str]:
    """Return the report for a terminal: the table in columns, then the remarks."""
    return [*aligned(HEADER, table(report)), *notes(report)]


def table(report: BenchReport) -> list[tuple[str, ...]]:
    """Return the rows for a person, form by form."""
    return [_row(form, row) for form in report.forms for row in report.rows if row.form == form.form]


def notes(report: BenchReport) -> list[str]:
    """Return the remarks below the table: conditions, doubts, and what was not run."""
    remarks = [
        f"{report.image_size} px, from uint8 images to scores, on {report.cpu} ({report.cpus} CPUs). The forms "
        "took turns, each in a process of its own, whose peak memory holds Python and the runtime too. MB are "
        "10^6 bytes."
    ]
    waited = max(
        (row.p50 * row.threads / (row.cpu_per_image * row.batch) for row in report.rows if row.threads == 1),
        default=1.0,
    )
    if waited > BUSY:
        remarks.append(
            f"The machine was busy: calls took up to {waited:.1f} times their CPU time. Trust CPU times."
        )
    if unlike := [form.form for form in report.forms if form.takes == "any"]:
        remarks.append(
            f"{', '.join(unlike)}: takes images of any size, and was timed on images of {report.image_size} px as "
            "all are. What it takes to resize larger ones, which comes with each image there, is not included."
        )
    remarks += [f"{form.form} was not run: {form.not_run}" for form in report.forms if form.not_run]
    front = [form.form for form in report.forms if form.on_front]
    remarks.append(f"On the front over one image's latency and top-1: {', '.join(front)}." if front else NO_FRONT)
    return remarks


def adopted(report: BenchReport) -> list[str]:
    """Return the best settings of the engines, keys to set under `build`; nothing where no engine was run."""
    engines = {form.form for form in report.forms if form.form not in ("train", "fuse", "export")}
    rows = [row for row in report.rows if row.form in engines]
    if not rows:
        return []
    devices = {form.form: form.device for form in report.forms}
    remarks = []
    if single := [row for row in rows if row.batch == 1]:
        fastest = min(single, key=lambda row: row.p50)
        remarks.append(f"# one image soonest: {fastest.form}, {fastest.p50:.2f} ms\n{_keys(fastest, devices)}")
    most = max(row.images_per_second for row in rows)
    enough = [row for row in rows if row.images_per_second >= ENOUGH * most]
    chosen = min(enough, key=lambda row: (row.threads, row.batch))
    remarks.append(
        f"# most images: {chosen.form}, {chosen.images_per_second:.0f} images/s, {chosen.batch} at once\n"
        f"{_keys(chosen, devices)}"
    )
    return remarks


def draw(report: BenchReport) -> bytes:
    """Return the plot as SVG: equal reports are equal bytes. Without accuracies it shows images a second."""
    ran = [(form, row) for form in report.forms if (row := report.best_latency(form.form)) is not None]
    known = [(form, row) for form, row in ran if form.top1 is not None]

    def points(figure: Figure) -> None:
        axes = figure.subplots()
        for form, row in known or ran:
            height = 100 * form.top1 if form.top1 is not None else row.images_per_second
            axes.scatter(row.p50, height, color="C0", zorder=2)
            axes.annotate(form.form, (row.p50, height), xytext=(5, 4), textcoords="offset points", fontsize=8)
        front = sorted((row.p50, 100 * (form.top1 or 0)) for form, row in known if form.on_front)
        if front:
            axes.plot(*zip(*front, strict=True), drawstyle="steps-post", color="C1", zorder=1)
        title = "line: Pareto front" if known else "no accuracies, so no front"
        axes.set(ylabel="top-1 (%)" if known else "images/s", title=title)
        axes.set(xlabel="ms, one image, on the number of threads that serves it best")
        axes.grid(alpha=0.3)
        axes.margins(0.15)

    return svg_of(points, inches=(7, 4.5))


def page(report: BenchReport) -> bytes:
    """Return plot, table and settings as one HTML file that loads nothing."""
    plot = html.inline_svg(draw(report))
    table_of_forms = html.table(HEADER, table(report))
    return html.page(
        "Benchmark", [plot, table_of_forms, html.paragraphs(notes(report)), html.preformatted(adopted(report))]
    )


def _keys(row: BenchRow, devices: dict[str, str]) -> str:
    """Return the setting as keys of `build`: threads of a CPU; of a GPU the batch that an engine is tuned for.

    The largest batch is the default's unless the best is larger.
    """
    most = max(row.batch, BatchProfile().max)
    remarks = "# merge into build: in params.yaml, whose other keys stay"
    on_gpu = devices[row.form] == "cuda"
    return f"{remarks}\n  " + (
        f"batch: {{min: 1, opt: {row.batch}, max: {most}}}" if on_gpu else f"threads: {row.threads}"
    )


def _row(form: BenchForm, row: BenchRow) -> tuple[str, ...]:
    return (
        form.form + TIMED[form.takes],
        str(row.threads),
        str(row.batch),
        f"{row.p50:.2f}",
        f"{row.p90:.2f}",
        f"{row.p99:.2f}",
        f"{row.images_per_second:.1f}",
        f"{row.cpu_per_image:.2f}",
        f"{form.size_bytes / 1e6:.2f}",
        "" if form.peak_bytes is None else f"{form.peak_bytes / 1e6:.0f}",
        "" if form.top1 is None else f"{100 * form.top1:.2f}",
        "*" if form.on_front else "",
    )

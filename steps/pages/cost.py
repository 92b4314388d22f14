"""How tools.cost shows its report: as a table on a terminal, as a plot, and as a page that loads nothing."""

from typing import Any

from matplotlib.figure import Figure

from steps.pages import html
from steps.pages.tables import aligned
from steps.reports.cost import CostCard, CostReport, Form, FormCost, Runtime
from steps.training.plot import svg_of

HEADER = (
    "network", "form", "params M", "head %", "GFLOPs", "GMACs", "moved MB", "live MB", "file MB",
    "PyTorch ms", "ORT ms", "top-1 %", "front",
)  # fmt: skip
BUSY = 1.25  # times longer on the clock than on the CPU
NO_FRONT = (
    "No accuracies were given, so no front is claimed: latency against FLOPs says nothing of what is better."
)


def lines(report: CostReport) -> list[str]:
    """Return the report for a terminal: the table in columns, then the remarks."""
    return [*aligned(HEADER, table(report), left=2), *notes(report)]


def table(report: CostReport) -> list[tuple[str, ...]]:
    """Return the rows for a person, two a network; in each column the same unit."""
    rows = []
    for card in report.cards:
        rows += [_row(card, "trained", card.trained), _row(card, "plain", card.plain)]
    return rows


def notes(report: CostReport) -> list[str]:
    """Return the remarks below the table: conditions, doubts, and what was not run."""
    remarks = [
        f"One image of {report.size} px, {report.class_num} classes, {report.threads} thread(s); medians of "
        f"{report.rounds} rounds in which all took turns. MB are 10^6 bytes."
    ]
    waited = max(row.median / row.cpu_median for card in report.cards for row in card.latencies)
    if waited > BUSY:
        remarks.append(
            f"The machine was busy: calls took up to {waited:.1f} times their CPU time. Trust the order alone."
        )
    uncounted = sorted({name for card in report.cards for name in card.trained.uncounted + card.plain.uncounted})
    if uncounted:
        remarks.append(f"FLOPs leave out operators without a formula: {', '.join(uncounted)}.")
    known = [card for card in report.cards if card.accuracy is not None]
    if not known:
        return [*remarks, NO_FRONT]
    front = ", ".join(card.arch for card in report.cards if card.on_front)
    remarks.append(f"On the front over the plain form's latency in {report.front_runtime} and top-1: {front}.")
    if any(card.accuracy.source == "published" for card in known if card.accuracy):
        remarks.append("p: published by others, on their data and training, not measured here.")
    return remarks


def draw(report: CostReport) -> bytes:
    """Return the plot as SVG: equal reports are equal bytes. Without accuracies it shows FLOPs, and no front."""
    known = [card for card in report.cards if card.accuracy is not None]

    def points(figure: Figure) -> None:
        axes = figure.subplots()
        if known:
            _draw_front(axes, known, report.front_runtime)
        else:
            for card in report.cards:
                _point(axes, card, report.front_runtime, card.plain.flops / 1e9, filled=True)
            axes.set(ylabel="GFLOPs, plain form", title="no accuracies, so no front")
        axes.set(xlabel=f"ms an image, plain form, {report.front_runtime}, {report.threads} thread(s)")
        axes.grid(alpha=0.3)
        axes.margins(0.15)

    return svg_of(points, inches=(7, 4.5))


def page(report: CostReport) -> bytes:
    """Return plot and table as one HTML file that loads nothing."""
    plot, networks = html.inline_svg(draw(report)), html.table(HEADER, table(report))
    return html.page("Cost", [plot, networks, html.paragraphs(notes(report))])


def _draw_front(axes: Any, known: list[CostCard], runtime: Runtime) -> None:
    """Draw the networks with an accuracy, hollow where it is published, and the front as steps between them."""
    for card in known:
        assert card.accuracy is not None
        _point(axes, card, runtime, card.accuracy.top1, filled=card.accuracy.source == "measured")
    front = sorted(
        (card.median("plain", runtime) or 0.0, card.accuracy.top1)
        for card in known
        if card.on_front and card.accuracy is not None
    )
    axes.plot(*zip(*front, strict=True), drawstyle="steps-post", color="C1", zorder=1)
    axes.set(ylabel="top-1 (%)", title="filled: accuracy measured; hollow: published; line: Pareto front")


def _point(axes: Any, card: CostCard, runtime: Runtime, height: float, filled: bool) -> None:
    milliseconds = card.median("plain", runtime)
    axes.scatter(milliseconds, height, facecolors="C0" if filled else "none", edgecolors="C0", zorder=2)
    axes.annotate(card.arch, (milliseconds, height), xytext=(5, 4), textcoords="offset points", fontsize=8)


def _row(card: CostCard, form: Form, cost: FormCost) -> tuple[str, ...]:
    accuracy, plain = card.accuracy, form == "plain"
    return (
        card.arch,
        "plain" if plain else card.block or "as built",
        f"{cost.parameters / 1e6:.2f}",
        f"{cost.head_share:.0%}".rstrip("%"),
        f"{cost.flops / 1e9:.3f}",
        f"{cost.multiply_adds / 1e9:.3f}",
        f"{cost.memory_access_bytes / 1e6:.1f}",
        f"{cost.peak_live_bytes / 1e6:.2f}",
        f"{cost.weight_file_bytes / 1e6:.1f}",
        _shown(card.median(form, "pytorch")),
        _shown(card.median(form, "onnxruntime")),
        f"{accuracy.top1:.2f}{' p' if accuracy.source == 'published' else ''}" if accuracy and plain else "",
        "*" if card.on_front and plain else "",
    )


def _shown(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.2f}"

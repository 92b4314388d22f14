"""Plots as SVG; and history.svg, the losses and the figures on val, epoch by epoch."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from steps.files import write_whole
from steps.training.history import EpochRow

STYLE: Any = {"svg.hashsalt": "foldline", "svg.fonttype": "none", "font.family": "sans-serif"}
CURVES = (
    ("loss", ("train_loss", "val_loss")),
    ("on val", ("val_top1", "val_macro_recall", "val_worst_recall")),
)


def svg_of(draw: Callable[[Figure], None], inches: tuple[float, float]) -> bytes:
    """Return what `draw` draws as SVG, without date or random ids: equal figures are equal bytes."""
    content = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure)
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


def plot_history(rows: list[EpochRow], path: Path) -> None:
    """Write the curves of a training."""

    def curves(figure: Figure) -> None:
        for axes, (title, names) in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
            for name in names:
                known = [(row.epoch, value) for row in rows if (value := getattr(row, name)) is not None]
                axes.plot(*zip(*known, strict=True) if known else ([], []), marker=".", label=name)
            axes.set(title=title, xlabel="epoch")
            axes.grid(alpha=0.3)
            axes.legend()

    write_whole(path, svg_of(curves, inches=(9, 3.5)))

"""The progress of a training: one row for each epoch, the best so far, and history.csv."""

import csv
import io
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from steps.files import write_whole


@dataclass(frozen=True)
class EpochRow:
    """One epoch, counted from 1 (0: before any training); losses and figures are means over images."""

    epoch: int
    lr: float
    train_loss: float | None
    val_loss: float
    val_top1: float
    val_macro_recall: float
    val_worst_recall: float


@dataclass
class Progress:
    """The finished epochs, the finished steps of the next epoch, and the sum of the losses of those steps."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best_epoch: int | None = None
    best_score: float | None = None
    best_loss: float | None = None  # on val, of the best epoch; it decides between equal scores
    history: list[EpochRow] = field(default_factory=list)


def write_history(rows: list[EpochRow], path: Path) -> None:
    """Write history.csv: no times, so that equal trainings are equal bytes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [column.name for column in fields(EpochRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_whole(path, text.getvalue().encode())

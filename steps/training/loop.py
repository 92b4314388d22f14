"""The training loop: from a network and a feed to the best network on val, resumed to the bit after any kill.

Letters: N images of a batch, H and W pixels, C = 3 channels (RGB). The loader is threads of this process, so no
shared memory is needed (/dev/shm may be the 64 MB that a container gets). Val chooses the best epoch.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torch.optim import SGD

from steps.errors import Refused
from steps.progress import say, track
from steps.training.checkpoint import has_last, load_last, save_best, save_last
from steps.training.feed import Batch, Feed
from steps.training.history import EpochRow, Progress
from steps.training.losses import Loss
from steps.training.optimizer import learning_rate, set_learning_rate
from steps.training.validation import Figures

CHECKPOINT_EVERY_SECONDS = 30.0


@dataclass(frozen=True)
class Plan:
    """How long and how fast: `warmup_epochs` may be a fraction, `lr` is the peak of the schedule."""

    epochs: int
    lr: float
    warmup_epochs: float
    best_by: Literal["top1", "macro_recall"]
    remedies: str = "lower train.lr or lengthen train.warmup_epochs"  # of a loss that is not finite


@dataclass(frozen=True)
class Training:
    """What a training is made of; `validate` gives a network's figures on val."""

    network: nn.Module
    optimizer: SGD
    feed: Feed
    loss: Loss
    validate: Callable[[nn.Module], Figures]
    plan: Plan
    checkpoints: Path


def fit(training: Training) -> Progress:
    """Train until the plan is done, going on from the checkpoints if there are any; return what was reached.

    Refuses when the loss is not finite; the last good checkpoint stays. Without epochs, val is measured once.
    """
    progress = load_last(training.checkpoints, training.network, training.optimizer) or Progress()
    if progress.epoch or progress.step:
        say(f"train: goes on after epoch {progress.epoch}, step {progress.step} of the next")
    if training.plan.epochs == 0 and not progress.history:
        _close_epoch(training, progress, train_loss=None)
    while progress.epoch < training.plan.epochs:
        _finish_epoch(training, progress)
        train_loss = progress.loss_sum / training.feed.steps
        progress.epoch, progress.step, progress.loss_sum = progress.epoch + 1, 0, 0.0
        _close_epoch(training, progress, train_loss)
    return progress


def _finish_epoch(training: Training, progress: Progress) -> None:
    """Take the steps that are left of the epoch at `progress`, with a checkpoint now and then."""
    steps = training.feed.steps
    batches = training.feed.batches(progress.epoch + 1, progress.step)
    label = f"epoch {progress.epoch + 1}/{training.plan.epochs}"
    training.network.train()
    saved = time.monotonic()
    for batch in track(batches, label, steps - progress.step, "batch"):
        progress.loss_sum += _take_step(training, progress, batch)
        progress.step += 1
        if progress.step < steps and time.monotonic() - saved >= CHECKPOINT_EVERY_SECONDS:
            save_last(training.checkpoints, training.network, training.optimizer, progress)
            saved = time.monotonic()


def _take_step(training: Training, progress: Progress, batch: Batch) -> float:
    """Learn from one batch and return its loss, or refuse before a loss that is not finite spoils the weights."""
    images_NHWC_u8, labels_N = batch
    device = next(training.network.parameters()).device
    rate = _rate(training, progress.epoch * training.feed.steps + progress.step)
    loss = training.loss(training.network(images_NHWC_u8.to(device)), labels_N.to(device)).mean()
    value = loss.item()
    if not math.isfinite(value):
        raise Refused(_not_finite(training, progress, value, rate))
    set_learning_rate(training.optimizer, rate)
    training.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    training.optimizer.step()
    return value


def _rate(training: Training, step: int) -> float:
    steps, plan = training.feed.steps, training.plan
    return learning_rate(step, plan.epochs * steps, round(plan.warmup_epochs * steps), plan.lr)


def _close_epoch(training: Training, progress: Progress, train_loss: float | None) -> None:
    """Look at val, keep the network if it is the best so far, and write the checkpoint."""
    figures = training.validate(training.network)
    rate = _rate(training, progress.epoch * training.feed.steps - 1) if progress.epoch else 0.0
    row = EpochRow(
        epoch=progress.epoch,
        lr=rate,
        train_loss=train_loss,
        val_loss=figures.loss,
        val_top1=figures.top1,
        val_macro_recall=figures.macro_recall,
        val_worst_recall=figures.worst_recall,
    )
    progress.history.append(row)
    score = getattr(figures, training.plan.best_by)
    if _is_best(score, figures.loss, progress):
        progress.best_epoch, progress.best_score, progress.best_loss = progress.epoch, score, figures.loss
        save_best(training.checkpoints, training.network, progress.epoch)
    save_last(training.checkpoints, training.network, training.optimizer, progress)
    _say_row(row, training.plan.epochs, progress)


def _is_best(score: float, loss: float, progress: Progress) -> bool:
    """Return whether this beats the best so far; a small val makes equal scores, of which the lower loss wins."""
    if progress.best_score is None or progress.best_loss is None:
        return True
    return (score, -loss) > (progress.best_score, -progress.best_loss)


def _say_row(row: EpochRow, epochs: int, progress: Progress) -> None:
    loss = "" if row.train_loss is None else f"loss {row.train_loss:.4f}, "
    best = ", best" if progress.best_epoch == row.epoch else ""
    say(
        f"epoch {row.epoch}/{epochs}: {loss}val loss {row.val_loss:.4f}, top-1 {row.val_top1:.4f}, "
        f"macro recall {row.val_macro_recall:.4f}, worst {row.val_worst_recall:.4f}{best}"
    )


def _not_finite(training: Training, progress: Progress, value: float, rate: float) -> str:
    kept = (
        f"the last good checkpoint is kept in {training.checkpoints}"
        if has_last(training.checkpoints)
        else ("there was no good checkpoint yet")
    )
    return (
        f"the loss is not finite ({value}) at epoch {progress.epoch + 1}, step {progress.step + 1}, lr {rate:g}; "
        f"{training.plan.remedies}; {kept}."
    )


def make_deterministic() -> torch.device:
    """Make equal inputs give equal bits on this machine, and return its fastest device: a GPU if there is one."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # nobody reads it
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")

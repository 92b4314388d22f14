"""The training loop: from a network and a feed to the best network on val, resumed to the bit after any kill.

Letters: N images of a batch, H and W pixels, C = 3 channels (RGB). The loader is threads of this process, so no
shared memory is needed (/dev/shm may be the 64 MB that a container gets). Val chooses the best epoch.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steps.errors import Refused
from steps.progress import say, track
from steps.training.batch import Batch
from steps.training.checkpoint import has_last, load_last, save_best, save_last
from steps.training.feed import Feed
from steps.training.history import EpochRow, Progress
from steps.training.losses import Loss
from steps.training.optimizers import MakeOptimizer, set_learning_rate
from steps.training.schedules import Schedule
from steps.training.state import Parts, parts_of
from steps.training.validation import Figures

CHECKPOINT_EVERY_SECONDS = 30.0
LOOK_EVERY_STEPS = 16  # of a GPU between two looks at the losses: each look waits until the GPU is done


@dataclass(frozen=True)
class Plan:
    """How long and how fast; `lr` is the peak of the schedule."""

    epochs: int
    lr: float
    schedule: Schedule
    best_by: Literal["top1", "macro_recall"]
    remedies: str = "lower train.lr or lengthen train.schedule.warmup_epochs"  # of a loss that is not finite


@dataclass(frozen=True)
class Training:
    """All that `fit` needs; `validate` gives the figures of a network on val."""

    network: nn.Module
    make_optimizer: MakeOptimizer
    feed: Feed
    loss: Loss
    validate: Callable[[nn.Module], Figures]
    plan: Plan
    checkpoints: Path

    @cached_property
    def optimizer(self) -> Optimizer:
        """The optimizer of this network; a training with another network gets another optimizer."""
        return self.make_optimizer(self.network)

    @property
    def parts(self) -> Parts:
        """What a checkpoint holds."""
        return parts_of(self.network, self.optimizer)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.network.parameters()).device


def fit(training: Training) -> Progress:
    """Train until the plan is done, from the last checkpoint where there is one; return the progress.

    Refuses when the loss is not finite; the last good checkpoint stays. Without epochs, val is measured once.
    """
    progress = load_last(training.checkpoints, training.parts) or Progress()
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
    look_every = LOOK_EVERY_STEPS if training.device.type == "cuda" else 1
    training.network.train()
    losses: list[Tensor] = []  # of steps that were taken and not yet looked at
    saved = time.monotonic()
    for batch in track(batches, label, steps - progress.step, "batch"):
        losses.append(_take_step(training, progress.step + len(losses), progress.epoch, batch))
        if len(losses) < look_every and progress.step + len(losses) < steps:
            continue
        _count(training, progress, losses)
        losses = []
        if progress.step < steps and time.monotonic() - saved >= CHECKPOINT_EVERY_SECONDS:
            save_last(training.checkpoints, training.parts, progress)
            saved = time.monotonic()


def _take_step(training: Training, step: int, epoch: int, batch: Batch) -> Tensor:
    """Learn from one batch and return its loss, which may still be under way on the device."""
    batch = batch.to(training.device)
    loss = batch.mean(training.loss(training.network(batch.images_NHWC_u8), batch))
    set_learning_rate(training.optimizer, _rate(training, epoch * training.feed.steps + step))
    training.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    training.optimizer.step()
    return loss.detach()


def _count(training: Training, progress: Progress, losses: list[Tensor]) -> None:
    """Add the steps' losses to the progress; refuse at the first that is not finite: no checkpoint holds it."""
    for value in torch.stack(losses).tolist():
        if not math.isfinite(value):
            raise Refused(_not_finite(training, progress, value))
        progress.loss_sum += value
        progress.step += 1


def _rate(training: Training, step: int) -> float:
    plan = training.plan
    return plan.lr * plan.schedule(step, training.feed.steps, plan.epochs)


def _close_epoch(training: Training, progress: Progress, train_loss: float | None) -> None:
    """Measure val, save the network if it is the best so far, and write the checkpoint."""
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
    save_last(training.checkpoints, training.parts, progress)
    _say_row(row, training.plan.epochs, progress)


def _is_best(score: float, loss: float, progress: Progress) -> bool:
    """Return whether this epoch is the best so far; the lower loss decides between equal scores."""
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


def _not_finite(training: Training, progress: Progress, value: float) -> str:
    rate = _rate(training, progress.epoch * training.feed.steps + progress.step)
    kept = "there was no good checkpoint yet"
    if has_last(training.checkpoints):
        kept = f"the last good checkpoint is kept in {training.checkpoints}"
    return (
        f"the loss is not finite ({value}) at epoch {progress.epoch + 1}, step {progress.step + 1}, lr {rate:g}; "
        f"{training.plan.remedies}; {kept}."
    )


def make_deterministic() -> torch.device:
    """Make torch deterministic on this machine, and return the GPU if there is one, else the CPU."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # nothing reads uninitialized memory here
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")

"""SCHEDULES: the learning rate of every step, as a share of its peak."""

import math
from collections.abc import Callable
from dataclasses import dataclass

Schedule = Callable[[int, int, int], float]  # (step from 0, steps of an epoch, epochs) -> share of the peak


@dataclass(frozen=True)
class Cosine:
    """Linear up to the peak over `warmup_epochs`, then half a cosine down towards 0.

    Source: Goyal et al. 2017 (warm-up), Loshchilov and Hutter 2017, equation 5 (cosine).
    """

    warmup_epochs: float = 0.0

    def __call__(self, step: int, epoch_steps: int, epochs: int) -> float:
        """Return the share of the peak at `step`."""
        warmup, steps = round(self.warmup_epochs * epoch_steps), epochs * epoch_steps
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


SCHEDULES: dict[str, Callable[..., Schedule]] = {"cosine": Cosine}

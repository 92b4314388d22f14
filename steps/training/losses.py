"""LOSSES: each gives one number an image; the loop takes the mean of a batch.

Letters: N images, K classes. Logits go in, never a softmax: each loss takes its own logarithm, once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from steps.training.batch import Batch

Loss = Callable[[Tensor, Batch], Tensor]  # logits_NK and their batch -> losses_N


@dataclass(frozen=True)
class CrossEntropy:
    """-log p of the label; with smoothing s, the target is 1-s there plus s/K everywhere (Szegedy et al. 2016)."""

    label_smoothing: float = 0.0

    def __call__(self, logits_NK: Tensor, batch: Batch) -> Tensor:
        """Return losses_N."""
        return F.cross_entropy(logits_NK, batch.labels_N, reduction="none", label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class Focal:
    """-(1 - p)^gamma log p (Lin et al. 2017, equation 4), with p from the unweighted cross entropy."""

    gamma: float = 2.0

    def __call__(self, logits_NK: Tensor, batch: Batch) -> Tensor:
        """Return losses_N."""
        unweighted_N = F.cross_entropy(logits_NK, batch.labels_N, reduction="none")
        # 1 - p without cancellation, and above zero: its power has an infinite slope there for gamma below 1
        miss_N = (-torch.expm1(-unweighted_N)).clamp_min(torch.finfo(unweighted_N.dtype).tiny)
        return miss_N**self.gamma * unweighted_N


LOSSES: dict[str, Callable[..., Loss]] = {"cross_entropy": CrossEntropy, "focal": Focal}

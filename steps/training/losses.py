"""Losses, one number an image; the loop takes the mean of a batch.

Letters: N images, K classes. Logits go in, never a softmax: each loss takes its own logarithm, once.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]  # logits_NK, labels_N -> losses_N


def cross_entropy(gamma: float, label_smoothing: float) -> Loss:
    """-log p of the label; with smoothing s, the target is 1-s there plus s/K everywhere (Szegedy et al. 2016)."""
    del gamma

    def losses_of(logits_NK: Tensor, labels_N: Tensor) -> Tensor:
        return F.cross_entropy(logits_NK, labels_N, reduction="none", label_smoothing=label_smoothing)

    return losses_of


def focal(gamma: float, label_smoothing: float) -> Loss:
    """-(1 - p)^gamma log p (Lin et al. 2017, equation 4), p from the unweighted loss; smoothing is not defined."""
    assert label_smoothing == 0

    def losses_of(logits_NK: Tensor, labels_N: Tensor) -> Tensor:
        unweighted_N = F.cross_entropy(logits_NK, labels_N, reduction="none")
        # 1 - p without cancellation, and above zero: its power has an infinite slope there for gamma below 1
        miss_N = (-torch.expm1(-unweighted_N)).clamp_min(torch.finfo(unweighted_N.dtype).tiny)
        return miss_N**gamma * unweighted_N

    return losses_of


LOSSES: dict[str, Callable[[float, float], Loss]] = {"cross_entropy": cross_entropy, "focal": focal}

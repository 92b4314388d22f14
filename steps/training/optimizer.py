"""SGD with momentum, and the learning rate of every step."""

import math

from torch import nn
from torch.optim import SGD


def sgd(model: nn.Module, momentum: float, weight_decay: float) -> SGD:
    """Return the optimizer; norms and biases are not decayed.

    Their decay costs accuracy with large batches and regularises nothing (Goyal et al. 2017, section 5.3;
    He et al. 2019, "Bag of tricks", section 3.1). The learning rate is set before every step.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return SGD(groups, lr=0.0, momentum=momentum, nesterov=momentum > 0, fused=True)


def learning_rate(step: int, steps: int, warmup_steps: int, peak: float) -> float:
    """Return the rate of `step` (from 0) of `steps`: linear up to `peak`, then half a cosine down towards 0.

    Source: Goyal et al. 2017 (warm-up), Loshchilov and Hutter 2017, equation 5 (cosine).
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def set_learning_rate(optimizer: SGD, rate: float) -> None:
    """Make `rate` the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate

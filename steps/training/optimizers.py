"""OPTIMIZERS: each makes a torch optimizer of a network; the loop sets the learning rate before every step."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import SGD, Optimizer

MakeOptimizer = Callable[[nn.Module], Optimizer]


def sgd(network: nn.Module, momentum: float, weight_decay: float) -> Optimizer:
    """Return SGD with Nesterov momentum (Sutskever et al. 2013)."""
    return SGD(_groups(network, weight_decay), lr=0.0, momentum=momentum, nesterov=momentum > 0, fused=True)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Make `rate` the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the trained parameters in two groups: norms and biases are not decayed.

    Their decay costs accuracy with large batches and regularises nothing (Goyal et al. 2017, section 5.3;
    He et al. 2019, "Bag of tricks", section 3.1).
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"sgd": sgd}

"""The last layer of a network: where it is, and what it costs."""

from typing import Any

from torch import nn


def head_name(network: nn.Module) -> str:
    """Return the path of the layer that makes the logits; "" where there is none to be found.

    timm says so itself; else it is the last linear layer, or the last convolution of a network without one.
    """
    config: Any = getattr(network, "pretrained_cfg", None) or {}
    named: Any = config.get("classifier") if hasattr(config, "get") else None
    if isinstance(named, str) and named in dict(network.named_modules()):
        return str(named)
    for kind in (nn.Linear, nn.Conv2d):
        names = [name for name, module in network.named_modules() if isinstance(module, kind)]
        if names:
            return str(names[-1])
    return ""


def head_parameters(network: nn.Module) -> int:
    """Return the number of parameters of the last layer."""
    name = head_name(network)
    return sum(parameter.numel() for parameter in network.get_submodule(name).parameters()) if name else 0

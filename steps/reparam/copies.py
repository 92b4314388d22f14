"""Copies of networks: also of those that keep what they computed."""

import copy
from typing import TypeVar

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

Network = TypeVar("Network", bound=nn.Module)


def copied(model: Network) -> Network:
    """Return a copy; a computed tensor that a module keeps (a cached attention bias) is copied as a number.

    copy.deepcopy refuses a tensor that a gradient runs through, and an eval pass outside no_grad leaves some.
    """
    return copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in _computed(model)})


def _computed(model: nn.Module) -> list[Tensor]:
    kept = [leaf for module in model.modules() for leaf in tree_leaves(_attributes(module))]
    return [leaf for leaf in kept if isinstance(leaf, Tensor) and not leaf.is_leaf]


def _attributes(module: nn.Module) -> dict[str, object]:
    registered = ("_parameters", "_modules")
    return {name: value for name, value in vars(module).items() if name not in registered}

"""Copies of networks: also of those that keep what they computed."""

import copy
from typing import TypeVar

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from steps.errors import BadInput

Network = TypeVar("Network", bound=nn.Module)
OF_TORCH = frozenset(vars(nn.Module())) - {"_buffers"}  # what torch keeps in every module: no computed tensor


def copied(model: Network) -> Network:
    """Return a copy in the same mode; a computed tensor that a module keeps (a cached attention bias) is a number.

    copy.deepcopy refuses a tensor that a gradient runs through, and an eval pass outside no_grad leaves some. The
    modules of torch.fx (torchvision's feature extractors) forget their mode when they are copied. Raises BadInput
    where something that a module keeps (a lock, an open file) cannot be copied.
    """
    try:
        twin = copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in _computed(model)})
    except Exception as fault:  # whatever an object that a module keeps raises
        said = f"{type(fault).__name__}, {' '.join(str(fault).split())[:160]}"
        raise BadInput(
            f"{type(model).__name__} cannot be copied: {said}. What its modules keep must be copyable: no lock, "
            "open file or generator, no list that holds itself."
        ) from fault
    modes = {name: module.training for name, module in model.named_modules(remove_duplicate=False)}
    for name, module in twin.named_modules(remove_duplicate=False):
        module.training = modes.get(name, model.training)
    return twin


def _computed(model: nn.Module) -> list[Tensor]:
    kept = [leaf for module in model.modules() for leaf in tree_leaves(_attributes(module))]
    return [leaf for leaf in kept if isinstance(leaf, Tensor) and not leaf.is_leaf]


def _attributes(module: nn.Module) -> dict[str, object]:
    return {name: value for name, value in vars(module).items() if name not in OF_TORCH}

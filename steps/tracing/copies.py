"""Copies of networks, also of networks whose modules keep computed tensors."""

import copy
from typing import TypeVar

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from steps.errors import BadInput

Network = TypeVar("Network", bound=nn.Module)
TORCH_ATTRIBUTES = frozenset(vars(nn.Module())) - {
    "_buffers"
}  # every nn.Module has these; none is a computed tensor


def copied(model: Network) -> Network:
    """Return a copy in the same mode, with computed tensors (a cached attention bias) detached from autograd.

    copy.deepcopy refuses a tensor with a gradient graph, and an eval pass outside no_grad leaves such tensors. The
    modules of torch.fx (torchvision's feature extractors) lose their mode when they are copied. Raises BadInput if
    a module keeps an object that cannot be copied, such as a lock or an open file.
    """
    try:
        duplicate = copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in _computed(model)})
    except Exception as fault:  # an object that a module keeps may raise anything
        reason = f"{type(fault).__name__}, {' '.join(str(fault).split())[:160]}"
        raise BadInput(
            f"{type(model).__name__} cannot be copied: {reason}. The attributes of its modules must be copyable: "
            "no lock, no open file, no generator, no list that contains itself."
        ) from fault
    modes = {name: module.training for name, module in model.named_modules(remove_duplicate=False)}
    for name, module in duplicate.named_modules(remove_duplicate=False):
        module.training = modes.get(name, model.training)
    return duplicate


def _computed(model: nn.Module) -> list[Tensor]:
    leaves = [leaf for module in model.modules() for leaf in tree_leaves(_attributes(module))]
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and not leaf.is_leaf]


def _attributes(module: nn.Module) -> dict[str, object]:
    return {name: value for name, value in vars(module).items() if name not in TORCH_ATTRIBUTES}

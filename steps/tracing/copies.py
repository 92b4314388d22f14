"""Copies of networks, also of networks whose modules keep computed tensors."""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
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
    a module keeps an object that cannot be copied, such as a lock or an open file, and if the copy shares a module
    or the memory of a tensor with the original: whatever is written into the copy would change the original.
    """
    try:
        duplicate = copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in _computed(model)})
    except Exception as fault:  # an object that a module keeps may raise anything
        reason = f"{type(fault).__name__}, {' '.join(str(fault).split())[:160]}"
        raise BadInput(
            f"{type(model).__name__} cannot be copied: {reason}. The attributes of its modules must be copyable: "
            "no lock, no open file, no generator, no list that contains itself."
        ) from fault
    _refuse_a_copy_that_shares(model, duplicate)
    modes = {name: module.training for name, module in model.named_modules(remove_duplicate=False)}
    for name, module in duplicate.named_modules(remove_duplicate=False):
        module.training = modes.get(name, model.training)
    return duplicate


def _refuse_a_copy_that_shares(model: nn.Module, duplicate: nn.Module) -> None:
    originals, memory = set(map(id, model.modules())), set(_memory(model).values())
    parts = [name or "itself" for name, module in duplicate.named_modules() if id(module) in originals]
    tensors = [name for name, address in _memory(duplicate).items() if address in memory]
    if parts or tensors:
        what = f"module {parts[0]}" if parts else f"memory of {tensors[0]}"
        raise BadInput(
            f"{type(model).__name__} cannot be copied: the copy and the original share the {what}. Every "
            "__deepcopy__ of a module must return a new module with tensors of its own."
        )


def _memory(model: nn.Module) -> dict[str, int]:
    """Return where each tensor of the network lies: parameters, buffers, and tensors in plain attributes."""
    return {
        f"{name}.{key}".lstrip("."): tensor.untyped_storage().data_ptr()
        for name, module in model.named_modules()
        for key, held in {**module._parameters, **module._buffers, **_attributes(module)}.items()
        for tensor in tree_leaves(held)
        if isinstance(tensor, Tensor) and _has_memory(tensor)
    }


def _has_memory(tensor: Tensor) -> bool:
    """Tell whether the tensor has numbers in memory: one on "meta", empty or not yet initialized has none."""
    has_storage = tensor.layout == torch.strided and tensor.device.type != "meta" and not is_lazy(tensor)
    return has_storage and tensor.numel() > 0


def _computed(model: nn.Module) -> list[Tensor]:
    leaves = [leaf for module in model.modules() for leaf in tree_leaves(_attributes(module))]
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and not leaf.is_leaf]


def _attributes(module: nn.Module) -> dict[str, object]:
    return {name: value for name, value in vars(module).items() if name not in TORCH_ATTRIBUTES}

"""Find the blocks that have a fold method of their library, and make the inference form that the method gives.

Only the modules and keys of that form are used here. `library_fold` proves or replaces the numbers in it.
"""

import inspect
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn

from steps.errors import BadInput
from steps.reparam.norms import TAIL
from steps.tracing.copies import copied

METHODS = ("fuse", "reparameterize", "switch_to_deploy")


def library_blocks(model: nn.Module, among: Collection[str] | None = None) -> list[str]:
    """Return the paths of the outermost blocks with a fold method, in the network's order.

    With `among`, only blocks of these paths count.
    """
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{block}.") for block in found)
        if name and not inside and (among is None or name in among) and has_fold_method(module):
            found.append(name)
    return found


def judged_blocks(model: nn.Module, called: Collection[str]) -> list[str]:
    """Return the paths of the blocks to compare before and after folding; `called` has the modules of one pass.

    The network may reach a block by another method than its forward (timm's `forward_features`). Such a block has
    no call to compare: the outermost called blocks inside it are compared instead, and the whole network covers
    the rest. A block that the pass does not reach at all is in the list, because its fold cannot be confirmed.
    """
    unreached = {block for block in library_blocks(model) if not is_reached(block, called)}
    return library_blocks(model, {*called, *unreached})


def is_reached(block: str, called: Collection[str]) -> bool:
    """Return whether a pass called the block or any module inside the block."""
    return block in called or any(path.startswith(f"{block}.") for path in called)


def library_form(model: nn.Module) -> nn.Module:
    """Return a copy in the library's inference form: modules and keys are right, the numbers are not yet proven.

    A network without library blocks is returned itself, not as a copy.
    """
    if not library_blocks(model):
        return model
    form = copied(model).eval()
    call_fold_methods(form)
    known = dict(model.named_modules(remove_duplicate=False))
    for name, layer in form.named_modules():
        nearest = next(name[:end] for end in [*ends(name), 0] if name[:end] in known)
        like = next(known[nearest].parameters(), None)
        if like is not None and not list(layer.children()):
            layer.to(like.device, like.dtype)
    return form.train(model.training)


def has_fold_method(module: nn.Module) -> bool:
    """Return whether a module has a method that folds it."""
    return _method(module) is not None


@torch.no_grad()
def call_fold_methods(model: nn.Module) -> None:
    """Fold every library block, in place, as timm.models.reparameterize_model does: the keys must be the same."""
    for block in library_blocks(model):
        _desynchronise(model.get_submodule(block))
    _fold_children(model, "")


def ends(path: str) -> list[int]:
    """Return the lengths of the path and of all enclosing paths, the longest first."""
    return [len(path), *(end for end in reversed(range(len(path))) if path[end] == ".")]


def _method(module: nn.Module) -> Callable[[], Any] | None:
    """Return the fold method of this block, or None. A method with required arguments does something else."""
    for name in METHODS:
        method = getattr(module, name, None)
        if inspect.ismethod(method) and not any(
            parameter.default is parameter.empty for parameter in inspect.signature(method).parameters.values()
        ):
            return method
    return None


def _fold_children(model: nn.Module, path: str) -> None:
    """Call the fold method of every block; raise BadInput where a method fails."""
    for name, child in list(model.named_children()):
        method = _method(child)
        try:
            folded = method() if method is not None else None
        except Exception as fault:  # a custom class may raise anything
            raise BadInput(
                f"{path}{name} ({type(child).__name__}) has a fold method ({', '.join(METHODS)}), and this method "
                f"fails: {type(fault).__name__}: {fault}. Repair the method, or rename it if it folds nothing."
            ) from fault
        if isinstance(folded, nn.Module):
            setattr(model, name, folded)
        _fold_children(child, f"{path}{name}.")


def _desynchronise(block: nn.Module) -> None:
    """Replace SyncBatchNorm by BatchNorm2d, the same in eval mode: the fold methods take no SyncBatchNorm."""
    for name, norm in list(block.named_modules()):
        if isinstance(norm, nn.SyncBatchNorm) and not _has_active_tail(norm):
            batch_norm = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine)
            batch_norm.to(norm.running_mean).load_state_dict(norm.state_dict(), strict=True)
            block.set_submodule(name, batch_norm.train(norm.training))


def _has_active_tail(norm: nn.Module) -> bool:
    return any(type(getattr(norm, name, nn.Identity())) is not nn.Identity for name in TAIL)

"""Blocks that fold themselves by a method of their library: where they are, and the form that they take.

The form is modules and keys; what a library computes for them is proven, or replaced, in `library_fold`.
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
    """Return the paths of the outermost blocks that fold themselves, or of these alone, in the network's order."""
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{block}.") for block in found)
        if name and not inside and (among is None or name in among) and folds_itself(module):
            found.append(name)
    return found


def judged_blocks(model: nn.Module, called: Collection[str]) -> list[str]:
    """Return the paths of the blocks that show whether they fold rightly, where a pass called these modules.

    A block that is reached by another method than its forward (timm's `forward_features`) has no call to compare:
    the outermost ones inside it that are called stand for it, and the whole network for what is between them.
    One that is not reached at all is among them: nobody can say that it is right.
    """
    unreached = {block for block in library_blocks(model) if not is_reached(block, called)}
    return library_blocks(model, {*called, *unreached})


def is_reached(block: str, called: Collection[str]) -> bool:
    """Whether a block, or anything in it, is among the modules that a pass called."""
    return block in called or any(path.startswith(f"{block}.") for path in called)


def library_form(model: nn.Module) -> nn.Module:
    """Return the network in its library's inference form: modules and keys; the numbers are unproven.

    A network without such blocks is returned as it is, any other as a copy.
    """
    if not library_blocks(model):
        return model
    form = copied(model).eval()
    let_it_fold_itself(form)
    known = dict(model.named_modules(remove_duplicate=False))
    for name, layer in form.named_modules():
        nearest = next(name[:end] for end in [*ends(name), 0] if name[:end] in known)
        like = next(known[nearest].parameters(), None)
        if like is not None and not list(layer.children()):
            layer.to(like.device, like.dtype)
    return form.train(model.training)


def folds_itself(module: nn.Module) -> bool:
    """Tell whether a module has a method that folds it."""
    return _method(module) is not None


@torch.no_grad()
def let_it_fold_itself(model: nn.Module) -> None:
    """Do what timm.models.reparameterize_model does, in place, so that its forms are ours."""
    for block in library_blocks(model):
        _desynchronise(model.get_submodule(block))
    _fold_children(model, "")


def ends(path: str) -> list[int]:
    """Return where the path and those above it end, the longest first."""
    return [len(path), *(end for end in reversed(range(len(path))) if path[end] == ".")]


def _method(module: nn.Module) -> Callable[[], Any] | None:
    """Return what folds this block; a `fuse` of two feature maps is something else, and takes arguments."""
    for name in METHODS:
        method = getattr(module, name, None)
        if inspect.ismethod(method) and not any(
            parameter.default is parameter.empty for parameter in inspect.signature(method).parameters.values()
        ):
            return method
    return None


def _fold_children(model: nn.Module, path: str) -> None:
    """Call every block's own method; raises BadInput where one fails."""
    for name, child in list(model.named_children()):
        method = _method(child)
        try:
            folded = method() if method is not None else None
        except Exception as fault:  # whatever a class of somebody's own raises
            raise BadInput(
                f"{path}{name} ({type(child).__name__}) has a method of a block that folds itself "
                f"({', '.join(METHODS)}), and it fails: {type(fault).__name__}: {fault}. Mend it, or rename it."
            ) from fault
        if isinstance(folded, nn.Module):
            setattr(model, name, folded)
        _fold_children(child, f"{path}{name}.")


def _desynchronise(block: nn.Module) -> None:
    """Make the synchronised norms of a block usual ones, the same in eval mode: its own method takes no others."""
    for name, norm in list(block.named_modules()):
        if isinstance(norm, nn.SyncBatchNorm) and not _has_live_tail(norm):
            usual = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine)
            usual.to(norm.running_mean).load_state_dict(norm.state_dict(), strict=True)
            block.set_submodule(name, usual.train(norm.training))


def _has_live_tail(norm: nn.Module) -> bool:
    return any(type(getattr(norm, name, nn.Identity())) is not nn.Identity for name in TAIL)

"""Fold the multi-branch form to the plain network, and absorb the batch norms of a plain network."""

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from steps.errors import BadInput
from steps.reparam.expand import MultiBranchConv
from steps.reparam.kernels import follow_by_norm
from steps.reparam.library_fold import fold_library_blocks
from steps.reparam.norms import PLAIN_NORMS, NormTail, SiteId, scale_shift, set_to_shift
from steps.reparam.pairing import Pairing, pair_convs_with_norms
from steps.reparam.sites import blocks_and_tails
from steps.reparam.verify import find_unchangeable
from steps.tracing.copies import copied

PARTS_OF_BLOCKS = (nn.Conv2d, nn.ModuleDict, nn.Identity)  # beside our branches and their norms
FOLDABLE = "it could be absorbed by its convolution"


def fold(model: nn.Module, example_NCHW: Tensor | None = None) -> nn.Module:
    """Return the plain network of the same function, with the keys of the original architecture.

    Each site is folded in float64 and rounded once, to the site's dtype. The kernel goes into the convolution. The
    bias goes into the convolution's bias or, without one, into the batch norm, which then only adds this bias.
    Blocks of a library take the library's inference form. The network itself is not changed. A network in training
    mode is refused: batch statistics cannot be folded into a kernel.
    """
    _refuse_training(model, "fold")
    plain = copied(model)
    for name, block, norm_name, tail in list(blocks_and_tails(plain)):
        _refuse_computed_weights(name, block)
        _refuse_foreign_parts(name, block)
        try:
            conv, norm = folded_site(block, tail)
        except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError) as fault:
            raise BadInput(_changed(name, "a part of the block is not what expand made")) from fault
        plain.set_submodule(name, conv)
        plain.set_submodule(norm_name, norm)
    return fold_library_blocks(plain, example_NCHW)


@torch.no_grad()
def folded_site(block: MultiBranchConv, tail: NormTail) -> tuple[nn.Module, nn.Module]:
    """Return the plain convolution and the norm that replace a block and its tail."""
    weight_OIKK, bias_O = block.folded()
    main = block.last_norm
    like = next(block.parameters())
    conv = block.conv.rebuilt(like.device, like.dtype)
    assert main.running_mean is not None
    norm = tail.norm.rebuilt(like.device, main.running_mean.dtype)
    for name, module in tail.named_children():
        setattr(norm, name, module)
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
    conv.weight.copy_(weight_OIKK)
    shift_O = bias_O
    if conv.bias is not None:
        conv.bias.copy_(bias_O)
        shift_O = torch.zeros_like(bias_O)
    set_to_shift(norm, shift_O)
    if norm.num_batches_tracked is not None and main.num_batches_tracked is not None:
        norm.num_batches_tracked.copy_(main.num_batches_tracked)
    return conv.eval(), norm.eval()


def absorb_norms(model: nn.Module, example_NCHW: Tensor | None = None) -> nn.Module:
    """Return the network without the batch norms that follow a convolution, and without their keys.

    The selection of norms depends on the structure and on the example's shape only. So the same call on a fresh
    network of the same architecture gives the modules that load a saved, absorbed network. The exception is a
    network whose weights decide which layers run. One pass of a copy compares the outputs: a norm whose removal
    changes them stays, and `norms_left` gives the reason.
    """
    _refuse_training(model, "absorb_norms")
    if any(isinstance(module, MultiBranchConv) for module in model.modules()):
        raise BadInput("absorb_norms: the network is still multi-branch; fold it first.")
    absorbed = copied(model)
    pairing = pair_convs_with_norms(model, example_NCHW)
    must_keep = _must_keep_norm(pairing)
    for conv_name, norm_name in pairing.norm_of.items():
        if conv_name not in must_keep:
            _absorb(absorbed, conv_name, norm_name)
    return absorbed


def absorb_branch_norms(model: nn.Module, example_NCHW: Tensor | None = None) -> nn.Module:
    """Return the multi-branch network without the batch norms that a convolution can absorb; the branches stay.

    The norms of an identity branch, after a sum, and between a branch's two convolutions stay. A fresh network of
    the same architecture and the same expansion gives the modules that load a saved network of this form.
    """
    _refuse_training(model, "absorb_branch_norms")
    absorbed, pairing = copied(model), pair_convs_with_norms(model, example_NCHW)
    must_keep, between = _must_keep_norm(pairing), _between_convolutions(model)
    for conv_name, norm_name in pairing.norm_of.items():
        if norm_name not in between and conv_name not in must_keep:
            _absorb(absorbed, conv_name, norm_name)
    return absorbed


def _between_convolutions(model: nn.Module) -> dict[str, str]:
    """Return norm -> reason, for the norms inside a branch: the border of the next convolution is made of them."""
    blocks = [name for name, module in model.named_modules() if isinstance(module, MultiBranchConv)]
    return {
        f"{name}.{inner}": "it lies between two convolutions of a branch and sets the padding value of the second"
        for name in blocks
        for inner, module in model.get_submodule(name).named_modules()
        if inner.endswith(".between") and isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)
    }


def norms_left(model: nn.Module, example_NCHW: Tensor | None = None) -> dict[str, str]:
    """Return norm -> reason why it cannot be absorbed, for every batch norm; `FOLDABLE` where it can."""
    pairing = pair_convs_with_norms(model, example_NCHW)
    must_keep = _must_keep_norm(pairing)
    in_pairs = {norm: must_keep.get(conv, FOLDABLE) for conv, norm in pairing.norm_of.items()}
    return {**pairing.lone_norms, **in_pairs, **_between_convolutions(model)}


def _must_keep_norm(pairing: Pairing) -> dict[str, str]:
    """Return convolution -> reason, for the convolutions that are in a pair but must keep their norm."""
    return {} if pairing.watched is None else find_unchangeable([pairing.watched], pairing.norm_of, _absorb)


@torch.no_grad()
def _absorb(model: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
    dtype = conv.weight.dtype
    weight_OIKK = conv.weight.double()
    bias_O = weight_OIKK.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.double()
    weight_OIKK, bias_O = follow_by_norm(weight_OIKK, bias_O, *scale_shift(norm))
    conv.weight = nn.Parameter(weight_OIKK.to(dtype))
    conv.bias = nn.Parameter(bias_O.to(dtype))
    model.set_submodule(norm_name, NormTail(norm, SiteId(conv_name)).eval())


def _refuse_computed_weights(site: str, block: nn.Module) -> None:
    """Raise BadInput if a hook computes a branch's weight before each pass: the stored weight may be outdated."""
    for inner, module in block.named_modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm | SpectralNorm | BasePruningMethod):
                raise BadInput(
                    f"fold: the weight of {site}.{inner} is computed by {type(hook).__name__} before each pass; "
                    "remove it first (torch.nn.utils.remove_weight_norm, remove_spectral_norm, prune.remove)."
                )


def _refuse_foreign_parts(site: str, block: nn.Module) -> None:
    """Raise BadInput if a module of the block was replaced or added after expand, and name the module."""
    for inner, module in block.named_modules():
        ours = type(module).__module__.startswith("steps.reparam.")
        if not ours and not isinstance(module, (*PLAIN_NORMS, *PARTS_OF_BLOCKS)):
            raise BadInput(_changed(site, f"{inner} is a {type(module).__name__}"))


def _changed(site: str, what: str) -> str:
    return (
        f"fold: the block at {site} was changed after expand: {what}. Only Conv2d, BatchNorm2d and SyncBatchNorm "
        "fold: convert other norms back (FrozenBatchNorm2d to BatchNorm2d in eval mode), and fold before you fuse "
        "or add branches yourself."
    )


def _refuse_training(model: nn.Module, function: str) -> None:
    """Raise BadInput when any batch norm would use the statistics of its batch."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise BadInput(
                f"{function}: {name or 'the norm'} is in training mode; call .eval() on the network first."
            )

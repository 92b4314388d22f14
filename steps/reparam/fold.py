"""From the multi-branch form back to the plain network, and from there to one without batch norms."""

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from steps.errors import BadInput
from steps.reparam.expand import MultiBranchConv
from steps.reparam.kernels import follow_by_norm
from steps.reparam.library_fold import fold_library_blocks
from steps.reparam.norms import NormTail, SiteId, scale_shift, set_to_shift
from steps.reparam.pairing import Pairing, pair_convs_with_norms
from steps.reparam.sites import blocks_and_tails
from steps.reparam.verify import unfit
from steps.tracing.copies import copied

FOLDABLE = "it could be absorbed by its convolution"


def fold(model: nn.Module, example_NCHW: Tensor | None = None) -> nn.Module:
    """Return the plain network of the same function, with the keys of the architecture it was expanded from.

    Each site is folded in float64 and rounded once, to the dtype it had. The kernel goes into the convolution;
    the bias into its bias, or else into the batch norm, which then only adds it. Blocks that a library brought
    take its inference form. The given network is left as it is; one in training mode is refused, because a
    batch has no kernel.
    """
    _refuse_training(model, "fold")
    plain = copied(model)
    for name, block, norm_name, tail in list(blocks_and_tails(plain)):
        _refuse_computed_weights(name, block)
        conv, norm = folded_site(block, tail)
        plain.set_submodule(name, conv)
        plain.set_submodule(norm_name, norm)
    return fold_library_blocks(plain, example_NCHW)


@torch.no_grad()
def folded_site(block: MultiBranchConv, tail: NormTail) -> tuple[nn.Module, nn.Module]:
    """Return the plain convolution and norm that take the places of a block and its tail."""
    weight_OIKK, bias_O = block.folded()
    main = block.last_norm
    like = next(block.parameters())
    conv = block.conv.revived(like.device, like.dtype)
    assert main.running_mean is not None
    norm = tail.norm.revived(like.device, main.running_mean.dtype)
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
    """Return the network without the batch norms that follow a convolution; their keys are gone.

    Which norms go depends on the structure and the example's shape alone, so that the same call on a fresh network
    of the same architecture makes the modules that a saved, absorbed network loads into. Only where a network's
    numbers choose its way do they count. One pass of a copy shows that nothing is lost; a norm whose loss shows
    stays, and `norms_left` has the reason.
    """
    _refuse_training(model, "absorb_norms")
    if any(isinstance(module, MultiBranchConv) for module in model.modules()):
        raise BadInput("absorb_norms: the network is still multi-branch; fold it first.")
    absorbed = copied(model)
    pairing = pair_convs_with_norms(model, example_NCHW)
    bound = _bound(pairing)
    for conv_name, norm_name in pairing.norm_of.items():
        if conv_name not in bound:
            _absorb(absorbed, conv_name, norm_name)
    return absorbed


def absorb_branch_norms(model: nn.Module, example_NCHW: Tensor | None = None) -> nn.Module:
    """Return the multi-branch network without the batch norms that a convolution can absorb, its branches kept.

    Norms of an identity, after a sum and between a branch's two convolutions stay. A fresh network of the same
    architecture, expanded alike, gives the modules that a saved one loads into.
    """
    _refuse_training(model, "absorb_branch_norms")
    absorbed, pairing = copied(model), pair_convs_with_norms(model, example_NCHW)
    bound, stays = _bound(pairing), _between_convolutions(model)
    for conv_name, norm_name in pairing.norm_of.items():
        if norm_name not in stays and conv_name not in bound:
            _absorb(absorbed, conv_name, norm_name)
    return absorbed


def _between_convolutions(model: nn.Module) -> dict[str, str]:
    """Return the norms inside a branch, whose numbers say what borders the next convolution, with that reason."""
    blocks = [name for name, module in model.named_modules() if isinstance(module, MultiBranchConv)]
    return {
        f"{name}.{inner}": "it stands between two convolutions of a branch, and says how its border is padded"
        for name in blocks
        for inner, module in model.get_submodule(name).named_modules()
        if inner.endswith(".between") and isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)
    }


def norms_left(model: nn.Module, example_NCHW: Tensor | None = None) -> dict[str, str]:
    """Return every batch norm of a network with the reason why it is there; `FOLDABLE` where there is none."""
    pairing = pair_convs_with_norms(model, example_NCHW)
    bound = _bound(pairing)
    in_pairs = {norm: bound.get(conv, FOLDABLE) for conv, norm in pairing.norm_of.items()}
    return {**pairing.lone_norms, **in_pairs, **_between_convolutions(model)}


def _bound(pairing: Pairing) -> dict[str, str]:
    """Return the convolutions that have a norm of their own and must keep it, each with the reason."""
    return {} if pairing.watched is None else unfit([pairing.watched], pairing.norm_of, _absorb)


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
    """Raise BadInput where a branch's weight is made anew before each pass: what stands there may be old."""
    for inner, module in block.named_modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm | SpectralNorm | BasePruningMethod):
                raise BadInput(
                    f"fold: the weight of {site}.{inner} is computed by {type(hook).__name__} before each pass; "
                    "take that off first (torch.nn.utils.remove_weight_norm, remove_spectral_norm, prune.remove)."
                )


def _refuse_training(model: nn.Module, who: str) -> None:
    """Raise BadInput when any batch norm would use its batch's statistics."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise BadInput(f"{who}: {name or 'the norm'} is in training mode; call .eval() on the network first.")

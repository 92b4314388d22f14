"""From the multi-branch form back to the plain network, and from there to one without batch norms."""

import torch
from torch import Tensor, nn

from steps.errors import BadInput
from steps.reparam.copies import copied
from steps.reparam.expand import MultiBranchConv
from steps.reparam.kernels import follow_by_norm
from steps.reparam.library_fold import fold_library_blocks
from steps.reparam.norms import NormTail, scale_shift, set_to_shift
from steps.reparam.pairing import pair_convs_with_norms


def fold(model: nn.Module, example_NCHW: Tensor | None = None) -> nn.Module:
    """Return the plain network of the same function, with the keys of the architecture it was expanded from.

    Each site is folded in float64 and rounded once, to the dtype it had. The kernel goes into the convolution;
    the bias into its bias, or else into the batch norm, which then only adds it. Blocks that a library brought
    take its inference form. The given network is left as it is; one in training mode is refused, because a
    batch has no kernel.
    """
    _refuse_training(model, "fold")
    plain = copied(model)
    sites = {m.site: (name, m) for name, m in plain.named_modules() if isinstance(m, MultiBranchConv)}
    tails = {m.site: (name, m) for name, m in plain.named_modules() if isinstance(m, NormTail)}
    for key, (name, block) in sites.items():
        norm_name, tail = tails[key]
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
    norm = tail.norm.revived(like.device, like.dtype)
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

    Which norms go depends on the structure alone, so that the same call on a fresh network of the same
    architecture makes the modules that a saved, absorbed network loads into.
    """
    _refuse_training(model, "absorb_norms")
    if any(isinstance(module, MultiBranchConv) for module in model.modules()):
        raise BadInput("absorb_norms: the network is still multi-branch; fold it first.")
    absorbed = copied(model)
    for conv_name, norm_name in pair_convs_with_norms(model, example_NCHW).norm_of.items():
        _absorb(absorbed, conv_name, norm_name)
    return absorbed


def absorb_branch_norms(model: nn.Module, example_NCHW: Tensor | None = None) -> nn.Module:
    """Return the multi-branch network without the batch norms that a convolution can absorb, its branches kept.

    Norms of an identity, after a sum and between a branch's two convolutions stay. A fresh network of the same
    architecture, expanded alike, gives the modules that a saved one loads into.
    """
    _refuse_training(model, "absorb_branch_norms")
    absorbed, stays = copied(model), _between_convolutions(model)
    for conv_name, norm_name in pair_convs_with_norms(model, example_NCHW).norm_of.items():
        if norm_name not in stays:
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
    """Return the batch norms of a network that no convolution can absorb, each with the reason."""
    return pair_convs_with_norms(model, example_NCHW).lone_norms | _between_convolutions(model)


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
    model.set_submodule(norm_name, NormTail(norm, conv_name).eval())


def _refuse_training(model: nn.Module, who: str) -> None:
    """Raise BadInput when any batch norm would use its batch's statistics."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise BadInput(f"{who}: {name or 'the norm'} is in training mode; call .eval() on the network first.")

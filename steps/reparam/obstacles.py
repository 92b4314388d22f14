"""The reasons why a convolution and the norm after it cannot be treated as a pair, as messages for people."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from steps.reparam.custom_layers import is_norm_and_tail
from steps.reparam.norms import TAIL
from steps.tracing.watch import Seen

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
NO_NORM = "no batch norm takes its output"
# The tensors of torch's layers. A subclass with more tensors may compute with them; its replacement would not.
CONV_TENSORS = ("weight", "bias")
NORM_TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked", *TAIL)
Reasons = Mapping[str, str]  # path of a layer -> why the layer cannot be replaced


def shared_or_hooked_layers(model: nn.Module) -> Reasons:
    """Return layer -> reason, for layers with several parents, shared tensors, or hooks on their tensors."""
    uses: defaultdict[int, int] = defaultdict(int)
    for module in model.modules():  # yields each module once, even if it has several names
        for part in (*module._modules.values(), *module._parameters.values(), *module._buffers.values()):
            uses[id(part)] += 1
    overlapping = _overlapping(tensor for module in model.modules() for tensor in tensors_of_layer(module))
    reasons = {}
    for name, layer in model.named_modules():
        if uses[id(layer)] > 1:
            reasons[name] = f"shared: it is in {uses[id(layer)]} places of the network"
        elif any(uses[id(tensor)] > 1 or id(tensor) in overlapping for tensor in tensors_of_layer(layer)):
            reasons[name] = "shared: its tensors belong to another layer too"
        elif any(getattr(tensor, hooks, None) for tensor in tensors_of_layer(layer) for hooks in TENSOR_HOOKS):
            reasons[name] = "hooks are registered on its tensors"  # a copy would not have these hooks
    return reasons


def _overlapping(tensors: Iterable[Tensor]) -> set[int]:
    """Return the ids of the tensors that share the memory of at least one element with another tensor.

    Two tensor objects may share memory. Adjacent or interleaved tensors in one buffer share none.
    """
    found: set[int] = set()
    by_id = {id(tensor): tensor for tensor in tensors if tensor.numel()}
    by_start = sorted((_span(tensor), key) for key, tensor in by_id.items() if tensor.data_ptr())
    near: list[tuple[int, int]] = []  # (end, id) of the earlier tensors that end after the start of this tensor
    for (start, end), key in by_start:
        near = [(other_end, other) for other_end, other in near if other_end > start]
        met = {other for _, other in near if np.intersect1d(_addresses(by_id[other]), _addresses(by_id[key])).size}
        found |= {key, *met} if met else set()
        near.append((end, key))
    return found


def _addresses(tensor: Tensor) -> npt.NDArray[np.int64]:
    """Return the address of each element of a tensor."""
    start, end = _span(tensor)
    addresses = torch.arange(start, end, tensor.element_size())
    return addresses.as_strided(tensor.shape, tensor.stride()).flatten().numpy()


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return the address of the first byte of a tensor, and the address after its last byte."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((size - 1) * stride for size, stride in steps)
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


def tensors_of_layer(layer: nn.Module) -> tuple[Tensor, ...]:
    """Return the parameters and buffers of a layer, without those of its submodules."""
    return (*layer.parameters(recurse=False), *layer.buffers(recurse=False))


def norm_obstacle(model: nn.Module, name: str, seen: Seen, reasons: Reasons) -> str | None:
    """Return why this norm is in no pair, or None."""
    norm = model.get_submodule(name)
    if reason := _layer_obstacle(model, name, seen, reasons):
        return reason
    if getattr(norm, "running_mean", None) is None:
        return "it keeps no running statistics"
    if not isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
        return f"{type(norm).__name__} is no batch norm of images"
    if name not in seen.norm_of.values():
        return "its input is no convolution's output"
    if not is_norm_and_tail(norm, seen.shapes[name]):
        return f"{type(norm).__name__} computes something else than a batch norm followed by its {TAIL}"
    return None


def conv_obstacle(model: nn.Module, name: str, seen: Seen, reasons: Reasons) -> str | None:
    """Return why this convolution is in no pair, or None."""
    conv = model.get_submodule(name)
    if not isinstance(conv, nn.Conv2d):
        return f"unsupported kernel: {type(conv).__name__} is no convolution of images"
    if reason := _layer_obstacle(model, name, seen, reasons):
        return reason
    if name not in seen.norm_of:
        return NO_NORM
    if name in seen.other_uses:
        return f"its output is also used by {seen.other_uses[name]}"
    return None


def training_obstacle(eval_norm: str, model: nn.Module, name: str, seen: Seen) -> str | None:
    """Return why a pair of eval mode is no pair in training mode, from the training pass `seen`; or None."""
    norm = model.get_submodule(eval_norm)
    if not norm.training:
        return "in training its norm stays in eval mode"
    if reason := another_pass_obstacle(eval_norm, name, seen, "in training"):
        return reason
    assert isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
    if eval_norm in seen.calls and not is_norm_and_tail(norm, seen.shapes[eval_norm]):
        return f"in training its norm, a {type(norm).__name__}, computes something else than a batch norm"
    return None


def another_pass_obstacle(norm: str, name: str, seen: Seen, when: str) -> str | None:
    """Return why a pair of the first pass is no pair in the pass `seen`; or None.

    `when` names that pass in the reason, such as "in training".
    """
    if name not in seen.calls and norm not in seen.calls:
        return None  # the pass skipped the pair at random, as in stochastic depth
    if seen.calls.get(name) != 1 or seen.calls.get(norm) != 1:
        return f"{when} it is called {seen.calls.get(name, 0)} times, its norm {seen.calls.get(norm, 0)} times"
    if seen.norm_of.get(name) != norm:
        return f"{when} there is another operation between it and its norm"
    if name in seen.other_uses:
        return f"{when} its output is also used by {seen.other_uses[name]}"
    if reader := seen.tensors_read.get(name) or seen.tensors_read.get(norm):
        return f"{when} its tensors are also read by {reader}"
    return None


def _layer_obstacle(model: nn.Module, name: str, seen: Seen, reasons: Reasons) -> str | None:
    """Return why this layer, a convolution or a norm, cannot be replaced; or None."""
    layer = model.get_submodule(name)
    if is_parametrized(layer):
        return "its weight is computed by a parametrization"
    if name not in seen.calls:
        return "the forward pass does not reach it"
    if seen.calls[name] > 1:
        return f"shared: it is called {seen.calls[name]} times in one pass"
    if name in reasons:
        return reasons[name]
    if any(getattr(layer, hooks, None) for hooks in HOOKS):
        return "hooks are registered on it"
    if "forward" in vars(layer):
        return "its forward was replaced on this object"
    if name in seen.called_otherwise:
        return "it is called with something else than one input"
    if name in seen.tensors_read:
        return f"its tensors are also read by {seen.tensors_read[name]}"
    if additional := _additional_tensors(layer):
        return f"{type(layer).__name__} has additional tensors: {', '.join(additional)}"
    return None


def _additional_tensors(layer: nn.Module) -> list[str]:
    """Return the names of the tensors that a layer has and that torch's convolutions and norms do not have."""
    usual = NORM_TENSORS if isinstance(layer, _BatchNorm) else CONV_TENSORS
    unregistered = [name for name, value in vars(layer).items() if isinstance(value, Tensor)]
    parts = [name for name, part in layer.named_children() if any(map(tensors_of_layer, part.modules()))]
    return [name for name in (*layer._parameters, *layer._buffers, *parts, *unregistered) if name not in usual]

"""Why a convolution and the norm that follows it are no pair: one reason each, in words for a person."""

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
NUMBER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
NO_NORM = "no batch norm takes its output"
# What torch's own layers keep. A subclass that keeps more computes with it, and its place would not know it.
CONV_KEEPS = ("weight", "bias")
NORM_KEEPS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked", *TAIL)
Held = Mapping[str, str]  # a layer -> why it cannot be taken away


def held_layers(model: nn.Module) -> Held:
    """Return which layers stand at several places of a network, share their numbers, or have hooks on them."""
    places: defaultdict[int, int] = defaultdict(int)
    for module in model.modules():  # each once, whatever its names
        for part in (*module._modules.values(), *module._parameters.values(), *module._buffers.values()):
            places[id(part)] += 1
    overlapping = _overlapping(number for module in model.modules() for number in numbers_of(module))
    held = {}
    for name, layer in model.named_modules():
        if places[id(layer)] > 1:
            held[name] = f"shared: it stands at {places[id(layer)]} places of the network"
        elif any(places[id(number)] > 1 or id(number) in overlapping for number in numbers_of(layer)):
            held[name] = "shared: its numbers belong to another layer too"
        elif any(getattr(number, hooks, None) for number in numbers_of(layer) for hooks in NUMBER_HOOKS):
            held[name] = "hooks are registered on its numbers"  # which no copy has
    return held


def _overlapping(numbers: Iterable[Tensor]) -> set[int]:
    """Return the ids of the tensors that have a number in another one's memory.

    Tensors of their own may be one set of numbers still; those side by side in one buffer, or row by row, are not.
    """
    found: set[int] = set()
    each = {id(number): number for number in numbers if number.numel()}
    by_start = sorted((_span(number), name) for name, number in each.items() if number.data_ptr())
    near: list[tuple[int, int]] = []  # where those end that reach farther than this one's start, and their ids
    for (start, end), name in by_start:
        near = [(other_end, other) for other_end, other in near if other_end > start]
        met = {other for _, other in near if np.intersect1d(_addresses(each[other]), _addresses(each[name])).size}
        found |= {name, *met} if met else set()
        near.append((end, name))
    return found


def _addresses(number: Tensor) -> npt.NDArray[np.int64]:
    """Return where each number of a tensor begins."""
    start, end = _span(number)
    places = torch.arange(start, end, number.element_size())
    return places.as_strided(number.shape, number.stride()).flatten().numpy()


def _span(number: Tensor) -> tuple[int, int]:
    """Return the addresses of the first number's first byte and of the byte after the last number."""
    steps = zip(number.shape, number.stride(), strict=True)
    last = sum((size - 1) * stride for size, stride in steps)
    return number.data_ptr(), number.data_ptr() + (last + 1) * number.element_size()


def numbers_of(layer: nn.Module) -> tuple[Tensor, ...]:
    """Return a layer's own parameters and buffers."""
    return (*layer.parameters(recurse=False), *layer.buffers(recurse=False))


def norm_obstacle(model: nn.Module, name: str, seen: Seen, held: Held) -> str | None:
    """Return why this norm is in no pair, or None."""
    norm = model.get_submodule(name)
    if reason := _layer_obstacle(model, name, seen, held):
        return reason
    if getattr(norm, "running_mean", None) is None:
        return "it keeps no running statistics"
    if not isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
        return f"{type(norm).__name__} is no batch norm of images"
    if name not in seen.norm_of.values():
        return "its input is no convolution's output"
    if not is_norm_and_tail(norm, seen.shapes[name]):
        return f"{type(norm).__name__} computes something else than a batch norm and its {TAIL}"
    return None


def conv_obstacle(model: nn.Module, name: str, seen: Seen, held: Held) -> str | None:
    """Return why this convolution is in no pair, or None."""
    conv = model.get_submodule(name)
    if not isinstance(conv, nn.Conv2d):
        return f"unsupported kernel: {type(conv).__name__} is no convolution of images"
    if reason := _layer_obstacle(model, name, seen, held):
        return reason
    if name not in seen.norm_of:
        return NO_NORM
    if name in seen.other_uses:
        return f"its output is also used by {seen.other_uses[name]}"
    return None


def training_obstacle(eval_norm: str, model: nn.Module, name: str, seen: Seen) -> str | None:
    """Return why a pair of eval mode is none in training, where the pass showed `seen`; or None."""
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
    """Return why a pair of the first pass is none in another one, which went as `seen` shows; or None."""
    if name not in seen.calls and norm not in seen.calls:
        return None  # left out by chance, as some networks train
    if seen.calls.get(name) != 1 or seen.calls.get(norm) != 1:
        return f"{when} it is applied {seen.calls.get(name, 0)} times, its norm {seen.calls.get(norm, 0)}"
    if seen.norm_of.get(name) != norm:
        return f"{when} something stands between it and its norm"
    if name in seen.other_uses:
        return f"{when} its output is also used by {seen.other_uses[name]}"
    if read := seen.numbers_read.get(name) or seen.numbers_read.get(norm):
        return f"{when} its numbers are also read by {read}"
    return None


def _layer_obstacle(model: nn.Module, name: str, seen: Seen, held: Held) -> str | None:
    """Return what stands against taking this layer, convolution or norm, away."""
    layer = model.get_submodule(name)
    if is_parametrized(layer):
        return "its weight is computed by a parametrization"
    if name not in seen.calls:
        return "the forward pass does not reach it"
    if seen.calls[name] > 1:
        return f"shared: it is applied {seen.calls[name]} times in one pass"
    if name in held:
        return held[name]
    if any(getattr(layer, hooks, None) for hooks in HOOKS):
        return "hooks are registered on it"
    if "forward" in vars(layer):
        return "its forward was replaced on this one object"
    if name in seen.called_otherwise:
        return "it is called with something else than one input"
    if name in seen.numbers_read:
        return f"its numbers are also read by {seen.numbers_read[name]}"
    if more := _kept_beyond(layer):
        return f"{type(layer).__name__} keeps numbers of its own: {', '.join(more)}"
    return None


def _kept_beyond(layer: nn.Module) -> list[str]:
    """Return the names of the numbers that a layer keeps and torch's convolutions and norms do not."""
    keeps = NORM_KEEPS if isinstance(layer, _BatchNorm) else CONV_KEEPS
    unregistered = [name for name, value in vars(layer).items() if isinstance(value, Tensor)]
    parts = [name for name, part in layer.named_children() if any(map(numbers_of, part.modules()))]
    return [name for name in (*layer._parameters, *layer._buffers, *parts, *unregistered) if name not in keeps]

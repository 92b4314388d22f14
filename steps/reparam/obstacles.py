"""Why a convolution and the norm that follows it are no pair: one reason each, in words for a person."""

from collections import defaultdict
from collections.abc import Mapping

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from steps.reparam.norms import TAIL
from steps.reparam.own_classes import is_norm_and_tail
from steps.reparam.watch import Seen

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
NO_NORM = "no batch norm takes its output"
Places = Mapping[int, int]  # a module or a weight, by its identity -> at how many places it stands


def places_of(model: nn.Module) -> Places:
    """Return at how many places each module and each parameter stands: more than one, and it is shared."""
    places: defaultdict[int, int] = defaultdict(int)
    for module in model.modules():  # each once, whatever its names
        for held in (*module._modules.values(), *module._parameters.values()):
            places[id(held)] += 1
    return places


def norm_obstacle(model: nn.Module, name: str, seen: Seen, places: Places) -> str | None:
    """Return why this norm is in no pair, or None."""
    norm = model.get_submodule(name)
    if reason := _layer_obstacle(model, name, seen, places):
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


def conv_obstacle(model: nn.Module, name: str, seen: Seen, places: Places) -> str | None:
    """Return why this convolution is in no pair, or None."""
    conv = model.get_submodule(name)
    if not isinstance(conv, nn.Conv2d):
        return f"unsupported kernel: {type(conv).__name__} is no convolution of images"
    if is_parametrized(conv):
        return "its weight is computed by a parametrization"
    if reason := _layer_obstacle(model, name, seen, places):
        return reason
    if name not in seen.norm_of:
        return NO_NORM
    if name in seen.other_uses:
        return f"its output is also used by {seen.other_uses[name]}"
    if any(places[id(number)] > 1 for number in conv.parameters(recurse=False)):
        return "shared: its weight belongs to another layer too"
    return None


def training_obstacle(eval_norm: str, model: nn.Module, name: str, seen: Seen) -> str | None:
    """Return why a pair of eval mode is none in training, where the pass showed `seen`; or None."""
    norm = model.get_submodule(eval_norm)
    if name not in seen.calls and eval_norm not in seen.calls:
        return None  # left out by chance, as some networks train
    if seen.calls.get(name) != 1 or seen.calls.get(eval_norm) != 1:
        return (
            f"in training it is applied {seen.calls.get(name, 0)} times, its norm {seen.calls.get(eval_norm, 0)}"
        )
    if seen.norm_of.get(name) != eval_norm:
        return "in training something stands between it and its norm"
    if name in seen.other_uses:
        return f"in training its output is also used by {seen.other_uses[name]}"
    if read := seen.numbers_read.get(name) or seen.numbers_read.get(eval_norm):
        return f"in training its numbers are also read by {read}"
    assert isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
    if not is_norm_and_tail(norm, seen.shapes[eval_norm]):
        return f"in training its norm, a {type(norm).__name__}, computes something else than a batch norm"
    return None


def _layer_obstacle(model: nn.Module, name: str, seen: Seen, places: Places) -> str | None:
    """Return what stands against taking this layer, convolution or norm, away."""
    layer = model.get_submodule(name)
    if name not in seen.calls:
        return "the forward pass does not reach it"
    if seen.calls[name] > 1:
        return f"shared: it is applied {seen.calls[name]} times in one pass"
    if places[id(layer)] > 1:
        return f"shared: it stands at {places[id(layer)]} places of the network"
    if any(getattr(layer, hooks, None) for hooks in HOOKS):
        return "hooks are registered on it"
    if name in seen.called_otherwise:
        return "it is called with something else than one input"
    if name in seen.numbers_read:
        return f"its numbers are also read by {seen.numbers_read[name]}"
    return None

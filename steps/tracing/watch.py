"""Observe convolutions and norms in one forward pass: which norm reads which output, and what else reads it."""

import gc
import weakref
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from steps.tracing.outputs import tensors_of

INPUT = "input"  # the name that torch's convolutions and norms give their input


@dataclass
class Seen:
    """The record of one pass; it keeps tensors alive, because Python may reuse the id of a freed tensor."""

    conv_of_tensor: dict[int, str] = field(default_factory=dict)  # id of an output -> the convolution that made it
    layer_of_tensor: dict[int, str] = field(
        default_factory=dict
    )  # id of a parameter or buffer -> its conv or norm
    alive: list[Tensor] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, torch.Size] = field(default_factory=dict)  # of a module's input
    norm_of: dict[str, str] = field(default_factory=dict)  # conv -> the norm that takes its output
    inside: list[str] = field(default_factory=list)  # the modules that are running now, the innermost last
    other_uses: dict[str, str] = field(default_factory=dict)  # conv -> what else reads its output
    tensors_read: dict[str, str] = field(default_factory=dict)  # conv or norm -> what else reads its tensors
    called_otherwise: set[str] = field(default_factory=set)  # modules not called with exactly one input
    outputs: list[Tensor] = field(default_factory=list)  # of the network


@dataclass(frozen=True)
class Watched:
    """A copy of a network in float32 with random parameters, the images of one pass, and its record."""

    network: nn.Module
    images_NCHW: Tensor
    seen: Seen
    gradients: bool = False  # whether autograd was enabled


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record the readers of a convolution's output, except its norm, and outside readers of a layer's tensors."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        seen = self.seen
        if torch._C._current_graph_task_id() != -1:  # a backward pass inside the network may read every tensor
            return func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs)):
            if not isinstance(leaf, Tensor):
                continue
            conv = seen.conv_of_tensor.get(id(leaf))
            if conv is not None and seen.norm_of.get(conv) not in seen.inside[-1:]:
                seen.other_uses.setdefault(conv, str(func))
            layer = seen.layer_of_tensor.get(id(leaf))
            if layer is not None and layer not in seen.inside:
                seen.tensors_read.setdefault(layer, str(func))
        return func(*args, **(kwargs or {}))


def watched_pass(model: nn.Module, images_NCHW: Tensor) -> Seen:
    """Return the record of the pass of one batch in the network's mode; raise any error of the network.

    The caller enables or disables autograd. The recorded outputs have no gradient graph.
    """
    seen = Seen()
    handles = []
    for name, module in model.named_modules():
        kind = next((kind for kind in (_ConvNd, _BatchNorm) if isinstance(module, kind)), None)
        if kind is not None:
            tensors = (*module.parameters(recurse=False), *module.buffers(recurse=False))
            seen.layer_of_tensor.update(dict.fromkeys(map(id, tensors), name))
            enter, leave = (_enter, _leave_conv) if kind is _ConvNd else (_enter_norm, _leave)
            handles.append(module.register_forward_pre_hook(enter(seen, name), with_kwargs=True))
            handles.append(module.register_forward_hook(leave(seen, name)))
    try:
        with _Watch(seen):
            _record_outputs(seen, tensors_of(model(images_NCHW)))
    finally:
        for handle in handles:
            handle.remove()
    _record_kept_outputs(seen)
    return seen


def _record_outputs(seen: Seen, outputs: list[Tensor]) -> None:
    """Keep the network's outputs without their gradient graph, which refers to every convolution's output."""
    for output in outputs:
        if id(output) in seen.conv_of_tensor:
            seen.other_uses.setdefault(seen.conv_of_tensor[id(output)], "the network's output")
    seen.outputs = [output.detach() for output in outputs]


def _record_kept_outputs(seen: Seen) -> None:
    """Release the tensors; if a convolution's output still exists afterwards, the network keeps that output."""
    outputs = [(seen.conv_of_tensor[id(tensor)], weakref.ref(tensor)) for tensor in seen.alive]
    seen.alive.clear()
    if any(output() is not None for _, output in outputs):
        gc.collect()  # frees outputs that only a reference cycle holds
    for conv, output in outputs:
        if output() is not None:
            seen.other_uses.setdefault(conv, "the network, which keeps it")


def the_input(inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor | None:
    """Return the tensor if a module was called with exactly one tensor, positional or as `input`; else None."""
    values = [*inputs, *([keywords[INPUT]] if INPUT in keywords else [])]
    is_single = len(inputs) + len(keywords) == 1 == len(values)
    return values[0] if is_single and isinstance(values[0], Tensor) else None


def _enter(seen: Seen, name: str) -> Any:
    def enter(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        seen.calls[name] = seen.calls.get(name, 0) + 1
        seen.inside.append(name)
        tensor = the_input(inputs, keywords)
        if tensor is None:
            seen.called_otherwise.add(name)
        else:
            seen.shapes[name] = tensor.shape

    return enter


def _enter_norm(seen: Seen, name: str) -> Any:
    entering = _enter(seen, name)

    def enter(norm: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        entering(norm, inputs, keywords)
        conv = seen.conv_of_tensor.get(id(the_input(inputs, keywords)))
        if conv is not None and seen.norm_of.setdefault(conv, name) != name:
            seen.other_uses.setdefault(conv, name)

    return enter


def _leave(seen: Seen, _: str) -> Any:
    def leave(*_: Any) -> None:
        seen.inside.pop()

    return leave


def _leave_conv(seen: Seen, name: str) -> Any:
    def leave(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        seen.inside.pop()
        if isinstance(output, Tensor):
            seen.conv_of_tensor[id(output)] = name
            seen.alive.append(output)

    return leave

"""What one forward pass shows of convolutions and norms: who takes whose output, and who else reads what."""

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
    """Tensors are known by identity, so all are kept alive: a freed one's id would be given to another."""

    conv_of_tensor: dict[int, str] = field(default_factory=dict)
    owner_of_number: dict[int, str] = field(default_factory=dict)  # weights, biases, statistics
    alive: list[Tensor] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, torch.Size] = field(default_factory=dict)  # of what a module read
    norm_of: dict[str, str] = field(default_factory=dict)  # conv -> the norm that takes its output
    inside: list[str] = field(default_factory=list)  # the modules being computed
    other_uses: dict[str, str] = field(default_factory=dict)  # conv -> what else reads its output
    numbers_read: dict[str, str] = field(default_factory=dict)  # conv or norm -> what else reads its numbers
    called_otherwise: set[str] = field(default_factory=set)
    outputs: list[Tensor] = field(default_factory=list)  # the network's


@dataclass(frozen=True)
class Watched:
    """A copy of a network in float32, its numbers drawn; what went through it, in its mode; and what was seen."""

    network: nn.Module
    images_NCHW: Tensor
    seen: Seen
    gradients: bool = False  # whether they ran


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each operation that reads a convolution's output, or a layer's numbers, where it should not."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        seen = self.seen
        if torch._C._current_graph_task_id() != -1:  # a gradient that the network takes: its backward reads all
            return func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs)):
            if not isinstance(leaf, Tensor):
                continue
            conv = seen.conv_of_tensor.get(id(leaf))
            if conv is not None and seen.norm_of.get(conv) not in seen.inside[-1:]:
                seen.other_uses.setdefault(conv, str(func))
            owner = seen.owner_of_number.get(id(leaf))
            if owner is not None and owner not in seen.inside:
                seen.numbers_read.setdefault(owner, str(func))
        return func(*args, **(kwargs or {}))


def watched_pass(model: nn.Module, images_NCHW: Tensor) -> Seen:
    """Return what the pass of one batch shows, in the network's mode; raises what the network raises.

    Its caller says whether gradients run; none do through the outputs that are returned.
    """
    seen = Seen()
    handles = []
    for name, module in model.named_modules():
        kind = next((kind for kind in (_ConvNd, _BatchNorm) if isinstance(module, kind)), None)
        if kind is not None:
            numbers = (*module.parameters(recurse=False), *module.buffers(recurse=False))
            seen.owner_of_number.update(dict.fromkeys(map(id, numbers), name))
            enter, leave = (_enter, _leave_conv) if kind is _ConvNd else (_enter_norm, _leave)
            handles.append(module.register_forward_pre_hook(enter(seen, name), with_kwargs=True))
            handles.append(module.register_forward_hook(leave(seen, name)))
    try:
        with _Watch(seen):
            _note_outputs(seen, tensors_of(model(images_NCHW)))
    finally:
        for handle in handles:
            handle.remove()
    _note_kept(seen)
    return seen


def _note_outputs(seen: Seen, outputs: list[Tensor]) -> None:
    """Keep the outputs without their graph, which holds every convolution's output."""
    for output in outputs:
        if id(output) in seen.conv_of_tensor:
            seen.other_uses.setdefault(seen.conv_of_tensor[id(output)], "the network's output")
    seen.outputs = [output.detach() for output in outputs]


def _note_kept(seen: Seen) -> None:
    """Let the tensors go; a convolution's output that is still there is kept by the network, wherever it is."""
    made = [(seen.conv_of_tensor[id(tensor)], weakref.ref(tensor)) for tensor in seen.alive]
    seen.alive.clear()
    if any(tensor() is not None for _, tensor in made):
        gc.collect()  # what only a ring of objects holds is kept by nobody
    for conv, tensor in made:
        if tensor() is not None:
            seen.other_uses.setdefault(conv, "the network, which keeps it")


def the_input(inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor | None:
    """Return the one tensor that a module was called with, by place or by name; None if called otherwise."""
    given = [*inputs, *([keywords[INPUT]] if INPUT in keywords else [])]
    alone = len(inputs) + len(keywords) == 1 == len(given)
    return given[0] if alone and isinstance(given[0], Tensor) else None


def _enter(seen: Seen, name: str) -> Any:
    def enter(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        seen.calls[name] = seen.calls.get(name, 0) + 1
        seen.inside.append(name)
        given = the_input(inputs, keywords)
        if given is None:
            seen.called_otherwise.add(name)
        else:
            seen.shapes[name] = given.shape

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

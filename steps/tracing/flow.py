"""Record the data flow of one forward pass: what each module read, which module made it, which module read it."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Call(NamedTuple):
    """The arguments of one call of a module."""

    inputs: tuple[Any, ...]
    keywords: dict[str, Any]

    @property
    def first(self) -> Any:
        """The first argument, positional or by keyword; None for a call without arguments."""
        return next(iter((*self.inputs, *self.keywords.values())), None)

    def beginning_with(self, value: Any) -> "Call":
        """Return the same call with another first argument."""
        if self.inputs:
            return Call((value, *self.inputs[1:]), self.keywords)
        return Call((), {**self.keywords, next(iter(self.keywords)): value})


@dataclass
class Trace:
    """The record of one pass; it keeps all tensors alive, because Python may reuse the id of a freed tensor."""

    calls: dict[str, Call] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    # module -> the named module whose output it read, or ""
    source_of: dict[str, str] = field(default_factory=dict)
    readers: dict[int, list[str]] = field(
        default_factory=dict
    )  # id of tensor -> named modules that read it, in order
    makers: dict[int, str] = field(default_factory=dict)  # id of tensor -> the last named module that returned it


@torch.no_grad()
def traced(model: nn.Module, names: dict[nn.Module, str], image_NCHW: Tensor) -> Trace:
    """Return the trace of one image; sources and readers are the modules of `names`, under these names."""
    trace = Trace()
    handles = []
    for path, module in model.named_modules():
        handles.append(
            module.register_forward_pre_hook(_reading(trace, path, names.get(module)), with_kwargs=True)
        )
        handles.append(module.register_forward_hook(_returning(trace, path, names.get(module))))
    try:
        model(image_NCHW)
    finally:
        for handle in handles:
            handle.remove()
    return trace


@torch.no_grad()
def called_modules(model: nn.Module, images_NCHW: Tensor) -> list[str]:
    """Return the paths of the modules that the pass of a batch calls, in order, one entry per call."""
    called: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda *_, path=path: called.append(path))
        for path, module in model.named_modules()
    ]
    try:
        model(images_NCHW)
    finally:
        for handle in handles:
            handle.remove()
    return called


def _reading(trace: Trace, path: str, name: str | None) -> Any:
    def read(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        call = Call(inputs, keywords)
        trace.calls[path] = call
        trace.source_of[path] = trace.makers.get(id(call.first), "")
        if name is not None:
            trace.readers.setdefault(id(call.first), []).append(name)

    return read


def _returning(trace: Trace, path: str, name: str | None) -> Any:
    def returned(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        trace.outputs[path] = output
        if name is not None:
            trace.makers[id(output)] = name

    return returned

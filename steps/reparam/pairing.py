"""Which batch norm belongs to which convolution: seen by watching one forward pass, never by order of names."""

import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from steps.errors import BadInput
from steps.reparam.copies import copied
from steps.reparam.geometry import Margins, same_margins
from steps.reparam.norms import PLAIN_NORMS, TAIL, apply_norm, apply_tail

SIZES = (32, 64, 128, 224, 299, 384, 512)


@dataclass(frozen=True)
class Pairing:
    """Every convolution and every batch norm is in a pair or has a reason why it is not.

    A convolution with rules of its own may be in a pair, so that its norm can go, and have a reason, so that it is
    not expanded. One whose only rule is to pad with zeros by its input's size (timm's Conv2dSame) stands in
    `zeros_of`, with what it added to the example: its branches add the same, so they want images of that size.
    """

    norm_of: dict[str, str]
    lone_convs: dict[str, str]
    lone_norms: dict[str, str]
    zeros_of: dict[str, Margins] = field(default_factory=dict)


@dataclass
class _Seen:
    """What one forward pass showed."""

    conv_of_tensor: dict[int, str] = field(default_factory=dict)
    alive: list[Tensor] = field(default_factory=list)  # a freed tensor's id would be given to another
    calls: dict[str, int] = field(default_factory=dict)
    norm_of: dict[str, str] = field(default_factory=dict)  # conv -> the norm that takes its output
    inside: list[str] = field(default_factory=list)  # the norms being computed
    other_uses: dict[str, str] = field(default_factory=dict)  # conv -> what else reads its output
    wrong_norms: dict[str, str] = field(default_factory=dict)
    wrong_convs: set[str] = field(default_factory=set)
    zeros_of: dict[str, Margins] = field(default_factory=dict)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each operation that reads a convolution's output outside the norm that takes it."""

    def __init__(self, seen: _Seen) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            conv = self.seen.conv_of_tensor.get(id(leaf)) if isinstance(leaf, Tensor) else None
            if conv is not None and self.seen.norm_of.get(conv) not in self.seen.inside[-1:]:
                self.seen.other_uses.setdefault(conv, str(func))
        return func(*args, **(kwargs or {}))


def pair_convs_with_norms(model: nn.Module, example_NCHW: Tensor | None = None) -> Pairing:
    """Return the pairs of convolution and batch norm, by data flow, and why the others are alone.

    One image, random if none is given, goes through a copy of the network in eval mode.
    """
    convs = _named(model, nn.Conv2d)
    norms = _named(model, _BatchNorm)
    if not convs:
        return Pairing({}, {}, dict.fromkeys(norms, "no convolution in the network"))
    watched = copied(model).float().cpu().eval()
    image_NCHW = example_image(model) if example_NCHW is None else example_NCHW[:1]
    seen = _forward(watched, image_NCHW.float().cpu())
    lone_norms = {name: reason for name in norms if (reason := _norm_obstacle(watched, name, seen))}
    taken, lone_convs = {}, {}
    for name in convs:
        norm = seen.norm_of.get(name)
        reason = _conv_obstacle(watched, name, seen) or lone_norms.get(norm or "")
        if norm is not None and reason is None:
            taken[name] = norm
            if type(conv := model.get_submodule(name)) is not nn.Conv2d and name not in seen.zeros_of:
                lone_convs[name] = (
                    f"unsupported kernel: {type(conv).__name__} is a convolution with rules of its own"
                )
        else:
            lone_convs[name] = reason or "no batch norm takes its output"
            if norm is not None:
                lone_norms.setdefault(norm, f"its convolution {name}: {reason}")
    return Pairing(taken, lone_convs, lone_norms, seen.zeros_of)


def _named(model: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, kind) and name]


def example_image(model: nn.Module) -> Tensor:
    """Return the smallest random image that the network takes, in eval mode and float32."""
    first = next(module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d))
    generator = torch.Generator().manual_seed(0)
    tried = copied(model).float().cpu().eval()
    faults = []
    for channels, size in itertools.product(dict.fromkeys((first, 3)), SIZES):  # the first need not be run first
        image_NCHW = torch.rand(1, channels, size, size, generator=generator)
        try:
            with torch.no_grad():
                tried(image_NCHW)
        except Exception as fault:  # whatever a network raises on a size it does not take
            faults.append(f"{channels} channels at {size}: {' '.join(str(fault).split())[:160]}")
        else:
            return image_NCHW
    raise BadInput(
        f"{type(model).__name__}: no forward pass on one image of {first} or 3 channels at "
        f"{', '.join(map(str, SIZES))} pixels; give an example input. Last fault with {faults[-1]}"
    )


@torch.no_grad()
def _forward(model: nn.Module, example_NCHW: Tensor) -> _Seen:
    seen = _Seen()
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(_note_conv(seen, name)))
        elif isinstance(module, _BatchNorm):
            handles.append(module.register_forward_pre_hook(_enter_norm(seen, name)))
            handles.append(module.register_forward_hook(_leave_norm(seen, name)))
    try:
        with _Watch(seen):
            outputs = model(example_NCHW)
    finally:
        for handle in handles:
            handle.remove()
    for leaf in tree_leaves(outputs):
        if id(leaf) in seen.conv_of_tensor:
            seen.other_uses.setdefault(seen.conv_of_tensor[id(leaf)], "the network's output")
    return seen


def _note_conv(seen: _Seen, name: str) -> Any:
    def note(conv: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if type(conv) is not nn.Conv2d:  # before the output is watched: these look at it too
            _note_rules(seen, name, conv, inputs[0], output)
        seen.calls[name] = seen.calls.get(name, 0) + 1
        seen.conv_of_tensor[id(output)] = name
        seen.alive.append(output)

    return note


def _note_rules(seen: _Seen, name: str, conv: nn.Conv2d, input_NCHW: Tensor, output_NCHW: Tensor) -> None:
    """Note what a convolution of another class does that a plain one does not."""
    if not _takes_a_norm(conv, input_NCHW):
        seen.wrong_convs.add(name)
    elif margins := same_margins(conv, input_NCHW, output_NCHW):
        seen.zeros_of[name] = margins


def _takes_a_norm(conv: nn.Conv2d, input_NCHW: Tensor) -> bool:
    """Whether scaling its weight and setting its bias do to the output what they do to a plain convolution's.

    A weight-standardised convolution undoes the scale; one that only pads in its own way does not.
    """
    generator = torch.Generator().manual_seed(0)
    probe_NCHW = torch.randn(input_NCHW.shape, generator=generator)
    scale_O11, shift_O11 = torch.randn(2, conv.out_channels, 1, 1, generator=generator)
    plain, normed = copied(conv), copied(conv)
    plain.bias = None
    normed.weight = nn.Parameter(conv.weight * scale_O11[..., None])
    normed.bias = nn.Parameter(shift_O11.flatten())
    expected = plain.forward(probe_NCHW) * scale_O11 + shift_O11
    return torch.allclose(normed.forward(probe_NCHW), expected, rtol=1e-4, atol=1e-4)


def _enter_norm(seen: _Seen, name: str) -> Any:
    def enter(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.calls[name] = seen.calls.get(name, 0) + 1
        conv = seen.conv_of_tensor.get(id(inputs[0]))
        if conv is not None and seen.norm_of.setdefault(conv, name) != name:
            seen.other_uses.setdefault(conv, name)
        seen.inside.append(name)

    return enter


def _leave_norm(seen: _Seen, name: str) -> Any:
    def leave(module: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        if module.running_mean is None:
            seen.wrong_norms[name] = "it keeps no running statistics"
        elif type(module) not in PLAIN_NORMS and not torch.equal(
            output, apply_tail(module, apply_norm(module, inputs[0]))
        ):
            kind = type(module).__name__
            seen.wrong_norms[name] = f"{kind} computes something else than a batch norm and its {TAIL}"
        seen.inside.pop()

    return leave


def _norm_obstacle(model: nn.Module, name: str, seen: _Seen) -> str | None:
    """Return why this norm is in no pair, or None."""
    module = model.get_submodule(name)
    if name not in seen.calls:
        return "the forward pass does not reach it"
    if seen.calls[name] > 1:
        return f"shared: it is applied {seen.calls[name]} times in one pass"
    if name in seen.wrong_norms:
        return seen.wrong_norms[name]
    if not isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
        return f"{type(module).__name__} is no batch norm of images"
    if name not in seen.norm_of.values():
        return "its input is no convolution's output"
    return None


def _conv_obstacle(model: nn.Module, name: str, seen: _Seen) -> str | None:
    """Return why this convolution is in no pair, or None."""
    conv = model.get_submodule(name)
    assert isinstance(conv, nn.Conv2d)
    if name not in seen.calls:
        return "the forward pass does not reach it"
    if seen.calls[name] > 1:
        return f"shared: it is applied {seen.calls[name]} times in one pass"
    if name in seen.wrong_convs:
        return f"unsupported kernel: {type(conv).__name__} makes more of its weight than a convolution"
    if name not in seen.norm_of:
        return "no batch norm takes its output"
    if name in seen.other_uses:
        return f"its output is also used by {seen.other_uses[name]}"
    if _is_shared(model, conv, name):
        return "shared: its weight belongs to another layer too"
    return None


def _is_shared(model: nn.Module, conv: nn.Conv2d, name: str) -> bool:
    """Whether the weight or the module itself stands in the network under a second name."""
    owners = [
        key
        for key, parameter in model.named_parameters(remove_duplicate=False)
        if parameter is conv.weight or (conv.bias is not None and parameter is conv.bias)
    ]
    return any(key.rpartition(".")[0] != name for key in owners)

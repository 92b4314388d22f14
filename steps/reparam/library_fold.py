"""Fold the blocks of a library: the library's method gives the modules, probing gives the weights.

timm's RepVGG, MobileOne, FastViT, RepViT, RepGhost, GhostNetV3 and others have their own fold methods, which
compute in the network's precision. This module uses only the module structure that these methods give. The weights
of each new convolution or linear layer come from probing the trained block in float64, from the layer's input to
the next module that exists in both forms. So activations and squeeze-and-excitation layers stay, and are not
probed.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from steps.errors import BadInput
from steps.reparam.geometry import geometry_of
from steps.reparam.library_blocks import (
    call_fold_methods,
    ends,
    has_fold_method,
    is_reached,
    judged_blocks,
    library_blocks,
    library_form,
)
from steps.reparam.probe import Block, largest_error, probe, probe_linear
from steps.tracing.copies import copied
from steps.tracing.example import example_image, refuse_a_precision_of_its_own
from steps.tracing.flow import Call, Trace, traced
from steps.tracing.outputs import tensors_of

SAME = 1e-9  # relative, for a whole block with attention in float64; a wrong block differs by 1e-3 and more


class Site(NamedTuple):
    """A new layer, its library block, and the modules before and after the layer (None: the block's own end)."""

    layer: str
    block: str
    start: str | None
    stop: str | None


class _Reached(Exception):
    """Not a fault: stops the forward pass of a block at the module that reads the probed tensor."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.tensor = tensor


@torch.no_grad()
def fold_library_blocks(model: nn.Module, example_NCHW: Tensor | None = None) -> nn.Module:
    """Return the network with every library block folded in float64 and rounded once, to the block's dtype.

    The network must be in eval mode. Raises BadInput if the library's form of a block computes another function.
    """
    blocks = library_blocks(model)
    if not blocks:
        return model
    image_NCHW = example_image(model) if example_NCHW is None else example_NCHW[:1]
    wide = copied(model).double().eval()
    plain = copied(wide)
    before = {module: name for name, module in plain.named_modules()}
    with _float64_by_default():
        call_fold_methods(plain)
    plain.eval()
    trace = _trace(wide, plain, before, image_NCHW.to(_device(model), torch.float64))
    _refuse_unreached(wide, blocks, trace, image_NCHW)
    owners = _owners(wide, plain, trace)
    for site in _sites(plain, before, owners, trace):
        _set_by_probing(wide, plain, site, trace)
    _refuse_another_function(wide, plain, blocks, trace)
    folded = library_form(model)
    folded.load_state_dict(plain.state_dict(), strict=True)
    return folded


def _trace(wide: nn.Module, plain: nn.Module, before: dict[nn.Module, str], image_NCHW: Tensor) -> Trace:
    """Return the trace of the folded form; raise BadInput if only the folded form fails."""
    try:
        return traced(plain, before, image_NCHW)
    except Exception as fault:  # a form with a missing layer may raise anything
        refuse_a_precision_of_its_own(wide, image_NCHW)  # raises if the image or float64 is the cause
        kinds = {type(wide.get_submodule(block)).__name__ for block in library_blocks(wide)}
        raise BadInput(
            f"fold: the network does not run in the form that the methods of {', '.join(sorted(kinds))} give it: "
            f"{type(fault).__name__}: {fault}. Repair these methods, or rename them if they do not fold."
        ) from fault


def _refuse_unreached(wide: nn.Module, blocks: list[str], trace: Trace, image_NCHW: Tensor) -> None:
    """Raise BadInput if the image did not pass through a block: nothing would prove the library's weights."""
    for block in blocks:
        if not is_reached(block, trace.calls):
            raise BadInput(
                f"fold: an image of {'x'.join(map(str, image_NCHW.shape[1:]))} does not reach {block} "
                f"({type(wide.get_submodule(block)).__name__}), so its folded form cannot be proven; give an "
                "example that reaches this block, or remove the block from the network."
            )


def _refuse_another_function(wide: nn.Module, plain: nn.Module, blocks: list[str], trace: Trace) -> None:
    """Raise BadInput if a folded block computes another function; compare the network if a block has no call."""
    for block in judged_blocks(wide, trace.calls):
        error = _difference(wide, plain, block, trace)
        if not error <= SAME:
            raise BadInput(
                f"fold: the form that the library gives {block} ({type(wide.get_submodule(block)).__name__}) "
                f"computes another function: the outputs differ by {error:.2g} of the largest output."
            )
    uncalled = [block for block in blocks if block not in trace.calls]
    if uncalled and not (error := _difference(wide, plain, "", trace)) <= SAME:
        raise BadInput(
            f"fold: the network calls another method of {uncalled[0]} "
            f"({type(wide.get_submodule(uncalled[0])).__name__}) than its forward, and the form that the library "
            f"gives this block changes the network's outputs by {error:.2g} of the largest. Call the block, "
            "or repair the block's fold method."
        )


@contextmanager
def _float64_by_default() -> Iterator[None]:
    """Let the library create new layers in float64: a layer that is not probed is then at least not rounded."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def _owners(wide: nn.Module, plain: nn.Module, trace: Trace) -> dict[str, str]:
    """Return path of the folded form -> the smallest enclosing block whose function the library's fold kept.

    A block may fold its parts and then add its own residual to the kernel of a part, so the part alone computes
    another function. If no enclosing block kept its function, the library's weights are wrong: the nearest block
    is probed.
    """
    folding = {name for name, module in wide.named_modules() if name in trace.calls and has_fold_method(module)}
    equal = {name for name in folding if _difference(wide, plain, name, trace) <= SAME}
    owners = {}
    for path in trace.calls:
        around = [path[:end] for end in ends(path) if path[:end] in folding]
        if around:
            owners[path] = next((name for name in around if name in equal), around[0])
    return owners


def _sites(plain: nn.Module, before: dict[nn.Module, str], owners: dict[str, str], trace: Trace) -> Iterator[Site]:
    """Yield the new layers whose start and end exist in the trained form too."""
    for layer, module in plain.named_modules():
        if module in before or type(module) not in (nn.Conv2d, nn.Linear) or layer not in owners:
            continue
        block = owners[layer]
        source, returned = trace.source_of[layer], trace.outputs[layer]
        reads_input = trace.calls[layer].first is trace.calls[block].first
        readers = [name for name in trace.readers.get(id(returned), []) if name.startswith(f"{block}.")]
        if (reads_input or source.startswith(f"{block}.")) and (readers or returned is trace.outputs[block]):
            start = None if reads_input else source.removeprefix(f"{block}.")
            yield Site(layer, block, start, readers[0].removeprefix(f"{block}.") if readers else None)


def _set_by_probing(wide: nn.Module, plain: nn.Module, site: Site, trace: Trace) -> None:
    """Set a new layer's weights by probing the trained block; keep the library's weights if probing fails."""
    layer, layer_input = plain.get_submodule(site.layer), trace.calls[site.layer].first
    part = _part(wide.get_submodule(site.block), site, trace.calls[site.block])
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    with suppress(BadInput, RuntimeError):  # a block may refuse the size of the probing image
        if isinstance(layer, nn.Conv2d):
            weight, bias = probe(part, geometry_of(layer), layer.weight)
        else:
            weight, bias = probe_linear(_of_vectors(part, layer_input.dim()), layer.in_features, layer.weight)
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.copy_(bias)


def _part(block: nn.Module, site: Site, block_call: Call) -> Block:
    """Return the function that the trained block computes between the start and the end of a site."""

    def give(probes: Tensor) -> Any:
        return lambda *_: probes.clone()  # the next module may work in place

    def stop(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        raise _Reached(Call(inputs, keywords).first.clone())

    def part(probes: Tensor) -> Tensor:
        handles = []
        if site.start is not None:
            handles.append(block.get_submodule(site.start).register_forward_hook(give(probes)))
        if site.stop is not None:
            handles.append(block.get_submodule(site.stop).register_forward_pre_hook(stop, with_kwargs=True))
        try:
            call = block_call if site.start is not None else block_call.beginning_with(probes.clone())
            output: Tensor = block(*call.inputs, **call.keywords)
        except _Reached as reached:
            output = reached.tensor
        finally:
            for handle in handles:
                handle.remove()
        return output

    return part


def _of_vectors(part: Block, dimensions: int) -> Block:
    """Return a function of vectors_NC from a function of tensors with more dimensions, channels last."""

    def of_vectors(vectors_NC: Tensor) -> Tensor:
        shape = (len(vectors_NC), *[1] * (dimensions - 2), vectors_NC.shape[1])
        return part(vectors_NC.reshape(shape)).reshape(len(vectors_NC), -1)

    return of_vectors


def _difference(wide: nn.Module, plain: nn.Module, block: str, trace: Trace) -> float:
    """Return the largest relative difference between the trained and the folded block, on random numbers."""
    generator = torch.Generator().manual_seed(0)
    call: Call = tree_map(lambda value: _random_like(value, generator), trace.calls[block])
    call_copy = copy.deepcopy(call)  # a block may work in place
    expected = tensors_of(wide.get_submodule(block)(*call.inputs, **call.keywords))
    actual = tensors_of(plain.get_submodule(block)(*call_copy.inputs, **call_copy.keywords))
    return max(map(largest_error, expected, actual), default=0.0) if len(expected) == len(actual) else math.inf


def _random_like(value: Any, generator: torch.Generator) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    return torch.randn(value.shape, generator=generator, dtype=value.dtype).to(value.device)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device

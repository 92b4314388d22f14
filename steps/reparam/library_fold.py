"""Networks that bring their own re-parameterizable blocks: the library says the form, probing says the numbers.

timm's RepVGG, MobileOne, FastViT, RepViT, RepGhost, GhostNetV3 ... each fold themselves by a method of their own,
in the precision at hand. Only the modules that these methods leave are taken over; what stands in the new
convolutions and linear layers is found by probing the trained block in float64, up to where the next module
that was there before reads it. So an activation or a squeeze-and-excitation layer is neither lost nor asked.
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
    ends,
    folds_itself,
    is_reached,
    judged_blocks,
    let_it_fold_itself,
    library_blocks,
    library_form,
)
from steps.reparam.probe import Block, largest_error, probe, probe_linear
from steps.tracing.copies import copied
from steps.tracing.example import example_image, refuse_a_precision_of_its_own
from steps.tracing.flow import Call, Trace, traced
from steps.tracing.outputs import tensors_of

SAME = 1e-9  # of a whole block in float64, attention and all; a wrong one is off by 1e-3 and more


class Site(NamedTuple):
    """A new layer: its library block, and the modules inside it (None: its own ends) between which it stands."""

    layer: str
    block: str
    start: str | None
    stop: str | None


class _Reached(Exception):
    """No fault: the tensor that was wanted is there, and the rest of the block need not run."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.tensor = tensor


@torch.no_grad()
def fold_library_blocks(model: nn.Module, example_NCHW: Tensor | None = None) -> nn.Module:
    """Return the network with every library block folded in float64 and rounded once, to the dtype it had.

    The network is in eval mode. Raises BadInput where the library's form of a block is another function.
    """
    blocks = library_blocks(model)
    if not blocks:
        return model
    image_NCHW = example_image(model) if example_NCHW is None else example_NCHW[:1]
    wide = copied(model).double().eval()
    plain = copied(wide)
    before = {module: name for name, module in plain.named_modules()}
    with _float64_by_default():
        let_it_fold_itself(plain)
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
    """Return what the folded form shows; raises BadInput where it does not run, though the trained one does."""
    try:
        return traced(plain, before, image_NCHW)
    except Exception as fault:  # whatever a form raises that misses something
        refuse_a_precision_of_its_own(wide, image_NCHW)  # as is raised here what the image itself is to blame for
        kinds = {type(wide.get_submodule(block)).__name__ for block in library_blocks(wide)}
        raise BadInput(
            f"fold: the network does not run in the form that the methods of {', '.join(sorted(kinds))} give it: "
            f"{type(fault).__name__}: {fault}. Mend them, or rename what is no method of folding."
        ) from fault


def _refuse_unreached(wide: nn.Module, blocks: list[str], trace: Trace, image_NCHW: Tensor) -> None:
    """Raise BadInput where the image did not pass through a block: its library's numbers would be unproven."""
    for block in blocks:
        if not is_reached(block, trace.calls):
            raise BadInput(
                f"fold: an image of {'x'.join(map(str, image_NCHW.shape[1:]))} does not reach {block} "
                f"({type(wide.get_submodule(block)).__name__}), so its folded form cannot be proven; give an "
                "example that reaches it, or take it out of the network."
            )


def _refuse_another_function(wide: nn.Module, plain: nn.Module, blocks: list[str], trace: Trace) -> None:
    """Raise BadInput where a block differs from what it was, or the network where no block itself can be asked."""
    for block in judged_blocks(wide, trace.calls):
        error = _difference(wide, plain, block, trace)
        if not error <= SAME:
            raise BadInput(
                f"fold: the form that its library gives {block} ({type(wide.get_submodule(block)).__name__}) "
                f"is another function: it differs by {error:.2g} of the largest output."
            )
    uncalled = [block for block in blocks if block not in trace.calls]
    if uncalled and not (error := _difference(wide, plain, "", trace)) <= SAME:
        raise BadInput(
            f"fold: {uncalled[0]} ({type(wide.get_submodule(uncalled[0])).__name__}) is reached by another method "
            "than its forward, and in the form that its library gives it the network's outputs are others: they "
            f"differ by {error:.2g} of the largest. Call the block itself, or mend its method."
        )


@contextmanager
def _float64_by_default() -> Iterator[None]:
    """Make the layers that a library creates float64, so that what is not probed is at least not rounded."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def _owners(wide: nn.Module, plain: nn.Module, trace: Trace) -> dict[str, str]:
    """Return, for each path of the folded form, the smallest block around it that the library left equal.

    A block may fold its parts and then add its own residual to a part's kernel: the part alone is another
    function. Where the library left none equal, its numbers are wrong, and the nearest block is asked.
    """
    folding = {name for name, module in wide.named_modules() if name in trace.calls and folds_itself(module)}
    equal = {name for name in folding if _difference(wide, plain, name, trace) <= SAME}
    owners = {}
    for path in trace.calls:
        around = [path[:end] for end in ends(path) if path[:end] in folding]
        if around:
            owners[path] = next((name for name in around if name in equal), around[0])
    return owners


def _sites(plain: nn.Module, before: dict[nn.Module, str], owners: dict[str, str], trace: Trace) -> Iterator[Site]:
    """Yield the new layers whose ends are found in the trained form too."""
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
    """Give a new layer the numbers of the trained block; where it is no such layer, the library's stay."""
    layer, given = plain.get_submodule(site.layer), trace.calls[site.layer].first
    part = _part(wide.get_submodule(site.block), site, trace.calls[site.block])
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    with suppress(BadInput, RuntimeError):  # what a block says of an image of another size
        if isinstance(layer, nn.Conv2d):
            weight, bias = probe(part, geometry_of(layer), layer.weight)
        else:
            weight, bias = probe_linear(_of_vectors(part, given.dim()), layer.in_features, layer.weight)
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.copy_(bias)


def _part(block: nn.Module, site: Site, given: Call) -> Block:
    """Return the function between the two ends of a site in the trained block."""

    def give(probes: Tensor) -> Any:
        return lambda *_: probes.clone()  # what follows may work in place

    def stop(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        raise _Reached(Call(inputs, keywords).first.clone())

    def part(probes: Tensor) -> Tensor:
        handles = []
        if site.start is not None:
            handles.append(block.get_submodule(site.start).register_forward_hook(give(probes)))
        if site.stop is not None:
            handles.append(block.get_submodule(site.stop).register_forward_pre_hook(stop, with_kwargs=True))
        try:
            call = given if site.start is not None else given.beginning_with(probes.clone())
            output: Tensor = block(*call.inputs, **call.keywords)
        except _Reached as reached:
            output = reached.tensor
        finally:
            for handle in handles:
                handle.remove()
        return output

    return part


def _of_vectors(part: Block, dimensions: int) -> Block:
    """Return the function of vectors_NC that a function of more dimensions, channels last, is."""

    def of_vectors(vectors_NC: Tensor) -> Tensor:
        shape = (len(vectors_NC), *[1] * (dimensions - 2), vectors_NC.shape[1])
        return part(vectors_NC.reshape(shape)).reshape(len(vectors_NC), -1)

    return of_vectors


def _difference(wide: nn.Module, plain: nn.Module, block: str, trace: Trace) -> float:
    """Return how far the block is from what it was, on random numbers."""
    generator = torch.Generator().manual_seed(0)
    call: Call = tree_map(lambda value: _random_like(value, generator), trace.calls[block])
    one, other = call, copy.deepcopy(call)  # a block may work in place
    expected = tensors_of(wide.get_submodule(block)(*one.inputs, **one.keywords))
    given = tensors_of(plain.get_submodule(block)(*other.inputs, **other.keywords))
    return max(map(largest_error, expected, given), default=0.0) if len(expected) == len(given) else math.inf


def _random_like(value: Any, generator: torch.Generator) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    return torch.randn(value.shape, generator=generator, dtype=value.dtype).to(value.device)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device

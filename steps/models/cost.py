"""The figures of the cost card: one image goes through a network in eval mode; every operator call is recorded.

Memory-access cost (Ma et al., "ShuffleNet V2", ECCV 2018, section 2) is the number of bytes that each operation
reads (inputs and weights) and writes; views move no bytes. Activations are identified by their storage. An
activation is *live* from the call that makes it to the last call that reads it: any executor must keep it that
long. An activation is *held* until eager PyTorch frees it; references from Python frames count. The input image is
an activation, weights are not. Temporary memory inside an operator is not observed.
"""

import contextlib
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from steps.errors import BadInput
from steps.models.architectures import create
from steps.models.flops import MOVED, flops_of
from steps.models.heads import head_name, head_parameters
from steps.reparam.expand import expand
from steps.reparam.fold import absorb_norms, fold
from steps.reports.cost import FormCost

ALLOCATES = ("empty", "new_empty", "empty_like", "empty_strided")  # these read and write no bytes


@dataclass
class _Activation:
    """A storage that the pass made: its size, the call that made it, and the last call that read it."""

    bytes: int
    made_at: int
    last_read: int


@dataclass
class _Seen:
    """The record of one forward pass."""

    flops: Counter[str] = field(default_factory=Counter)
    multiply_adds: int = 0
    uncounted: set[str] = field(default_factory=set)
    moved_bytes: int = 0
    calls: int = 0
    activations: list[_Activation] = field(default_factory=list)
    held: dict[int, _Activation] = field(default_factory=dict)  # by the address of the storage
    held_bytes: int = 0
    peak_held_bytes: int = 0

    def record(self, operator: Any, arguments: Any, keywords: Any, output: Any) -> None:
        """Record one operator call."""
        self.calls += 1
        inputs, outputs = _tensors((arguments, keywords)), _tensors(output)
        self._record_flops(operator, arguments, keywords, output)
        if not _moves_no_bytes(operator, inputs, outputs):
            unique = {id(tensor): tensor for tensor in inputs}.values()
            self.moved_bytes += sum(map(_bytes, unique)) + sum(map(_bytes, outputs))
        for tensor in inputs:
            self.read(tensor)
        for tensor in outputs:
            if self.read(tensor) is None and not _share_storage(inputs, tensor):
                self.make(tensor)

    def _record_flops(self, operator: Any, arguments: Any, keywords: Any, output: Any) -> None:
        cost = flops_of(operator, arguments, keywords, output)
        if cost is None:
            self.uncounted.add(str(operator))
        elif cost.kind != MOVED:
            self.flops[cost.kind] += cost.flops
            self.multiply_adds += cost.multiply_adds

    def make(self, tensor: Tensor) -> None:
        """Record the tensor's storage as a new activation, and follow when the storage is freed."""
        storage = tensor.untyped_storage()
        activation = _Activation(storage.nbytes(), self.calls, self.calls)
        self.activations.append(activation)
        self.held[_address(tensor)] = activation
        self.held_bytes += activation.bytes
        self.peak_held_bytes = max(self.peak_held_bytes, self.held_bytes)
        weakref.finalize(storage, self._free, _address(tensor), activation).atexit = False

    def read(self, tensor: Tensor) -> _Activation | None:
        """Record a read of the tensor's activation and return the activation; None for weights and constants."""
        activation = self.held.get(_address(tensor))
        if activation is not None:
            activation.last_read = self.calls
        return activation

    def _free(self, address: int, activation: _Activation) -> None:
        self.held_bytes -= activation.bytes
        if self.held.get(address) is activation:
            del self.held[address]

    @property
    def peak_live_bytes(self) -> int:
        """The largest number of live bytes during one call, including the call's inputs and outputs."""
        changes = [0] * (self.calls + 2)
        for activation in self.activations:
            changes[activation.made_at] += activation.bytes
            changes[activation.last_read + 1] -= activation.bytes
        return max(accumulate(changes))


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record each operator call in `seen`."""

    def __init__(self, seen: _Seen) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        self.seen.record(func, args, kwargs or {}, output)
        return output


def cost_of(network: nn.Module, example_NCHW: Tensor) -> FormCost:
    """Return the network's cost for one image like the example, in eval mode; the network keeps its mode.

    Raises BadInput if the network takes no such image.
    """
    seen = watch(network, example_NCHW[:1].clone())
    return FormCost(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        head=head_name(network),
        head_parameters=head_parameters(network),
        flops=seen.flops.total(),
        flops_by_kind=dict(sorted(seen.flops.items())),
        multiply_adds=seen.multiply_adds,
        uncounted=tuple(sorted(seen.uncounted)),
        memory_access_bytes=seen.moved_bytes,
        peak_live_bytes=seen.peak_live_bytes,
        peak_held_bytes=seen.peak_held_bytes,
        weight_file_bytes=weight_file_bytes(network),
    )


def both_forms(
    arch: str, class_num: int, size: int, block: str | None, where: str = "all"
) -> dict[Literal["trained", "plain"], nn.Module]:
    """Return the network in its training form, with branches if `block` is set, and in its plain form."""
    with torch.no_grad(), _as_bad_input(f"{arch} takes no image of {size} pixels"):
        trained = create(arch, class_num, size).eval()
        example_NCHW = torch.zeros(1, 3, size, size)
        trained(example_NCHW)
    if block is not None:
        expand(trained, block, where, "standard", "branch", example_NCHW)
    return {"trained": trained, "plain": absorb_norms(fold(trained, example_NCHW), example_NCHW)}


def weight_file_bytes(network: nn.Module) -> int:
    """Return the size of the network's model.safetensors."""
    state = network.state_dict()
    return len(save({name: state[name].detach().cpu().contiguous().clone() for name in sorted(state)}))


@torch.no_grad()  # not inference_mode: it would hide the operators inside linear layers and attention
def watch(network: nn.Module, image_NCHW: Tensor) -> _Seen:
    """Return the record of one forward pass; without the fast path of attention, which hides its operators."""
    seen = _Seen()
    seen.make(image_NCHW)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            _in_eval_mode(network),
            _Watch(seen),
            _as_bad_input(f"no forward pass of {_name_and_shape(network, image_NCHW)}"),
        ):
            output = network(image_NCHW)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    seen.calls += 1
    for tensor in _tensors(output):  # the network's outputs are live until the end
        seen.read(tensor)
    return seen


@contextlib.contextmanager
def _in_eval_mode(network: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextlib.contextmanager
def _as_bad_input(what: str) -> Iterator[None]:
    """Turn any error of a network on an input that it does not take into BadInput with one sentence."""
    try:
        yield
    except BadInput:
        raise
    except Exception as fault:
        raise BadInput(f"{what}: {' '.join(str(fault).split())[:200]}") from fault


def _name_and_shape(network: nn.Module, image_NCHW: Tensor) -> str:
    return f"{type(network).__name__} on an input of shape {tuple(image_NCHW.shape)}"


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _address(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address


def _share_storage(tensors: list[Tensor], tensor: Tensor) -> bool:
    return _address(tensor) in map(_address, tensors)


def _bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's elements; elements that an expanded tensor repeats count once."""
    elements = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        elements *= length if stride or not length else 1
    return elements * tensor.element_size()


def _moves_no_bytes(operator: Any, inputs: list[Tensor], outputs: list[Tensor]) -> bool:
    """Return whether the call reads and writes no element: a view, or an allocation without values."""
    if operator._schema.name.removeprefix("aten::") in ALLOCATES:
        return True
    return not operator._schema.is_mutable and all(_share_storage(inputs, tensor) for tensor in outputs)

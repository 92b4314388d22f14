"""The cost card's figures: one image goes through a network in eval mode, and every operator call is watched.

Memory-access cost (Ma et al., "ShuffleNet V2", ECCV 2018, section 2) is the bytes that each operation reads
(inputs and weights) and writes; views move nothing. Activations are followed by their storages: one is *live* from
the call that makes it to the last call that reads it, which is what any executor has to keep, and *held* for as
long as eager PyTorch does not free it, references from Python's own frames included. The input image is an
activation, weights are none, and scratch memory inside a kernel is not seen.
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

ALLOCATES = ("empty", "new_empty", "empty_like", "empty_strided")  # no byte is read or written yet


@dataclass
class _Activation:
    """A storage that the pass made: its size, and the first and last call that knew it."""

    bytes: int
    born: int
    last_read: int


@dataclass
class _Seen:
    """What one forward pass showed."""

    flops: Counter[str] = field(default_factory=Counter)
    multiply_adds: int = 0
    uncounted: set[str] = field(default_factory=set)
    moved_bytes: int = 0
    calls: int = 0
    activations: list[_Activation] = field(default_factory=list)
    living: dict[int, _Activation] = field(default_factory=dict)  # by the address of the storage
    held_bytes: int = 0
    peak_held_bytes: int = 0

    def note(self, operator: Any, arguments: Any, keywords: Any, output: Any) -> None:
        """Take down one call."""
        self.calls += 1
        inputs, outputs = _tensors((arguments, keywords)), _tensors(output)
        self._note_flops(operator, arguments, keywords, output)
        if not _only_looks(operator, inputs, outputs):
            once = {id(tensor): tensor for tensor in inputs}.values()
            self.moved_bytes += sum(map(_bytes, once)) + sum(map(_bytes, outputs))
        for tensor in inputs:
            self.read(tensor)
        for tensor in outputs:
            if self.read(tensor) is None and not _holds(inputs, tensor):
                self.make(tensor)

    def _note_flops(self, operator: Any, arguments: Any, keywords: Any, output: Any) -> None:
        cost = flops_of(operator, arguments, keywords, output)
        if cost is None:
            self.uncounted.add(str(operator))
        elif cost.kind != MOVED:
            self.flops[cost.kind] += cost.flops
            self.multiply_adds += cost.multiply_adds

    def make(self, tensor: Tensor) -> None:
        """Take a storage for an activation, from now until its last read, and until it is freed."""
        storage = tensor.untyped_storage()
        activation = _Activation(storage.nbytes(), self.calls, self.calls)
        self.activations.append(activation)
        self.living[_address(tensor)] = activation
        self.held_bytes += activation.bytes
        self.peak_held_bytes = max(self.peak_held_bytes, self.held_bytes)
        weakref.finalize(storage, self._free, _address(tensor), activation).atexit = False

    def read(self, tensor: Tensor) -> _Activation | None:
        """Note that the activation is still of use, and return it; weights and constants are none."""
        activation = self.living.get(_address(tensor))
        if activation is not None:
            activation.last_read = self.calls
        return activation

    def _free(self, address: int, activation: _Activation) -> None:
        self.held_bytes -= activation.bytes
        if self.living.get(address) is activation:
            del self.living[address]

    @property
    def peak_live_bytes(self) -> int:
        """The most bytes that were live during one call, its inputs and outputs included."""
        changes = [0] * (self.calls + 2)
        for activation in self.activations:
            changes[activation.born] += activation.bytes
            changes[activation.last_read + 1] -= activation.bytes
        return max(accumulate(changes))


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Shows each operator call to `seen`."""

    def __init__(self, seen: _Seen) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        self.seen.note(func, args, kwargs or {}, output)
        return output


def cost_of(network: nn.Module, example_NCHW: Tensor) -> FormCost:
    """Return what the network costs for one image like the example, in eval mode; its own mode is kept.

    Raises BadInput where the network takes no such image.
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
    """Return the network as it trains, with the block's branches if there is a block, and its plain form."""
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


@torch.no_grad()  # not inference_mode, which would hide the parts of linear layers and attention
def watch(network: nn.Module, image_NCHW: Tensor) -> _Seen:
    """Return what one forward pass showed; attention goes the way that names its parts."""
    seen = _Seen()
    seen.make(image_NCHW)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            _in_eval_mode(network),
            _Watch(seen),
            _as_bad_input(f"no forward pass of {_said(network, image_NCHW)}"),
        ):
            output = network(image_NCHW)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    seen.calls += 1
    for tensor in _tensors(output):  # what the network returns is live to the end
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
    """Turn whatever a network raises on an input it does not take into one sentence."""
    try:
        yield
    except BadInput:
        raise
    except Exception as fault:
        raise BadInput(f"{what}: {' '.join(str(fault).split())[:200]}") from fault


def _said(network: nn.Module, image_NCHW: Tensor) -> str:
    return f"{type(network).__name__} on an input of shape {tuple(image_NCHW.shape)}"


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _address(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address


def _holds(tensors: list[Tensor], tensor: Tensor) -> bool:
    return _address(tensor) in map(_address, tensors)


def _bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's own elements; those that an expanded one repeats count once."""
    numbers = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        numbers *= length if stride or not length else 1
    return numbers * tensor.element_size()


def _only_looks(operator: Any, inputs: list[Tensor], outputs: list[Tensor]) -> bool:
    """Whether the call touches no number: a view, or memory that is yet to be filled."""
    if operator._schema.name.removeprefix("aten::") in ALLOCATES:
        return True
    return not operator._schema.is_mutable and all(_holds(inputs, tensor) for tensor in outputs)

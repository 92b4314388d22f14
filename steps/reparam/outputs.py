"""The tensors that a network returns, whatever it wraps them in."""

from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


def tensors_of(output: Any) -> list[Tensor]:
    """Return the tensors in lists, dicts and named tuples, and in the fields of dataclasses and other objects."""
    return _found(output, set())


def _found(output: Any, known: set[int]) -> list[Tensor]:
    found: list[Tensor] = []
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif hasattr(leaf, "__dict__") and not isinstance(leaf, nn.Module | type) and id(leaf) not in known:
            known.add(id(leaf))  # an object may hold itself
            found += _found(list(vars(leaf).values()), known)
    return found

"""The tensors in a network's output, inside any containers and objects."""

from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves


def tensors_of(output: Any) -> list[Tensor]:
    """Return the tensors in lists, dicts and named tuples, and in the fields of dataclasses and other objects."""
    return _found(output, set())


def leaves_and_structure(output: Any) -> tuple[list[Any], list[Any]]:
    """Return the leaves of an output, in order, and its structure: containers, keys and the fields of objects."""
    return _leaves_and_structure(output, set())


def _leaves_and_structure(output: Any, known: set[int]) -> tuple[list[Any], list[Any]]:
    leaves, structure = tree_flatten(output)
    found: list[Any] = []
    inside: list[Any] = []
    for leaf in leaves:
        if not isinstance(leaf, Tensor) and _has_fields(leaf) and id(leaf) not in known:
            known.add(id(leaf))
            field_leaves, field_structure = _leaves_and_structure(vars(leaf), known)
            found += field_leaves
            inside.append(field_structure)
        else:
            found.append(leaf)
            inside.append(None)
    return found, [structure, inside]


def _has_fields(leaf: Any) -> bool:
    return hasattr(leaf, "__dict__") and not isinstance(leaf, nn.Module | type)


def _found(output: Any, known: set[int]) -> list[Tensor]:
    found: list[Tensor] = []
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif _has_fields(leaf) and id(leaf) not in known:
            known.add(id(leaf))  # an object may contain itself
            found += _found(list(vars(leaf).values()), known)
    return found

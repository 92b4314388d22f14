"""Units: sets of images that must go to the same split, because they share a group or the same bytes."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from steps.images.draws import words

Keys = npt.NDArray[np.uint64]
Ids = npt.NDArray[np.int64]
Value = TypeVar("Value", np.uint64, np.int64)


def units_of(contents: Keys, groups: Keys, grouped: npt.NDArray[np.bool_]) -> tuple[Ids, Keys]:
    """Return each image's unit (0, 1, ...) and each unit's key; the order of the images changes neither.

    The images of a group are one unit. Copies of the same image are also in one unit, so two groups that contain
    the same image are one unit. Every other image is a unit.
    """
    keys, unit = numbered(np.where(grouped, groups, contents))
    order = np.argsort(contents)
    copies = np.flatnonzero(contents[order][1:] == contents[order][:-1])
    if len(copies) == 0:
        return unit, keys
    root = least_connected(unit[order[copies]], unit[order[copies + 1]], len(keys))
    kept, unit = numbered(root[unit])
    return unit, keys[kept]


def least_connected(first: Ids, second: Ids, count: int) -> Ids:
    """Return for each of `count` nodes the smallest node of its connected component; edges are (first, second).

    The method is hooking and shortcutting (Shiloach and Vishkin 1982), which needs few rounds even for a chain.
    """
    root = np.arange(count)
    while True:
        lowest = np.minimum(root[first], root[second])
        hooked = root.copy()
        np.minimum.at(hooked, root[first], lowest)
        np.minimum.at(hooked, root[second], lowest)
        hooked = hooked[hooked]
        if (hooked == root).all():
            return root
        root = hooked


def shuffled(keys: Keys, seed: int) -> Keys:
    """Return a different number for each key; these numbers order the keys at random, depending on the seed."""
    return words(seed, 0, "order", keys.view(np.int64))


def numbered(values: npt.NDArray[Value]) -> tuple[npt.NDArray[Value], Ids]:
    """Return the sorted distinct values and each value's index among them; several times faster than np.unique."""
    order = np.argsort(values)
    ordered = values[order]
    first = np.concatenate(([True], ordered[1:] != ordered[:-1]))[: len(values)]
    place = np.empty(len(values), np.int64)
    place[order] = np.cumsum(first) - 1
    return ordered[first], place

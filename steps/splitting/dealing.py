"""Deal free units to the splits: groups first, the largest group first; then single images fill each quota.

Letters: F free images, U units, C classes, S splits in the order of manifest.SPLITS.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from steps.images.manifest import TEST, TRAIN, VAL
from steps.splitting.ledger import UNPLACED, Places
from steps.splitting.quota import Counts
from steps.splitting.units import Ids, Keys

Part = tuple[int, int]  # a class, and the group's number of images of that class


@dataclass(frozen=True)
class Table:
    """The quota of each class in each split, and the number of images already placed there."""

    due_CS: Counts
    placed_CS: Counts
    small_C: npt.NDArray[np.bool_]  # classes of which all free images go to train
    shares_S: tuple[float, ...]  # 0: no image may be dealt to this split
    least: int


def deal_units(class_F: Ids, unit_F: Ids, rank_U: Keys, table: Table) -> Places:
    """Return each image's split; all images of a unit get the same split. The rank decides between equal units."""
    size_U = np.bincount(unit_F, minlength=len(rank_U))
    place_U = np.full(len(rank_U), UNPLACED)
    in_group_F = size_U[unit_F] > 1
    has_CS = _deal_groups(class_F[in_group_F], unit_F[in_group_F], rank_U, table, place_U)
    place_F = place_U[unit_F]
    place_F[~in_group_F] = _deal_singles(class_F[~in_group_F], rank_U[unit_F[~in_group_F]], has_CS, table)
    return place_F


def _deal_groups(class_F: Ids, unit_F: Ids, rank_U: Keys, table: Table, place_U: Places) -> Counts:
    """Fill in `place_U` for these units, and return the new number of images of each class in each split."""
    has, due = table.placed_CS.tolist(), table.due_CS.tolist()
    small = table.small_C.tolist()
    used = [split for split, share in enumerate(table.shares_S) if share > 0]
    for unit, parts in _groups(class_F, unit_F, rank_U):
        if any(small[number] for number, _ in parts):
            split = TRAIN
        else:
            split = _best_split(parts, has, due, used, table.least)
        place_U[unit] = split
        for number, count in parts:
            has[number][split] += count
    return np.array(has, np.int64).reshape(-1, 3)


def _groups(class_F: Ids, unit_F: Ids, rank_U: Keys) -> Iterator[tuple[int, list[Part]]]:
    """Yield each unit with its parts, the largest unit first, so that small units can fill the gaps later."""
    size_U = np.bincount(unit_F, minlength=len(rank_U))
    order = np.lexsort((class_F, rank_U[unit_F], -size_U[unit_F]))
    class_F, unit_F = class_F[order], unit_F[order]
    changes = (unit_F[1:] != unit_F[:-1]) | (class_F[1:] != class_F[:-1])
    begins = np.flatnonzero(np.concatenate(([True], changes))[: len(unit_F)])
    counts = np.diff(begins, append=len(unit_F)).tolist()
    units, classes = unit_F[begins], class_F[begins].tolist()
    of_unit = [*np.flatnonzero(np.concatenate(([True], units[1:] != units[:-1]))[: len(units)]), len(units)]
    for begin, end in pairwise(of_unit):
        yield int(units[begin]), list(zip(classes[begin:end], counts[begin:end], strict=True))


def _best_split(parts: list[Part], has: list[list[int]], due: list[list[int]], used: list[int], least: int) -> int:
    """Return the split whose quotas fit best (chi-squared) after the group is added, of the splits with room.

    Where no split has room for the group, splits with fewer than `least` images of a class come first.
    """
    rest = {split: [due[number][split] - has[number][split] for number, _ in parts] for split in used}
    with_room = [s for s in used if all(n <= room for (_, n), room in zip(parts, rest[s], strict=True))]
    below_least = [split for split in used if any(has[number][split] < least for number, _ in parts)]

    def distance(split: int) -> float:
        return sum(
            (count * count - 2 * count * room) / max(due[number][split], 1)
            for (number, count), room in zip(parts, rest[split], strict=True)
        )

    return min(with_room or below_least or used, key=distance)


def _deal_singles(class_F: Ids, rank_F: Keys, has_CS: Counts, table: Table) -> Places:
    """Return each image's split: in each class the first images by rank are test, the next val, the rest train."""
    single_C = np.bincount(class_F, minlength=len(has_CS))
    test_C, val_C = _test_and_val_counts(single_C, has_CS, table)
    order = np.lexsort((rank_F, class_F))
    begin_C = np.cumsum(single_C) - single_C
    class_F = class_F[order]
    position_F = np.arange(len(class_F)) - begin_C[class_F]
    place_F = np.empty(len(class_F), np.uint8)
    place_F[order] = np.select(
        [position_F < test_C[class_F], position_F < (test_C + val_C)[class_F]], [TEST, VAL], default=TRAIN
    )
    return place_F


def _test_and_val_counts(single_C: Counts, has_CS: Counts, table: Table) -> tuple[Counts, Counts]:
    """Return how many single images of each class go to test and to val.

    Each split gets its quota if there are enough images. There can be too few, because another split is over its
    quota and its images may not move. Then each split first gets `least` images, and the rest goes to test, then
    val, then train.
    """
    rest_CS = np.maximum(table.due_CS - has_CS, 0)
    first_CS = np.minimum(np.maximum(table.least - has_CS, 0), rest_CS)
    spare_C = np.maximum(single_C - first_CS.sum(axis=1), 0)
    test_C = np.minimum(first_CS[:, TEST] + np.minimum(rest_CS[:, TEST] - first_CS[:, TEST], spare_C), single_C)
    spare_C = np.maximum(spare_C - (test_C - first_CS[:, TEST]), 0)
    val_C = first_CS[:, VAL] + np.minimum(rest_CS[:, VAL] - first_CS[:, VAL], spare_C)
    return test_C, np.minimum(val_C, single_C - test_C)

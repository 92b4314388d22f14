"""How many images of each class belong in each split.

Letters: C classes, S splits (train, val, test).
"""

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


def quotas_CS(images_C: Counts, shares_S: tuple[float, ...], least: int) -> Counts:
    """Return how many of each class's images each split is due: whole numbers that add up to the class.

    Webster's (Sainte-Lague's) method: a class that grows takes from no split what it had, which largest
    remainders do (the Alabama paradox), so that images that must not move rarely stand in the way. For three
    splits it stays between the floor and the ceiling of each share (Balinski and Young 1982), so it is enough
    to give the floors and then each seat that is left to the split with the largest claim on it.
    A split with a share is then raised to `least` at the cost of the one with most to spare.
    """
    wanted = np.asarray(shares_S, np.float64)
    exact_CS = images_C[:, None] * wanted
    due_CS = np.floor(exact_CS + 1e-9).astype(np.int64)  # 0.15 * 20 must be 3
    rows = np.arange(len(images_C))
    for _ in wanted:
        left = due_CS.sum(axis=1) < images_C
        next_CS = (wanted / (2 * due_CS + 1)).argmax(axis=1)
        due_CS[rows[left], next_CS[left]] += 1
    return _raised(due_CS, wanted > 0, least)


def too_few(images_C: Counts, placed_CS: Counts, shares_S: tuple[float, ...], least: int) -> npt.NDArray[np.bool_]:
    """Return for each class whether `least` images in each split is out of reach; placed images stay."""
    used = np.asarray(shares_S) > 0
    missing_C = np.maximum(least - placed_CS, 0)[:, used].sum(axis=1)
    answer: npt.NDArray[np.bool_] = missing_C > images_C - placed_CS.sum(axis=1)
    return answer


def _raised(due_CS: Counts, used_S: npt.NDArray[np.bool_], least: int) -> Counts:
    raised_CS = np.where(used_S, np.maximum(due_CS, least), 0)
    rows = np.arange(len(due_CS))
    for _ in used_S:
        over_C = raised_CS.sum(axis=1) - due_CS.sum(axis=1)
        richest_C = raised_CS.argmax(axis=1)
        spare_C = np.maximum(raised_CS[rows, richest_C] - least, 0)
        raised_CS[rows, richest_C] -= np.minimum(over_C, spare_C)
    return raised_CS

"""Quotas: the number of images of each class in each split.

Letters: C classes, S splits (train, val, test).
"""

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


def quotas_CS(images_C: Counts, shares_S: tuple[float, ...], least: int) -> Counts:
    """Return the quota of each class in each split: whole numbers whose sum over the splits is the class's size.

    The method is Webster's (Sainte-Lague's). When a class grows, no quota shrinks, so images that must not move
    rarely exceed a quota. With largest remainders a quota can shrink (the Alabama paradox).
    For three splits, Webster's quotas lie between the floor and the ceiling of each exact share (Balinski and
    Young 1982). So each split first gets the floor, and each remaining image goes to the split with the largest
    claim. Afterwards each split with a share is raised to `least`, at the cost of the split with most images.
    """
    shares = np.asarray(shares_S, np.float64)
    exact_CS = images_C[:, None] * shares
    due_CS = np.floor(exact_CS + 1e-9).astype(np.int64)  # 0.15 * 20 must be 3
    rows = np.arange(len(images_C))
    for _ in shares:
        left = due_CS.sum(axis=1) < images_C
        next_CS = (shares / (2 * due_CS + 1)).argmax(axis=1)
        due_CS[rows[left], next_CS[left]] += 1
    return _raised(due_CS, shares > 0, least)


def too_few(images_C: Counts, placed_CS: Counts, shares_S: tuple[float, ...], least: int) -> npt.NDArray[np.bool_]:
    """Return which classes have too few images for `least` images in each split; placed images do not move."""
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

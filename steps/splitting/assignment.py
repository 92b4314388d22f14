"""Assign images to train, val and test: each class by its quotas, each unit to one split.

An image that the ledger has placed keeps its split.
Letters: I images, U units (see units.py), C classes, S splits in the order of manifest.SPLITS.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from steps.images.manifest import SPLITS, TEST, TRAIN, VAL
from steps.splitting.dealing import Table, deal_units
from steps.splitting.ledger import UNPLACED, Places, content_keys, extended, group_keys, look_up
from steps.splitting.quota import Counts, quotas_CS, too_few
from steps.splitting.units import Ids, Keys, numbered, shuffled, units_of

Mask = npt.NDArray[np.bool_]
Shares = tuple[float, ...]


@dataclass(frozen=True)
class Images:
    """Columns that decide the split of each image; UNPLACED means that no split is known."""

    content_I: Keys
    group_I: Keys
    grouped_I: Mask
    unit_I: Ids
    key_U: Keys
    class_I: Ids
    label_C: Ids
    ready_I: Places  # the user's ready-made split
    ledger_I: Places  # the ledger's split of the image's content
    ledger_group_I: Places  # the ledger's split of the image's group


@dataclass(frozen=True)
class Dealt:
    """The split of each image (UNPLACED: quarantined, in no split), and the figures behind it."""

    place_I: Places
    kept_in_place_I: Mask  # the ledger has the image's content, and the image keeps that split
    moved_I: Mask  # a ready-made split contradicts the ledger
    leaked_I: Mask  # the image is in val or test, and its group or content also is in another split
    shares_S: Shares  # 0 for ready-made splits
    label_C: Ids
    pool_CS: Counts  # counts of the images in the pool, which excludes ready-made val and test
    due_CS: Counts
    small_C: Mask  # the class has too few images for every split: all its free images go to train
    ledger: pl.DataFrame


def deal(images: pl.DataFrame, ledger: pl.DataFrame, val: float, test: float, least: int, seed: int) -> Dealt:
    """Return each image's split, which does not depend on the order of the rows.

    `images` has the columns label, checksum, group and split (ready-made, or null). A ready-made val or test is
    not changed. If train is ready-made and val (or test) is not, the images of val (or test) come from train.
    """
    known = _columns(images, ledger)
    shares_S = _shares(known.ready_I, val, test)
    place_I, moved_I = _fixed_places(known, shares_S)
    place_I, free_I = _placed_with_units(place_I, known, shares_S)
    pool_I = (known.ready_I != VAL) & (known.ready_I != TEST) & (free_I | _dealt_here(place_I, shares_S))

    pool_C = np.bincount(known.class_I[pool_I], minlength=len(known.label_C))
    placed_CS = _count_CS(known, place_I, pool_I)
    small_C = too_few(pool_C, placed_CS, shares_S, least)
    due_CS = np.where(small_C[:, None], np.outer(pool_C, (1, 0, 0)), quotas_CS(pool_C, shares_S, least))
    table = Table(due_CS, placed_CS, small_C, shares_S, least)
    rank_U = shuffled(known.key_U, seed)
    place_I[free_I] = deal_units(known.class_I[free_I], known.unit_I[free_I], rank_U, table)
    return Dealt(
        place_I=place_I,
        kept_in_place_I=(known.ledger_I != UNPLACED) & ~moved_I,
        moved_I=moved_I,
        leaked_I=_leaked(place_I, known),
        shares_S=shares_S,
        label_C=known.label_C,
        pool_CS=_count_CS(known, place_I, pool_I),
        due_CS=due_CS,
        small_C=small_C,
        ledger=_new_ledger(ledger, known, place_I),
    )


def _columns(images: pl.DataFrame, ledger: pl.DataFrame) -> Images:
    content_I = content_keys(images)
    group_I, grouped_I = group_keys(images)
    unit_I, key_U = units_of(content_I, group_I, grouped_I)
    label_C, class_I = numbered(images.get_column("label").to_numpy())
    ready = images.select(pl.col("split").replace_strict(SPLITS, range(3), return_dtype=pl.UInt8))
    return Images(
        content_I=content_I,
        group_I=group_I,
        grouped_I=grouped_I,
        unit_I=unit_I,
        key_U=key_U,
        class_I=class_I,
        label_C=label_C,
        ready_I=ready.to_series().fill_null(int(UNPLACED)).to_numpy(),
        ledger_I=look_up(ledger, content_I),
        ledger_group_I=np.where(grouped_I, look_up(ledger, group_I), UNPLACED),
    )


def _shares(ready_I: Places, val: float, test: float) -> Shares:
    """Return the share of each split in the images to be dealt; a ready-made val or test has the share 0."""
    val = 0.0 if (ready_I == VAL).any() else val
    test = 0.0 if (ready_I == TEST).any() else test
    return (1 - val - test, val, test)


def _dealt_here(place_I: Places, shares_S: Shares) -> Mask:
    """Return which images are in a split with a share, that is, a split that is not ready-made."""
    answer: Mask = np.array([*(share > 0 for share in shares_S), *[False] * 253])[place_I]
    return answer


def _fixed_places(known: Images, shares_S: Shares) -> tuple[Places, Mask]:
    """Return each image's ready-made split, or else the ledger's, and for which images the two contradict."""
    fixed_I = (known.ready_I == VAL) | (known.ready_I == TEST)
    elsewhere_I = np.where(fixed_I, known.ready_I != known.ledger_I, ~_dealt_here(known.ledger_I, shares_S))
    moved_I = (known.ready_I != UNPLACED) & (known.ledger_I != UNPLACED) & elsewhere_I
    place_I = np.where(fixed_I, known.ready_I, known.ledger_I)
    return np.where(moved_I & ~fixed_I, np.uint8(TRAIN), place_I), moved_I


def _placed_with_units(place_I: Places, known: Images, shares_S: Shares) -> tuple[Places, Mask]:
    """Place each new image in the split of its unit; also return which images are free to be dealt.

    If a unit has images in several splits, its new images are UNPLACED, because the images would connect these
    splits. The same holds for images of the ledger whose new group does not have the same split in the ledger.
    A ready-made train image stays in train when its unit is in a ready-made val or test; that is a leak.
    """
    placed_US = np.zeros((len(known.key_U), 3), np.bool_)
    for place in (place_I, known.ledger_group_I):
        is_placed_I = place != UNPLACED
        placed_US[known.unit_I[is_placed_I], place[is_placed_I]] = True
    number_U = placed_US.sum(axis=1)
    several_I, some_I = number_U[known.unit_I] > 1, number_U[known.unit_I] > 0
    of_unit_I = placed_US.argmax(axis=1).astype(np.uint8)[known.unit_I]
    of_unit_I = np.where((known.ready_I == TRAIN) & ~_dealt_here(of_unit_I, shares_S), np.uint8(TRAIN), of_unit_I)
    new_I = place_I == UNPLACED
    regrouped_I = known.grouped_I & (known.ledger_group_I != known.ledger_I) & (known.ready_I == UNPLACED)
    place_I = np.where(new_I & some_I, of_unit_I, place_I)
    return np.where((new_I | regrouped_I) & several_I, UNPLACED, place_I), new_I & ~some_I


def _count_CS(known: Images, place_I: Places, counted_I: Mask) -> Counts:
    counted_I = counted_I & (place_I != UNPLACED)
    cell_I = known.class_I[counted_I] * 3 + place_I[counted_I]
    return np.bincount(cell_I, minlength=3 * len(known.label_C)).reshape(-1, 3)


def _leaked(place_I: Places, known: Images) -> Mask:
    """Return which images of val and test share their group or content with an image of another split."""
    leaked_I = np.zeros(len(place_I), np.bool_)
    is_placed_I = place_I != UNPLACED
    for key_I, has_key_I in ((known.content_I, is_placed_I), (known.group_I, is_placed_I & known.grouped_I)):
        _, number_P = numbered(key_I[has_key_I])
        cell_P = number_P * 3 + place_I[has_key_I]
        placed_KS = np.bincount(cell_P, minlength=3 * (int(number_P.max(initial=-1)) + 1)).reshape(-1, 3) > 0
        leaked_I[has_key_I] |= (placed_KS.sum(axis=1) > 1)[number_P]
    leaked_I &= place_I != TRAIN
    return leaked_I


def _new_ledger(ledger: pl.DataFrame, known: Images, place_I: Places) -> pl.DataFrame:
    is_placed_I = place_I != UNPLACED
    in_group_I = is_placed_I & known.grouped_I
    keys = np.concatenate([known.content_I[is_placed_I], known.group_I[in_group_I]])
    return extended(ledger, keys, np.concatenate([place_I[is_placed_I], place_I[in_group_I]]))

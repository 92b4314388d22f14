"""The split: exact quotas, undivided units, the same for any order of rows, and placed images never move."""

from random import Random

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.images.manifest import SPLITS, TEST, TRAIN, VAL
from steps.splitting.assignment import Dealt, deal
from steps.splitting.ledger import UNPLACED, no_ledger
from tests.images.rows import manifest

LEAST = 2


def dealt(images: pl.DataFrame, ledger: pl.DataFrame | None = None, seed: int = 0, least: int = LEAST) -> Dealt:
    return deal(images, no_ledger() if ledger is None else ledger, val=0.15, test=0.2, least=least, seed=seed)


def places(images: pl.DataFrame, result: Dealt) -> dict[str, int]:
    return dict(zip(images.get_column("name"), result.place_I.tolist(), strict=True))


@st.composite
def some_images(draw: st.DrawFn, first: int = 0) -> pl.DataFrame:
    """Images of a few classes: most are single, some in groups (of one class or several), some are copies."""
    count = draw(st.integers(30, 150))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    classes, groups = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    grouped, copied = draw(st.sampled_from([0.0, 0.3, 1.0])), draw(st.sampled_from([0.0, 0.1]))
    return manifest(
        random.integers(0, classes, count).tolist(),
        [f"{random.integers(0, 20) if random.random() < copied else 100 + first + n}" for n in range(count)],
        [f"g{random.integers(0, groups)}" if random.random() < grouped else None for _ in range(count)],
        first=first,
    )


@given(st.lists(st.integers(20, 90), min_size=1, max_size=6), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_every_class_gets_its_exact_quota(sizes: list[int], seed: int) -> None:
    images = manifest([label for label, size in enumerate(sizes) for _ in range(size)])
    result = dealt(images, seed=seed)
    assert (result.pool_CS == result.due_CS).all()
    assert (np.abs(result.pool_CS - np.outer(sizes, (0.65, 0.15, 0.2))) < 1).all()
    assert (result.pool_CS >= LEAST).all()
    assert result.pool_CS.sum(axis=1).tolist() == sizes


def test_single_images_fill_up_what_groups_leave_to_the_exact_quota() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 20, 6000).tolist()
    groups = [f"{label}-{random.integers(0, 40)}" if number % 3 else None for number, label in enumerate(labels)]
    result = dealt(manifest(labels, groups=groups))
    assert (result.pool_CS == result.due_CS).all()


def test_groups_that_span_classes_are_spread_over_all_splits_of_each() -> None:
    random = np.random.default_rng(0)
    patients = random.integers(0, 60, 3000)
    result = dealt(manifest(random.integers(0, 4, 3000).tolist(), groups=[f"p{patient}" for patient in patients]))
    assert (np.abs(result.pool_CS - result.due_CS) <= 0.03 * result.pool_CS.sum(axis=1, keepdims=True)).all()


def test_a_class_of_three_groups_has_one_in_each_split() -> None:
    result = dealt(manifest([0] * 150, groups=[f"g{number // 50}" for number in range(150)]))
    assert result.pool_CS.tolist() == [[50, 50, 50]]


@given(some_images(), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_no_group_and_no_content_stands_in_two_splits(images: pl.DataFrame, seed: int) -> None:
    result = dealt(images, seed=seed)
    split = images.with_columns(pl.Series("place", result.place_I))
    assert (split.group_by("checksum").agg(pl.col("place").n_unique()).get_column("place") == 1).all()
    groups = split.drop_nulls("group").group_by("group").agg(pl.col("place").n_unique())
    assert (groups.get_column("place") == 1).all()
    assert not result.leaked_I.any()
    assert (result.place_I != UNPLACED).all()


@given(some_images(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_rows_changes_nothing(images: pl.DataFrame, random: Random) -> None:
    order = list(range(images.height))
    random.shuffle(order)
    shuffled = images[order]
    one, other = dealt(images), dealt(shuffled)
    assert places(images, one) == places(shuffled, other)
    assert one.ledger.equals(other.ledger)


@given(some_images(), some_images(first=1000), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_growing_data_set_moves_nothing(before: pl.DataFrame, more: pl.DataFrame, seed: int) -> None:
    first = dealt(before)
    grown = pl.concat([more, before])
    second = dealt(grown, first.ledger, seed)
    now = places(grown, second)
    assert all(now[name] == place for name, place in places(before, first).items())
    assert second.ledger.join(first.ledger, on=["key", "split"]).height == first.ledger.height
    new = grown.filter(pl.Series(second.place_I == UNPLACED)).get_column("name")
    assert set(new) <= set(more.get_column("name"))
    assert not second.leaked_I.any()


@given(st.lists(st.integers(3 * LEAST, 60), min_size=1, max_size=4), st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_a_class_that_only_grows_stays_on_its_exact_quota(sizes: list[int], more: int) -> None:
    before = manifest([label for label, size in enumerate(sizes) for _ in range(size)])
    after = pl.concat([before, manifest([0] * more, first=10_000)])
    result = dealt(after, dealt(before).ledger)
    assert (result.pool_CS == result.due_CS).all()


def test_a_corrected_label_moves_nothing() -> None:
    images = manifest([number % 4 for number in range(200)])
    first = dealt(images)
    corrected = images.with_columns((3 - pl.col("label")).alias("label"))
    assert places(images, first) == places(corrected, dealt(corrected, first.ledger))


def test_another_seed_is_another_split() -> None:
    images = manifest([0] * 200)
    assert places(images, dealt(images)) != places(images, dealt(images, seed=1))


def test_a_new_image_follows_its_group_or_its_copy() -> None:
    images = manifest([0] * 100, groups=["a"] * 5 + [None] * 95)
    first = dealt(images)
    of_group = manifest([0] * 3, groups=["a"] * 3, first=500)
    copy = manifest([0], contents=["000050.png"], first=600)
    grown = pl.concat([images, of_group, copy])
    now = places(grown, dealt(grown, first.ledger))
    assert {now[name] for name in of_group.get_column("name")} == {now["000000.png"]}
    assert now["000600.png"] == now["000050.png"]


def test_a_new_image_that_ties_two_splits_together_is_quarantined() -> None:
    images = manifest([0] * 100)
    first = dealt(images)
    of_split = {place: name for name, place in places(images, first).items()}
    # A new group holds a copy of a train image, a copy of a test image, and a new image.
    tie = manifest([0] * 3, contents=[of_split[TRAIN], of_split[TEST], "new"], groups=["tie"] * 3, first=500)
    grown = pl.concat([images, tie])
    result = dealt(grown, first.ledger)
    now = places(grown, result)
    assert {now[name] for name in tie.get_column("name")} == {UNPLACED}
    assert not result.leaked_I.any()


def test_a_class_grown_from_train_only_gets_the_least_in_val_and_test_before_anything_else() -> None:
    first = dealt(manifest([0] * 10), least=5)
    assert first.small_C.tolist() == [True]
    assert first.pool_CS.tolist() == [[10, 0, 0]]
    second = dealt(manifest([0] * 20), first.ledger, least=5)
    assert second.small_C.tolist() == [False]
    assert second.pool_CS.tolist() == [[10, 5, 5]]


def test_ready_made_splits_are_kept_and_only_what_is_missing_is_dealt() -> None:
    ready = ["train"] * 100 + ["test"] * 50
    images = manifest([0, 1] * 75, splits=ready)
    result = dealt(images)
    assert result.place_I[100:].tolist() == [TEST] * 50
    assert set(result.place_I[:100].tolist()) == {TRAIN, VAL}
    assert result.pool_CS[:, VAL].tolist() == [8, 8] or result.pool_CS[:, VAL].tolist() == [7, 7]
    assert (result.pool_CS == result.due_CS).all()


def test_all_three_ready_made_splits_are_kept_as_they_are() -> None:
    ready = [SPLITS[number % 3] for number in range(90)]
    result = dealt(manifest([0] * 90, splits=ready))
    assert [SPLITS[place] for place in result.place_I] == ready


def test_copies_across_ready_made_splits_are_counted_as_leaks() -> None:
    contents = [str(number) for number in range(60)]
    contents[50] = contents[0]
    images = manifest([0] * 60, contents, splits=["train"] * 50 + ["test"] * 10)
    result = dealt(images)
    assert np.flatnonzero(result.leaked_I).tolist() == [50]
    assert result.place_I[0] == TRAIN


def test_a_ready_made_split_that_moves_a_placed_image_is_seen() -> None:
    images = manifest([0] * 60)
    first = dealt(images)
    swapped = [SPLITS[(place + 1) % 3] for place in first.place_I]
    assert dealt(images.with_columns(pl.Series("split", swapped)), first.ledger).moved_I.all()
    as_placed = [SPLITS[place] for place in first.place_I]
    assert not dealt(images.with_columns(pl.Series("split", as_placed)), first.ledger).moved_I.any()

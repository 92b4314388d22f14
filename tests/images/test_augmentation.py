"""Augmentation: a pure function of (seed, epoch, position) that applies the documented shift and mirror."""

import numpy as np
import pytest

from steps.images.augmentation import AUGMENTATIONS, Draws, Flip, Shift, mirrored, shifted
from steps.images.dataset import Images
from steps.images.draws import Positions
from steps.params.learning import AugmentParams

IMAGES = np.random.default_rng(0).integers(1, 256, (50, 9, 7, 3), np.uint8)
POSITIONS = np.arange(50)


def augment(
    images_NHWC_u8: Images, seed: int, epoch: int, positions_N: Positions, pixels: int, probability: float
) -> Images:
    draws = Draws(seed, epoch, positions_N)
    return Flip(probability)(Shift(pixels)(images_NHWC_u8, draws), draws)


def test_each_augmentation_has_its_params_and_takes_them() -> None:
    params = AugmentParams().model_dump()
    assert list(params) == list(AUGMENTATIONS)
    for name, make in AUGMENTATIONS.items():
        make(**params[name])


def test_a_part_of_a_batch_gets_what_it_gets_in_the_whole() -> None:
    whole = augment(IMAGES, 1, 2, POSITIONS, 2, 0.5)
    assert (augment(IMAGES[20:30], 1, 2, POSITIONS[20:30], 2, 0.5) == whole[20:30]).all()


@pytest.mark.parametrize(("seed", "epoch"), [(2, 2), (1, 3)])
def test_seed_and_epoch_change_it(seed: int, epoch: int) -> None:
    assert (augment(IMAGES, seed, epoch, POSITIONS, 2, 0.5) != augment(IMAGES, 1, 2, POSITIONS, 2, 0.5)).any()


def test_nothing_asked_for_changes_nothing() -> None:
    assert (augment(IMAGES, 1, 2, POSITIONS, 0, 0.0) == IMAGES).all()


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, -1), (-3, 2), (20, 0), (-9, 7), (0, -30)])
def test_a_shift_moves_zeros_in_and_keeps_the_rest(down: int, right: int) -> None:
    padded = np.pad(IMAGES, ((0, 0), (40, 40), (40, 40), (0, 0)))
    expected = padded[:, 40 - down : 49 - down, 40 - right : 47 - right]
    assert (shifted(IMAGES, np.full(50, down), np.full(50, right)) == expected).all()


def test_shifts_reach_both_ends_alike() -> None:
    marked = np.zeros((2000, 5, 5, 1), np.uint8)
    marked[:, 2, 2] = 1
    places = np.argwhere(augment(marked, 0, 1, np.arange(2000), 2, 0.0))
    counts = np.bincount(places[:, 1] * 5 + places[:, 2], minlength=25)
    # The 1 - 1e-6 quantile of chi-square with 24 degrees of freedom.
    assert ((counts - 80) ** 2 / 80).sum() < 71.0


def test_mirroring_turns_the_chosen_images_only() -> None:
    chosen = np.arange(50) % 3 == 0
    turned = mirrored(IMAGES, chosen)
    assert (turned[chosen] == IMAGES[chosen][:, :, ::-1]).all()
    assert (turned[~chosen] == IMAGES[~chosen]).all()


def test_about_as_many_images_are_mirrored_as_asked_for() -> None:
    many = np.broadcast_to(np.array([[[[0], [1]]]], np.uint8), (4000, 1, 2, 1))
    share = augment(many, 0, 1, np.arange(4000), 0, 0.25)[:, 0, 0, 0].mean()
    assert share == pytest.approx(0.25, abs=0.04)  # six standard deviations


def test_the_images_that_were_given_stay_as_they_are() -> None:
    before = IMAGES.copy()
    augment(IMAGES, 1, 2, POSITIONS, 2, 1.0)
    assert (before == IMAGES).all()

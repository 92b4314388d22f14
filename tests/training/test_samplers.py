"""Samplers: the documented frequencies, and draws that depend only on (seed, epoch, position)."""

import numpy as np
import pytest

from steps.training.samplers import SAMPLERS, Labels

IMAGES_K = [400, 90, 0, 10, 1]
LABELS_N: Labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(IMAGES_K)), IMAGES_K))
# Quantiles of chi-square at 1 - 1e-6, by degrees of freedom: a right sampler fails for one seed in a million.
CHI_SQUARE = {3: 30.66, 500: 660.3}

WAYS = [("shuffle", {}), *(("balanced", {"power": power}) for power in (0.0, 0.5, 1.0))]
every_sampler = pytest.mark.parametrize(("name", "settings"), WAYS)


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    known = expected > 0
    assert not counts[~known].any()
    return float(((counts[known] - expected[known]) ** 2 / expected[known]).sum())


@every_sampler
def test_a_slice_of_a_draw_is_the_draw_of_the_slice(name: str, settings: dict[str, float]) -> None:
    draw = SAMPLERS[name](LABELS_N, 5, **settings).draw
    whole = draw(7, 3, np.arange(501))
    assert (draw(7, 3, np.arange(123, 321)) == whole[123:321]).all()


@every_sampler
def test_seed_and_epoch_each_change_the_draw(name: str, settings: dict[str, float]) -> None:
    draw = SAMPLERS[name](LABELS_N, 5, **settings).draw
    positions = np.arange(501)
    first, other_epoch, other_seed = draw(7, 3, positions), draw(7, 4, positions), draw(8, 3, positions)
    assert (first != other_epoch).mean() > 0.9
    assert (first != other_seed).mean() > 0.9


@every_sampler
def test_a_draw_is_an_image_of_the_set(name: str, settings: dict[str, float]) -> None:
    drawn = SAMPLERS[name](LABELS_N, 5, **settings).draw(1, 1, np.arange(501))
    assert drawn.min() >= 0
    assert drawn.max() < len(LABELS_N)


def test_every_sampler_is_tried() -> None:
    assert {name for name, _ in WAYS} == set(SAMPLERS)


@every_sampler
def test_classes_come_as_often_as_the_sampler_says(name: str, settings: dict[str, float]) -> None:
    sampler = SAMPLERS[name](LABELS_N, 5, **settings)
    positions = np.arange(501)
    drawn = np.concatenate([sampler.draw(5, epoch, positions) for epoch in range(40)])
    counts = np.bincount(LABELS_N[drawn], minlength=5)
    assert sampler.probability_K.sum() == pytest.approx(1)
    assert chi_square(counts, sampler.probability_K * len(drawn)) < CHI_SQUARE[3]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_balanced_draws_a_class_with_n_to_the_power(power: float) -> None:
    share = np.array([n**power if n else 0.0 for n in IMAGES_K])
    found = SAMPLERS["balanced"](LABELS_N, 5, power).probability_K
    assert found == pytest.approx(share / share.sum())


def test_balanced_draws_the_images_of_a_class_alike() -> None:
    sampler = SAMPLERS["balanced"](LABELS_N, 5, 1.0)
    counts = np.bincount(sampler.draw(3, 0, np.arange(200_000)), minlength=501)
    assert chi_square(counts, np.full(501, 200_000 / 501)) < CHI_SQUARE[500]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 65, 501, 4097])
def test_shuffle_shows_each_image_once_an_epoch(size: int) -> None:
    drawn = SAMPLERS["shuffle"](np.zeros(size, np.int64), 1).draw(0, 1, np.arange(size))
    assert (np.sort(drawn) == np.arange(size)).all()


def test_shuffle_puts_every_image_at_every_position_alike() -> None:
    draw = SAMPLERS["shuffle"](np.zeros(4, np.int64), 1).draw
    epochs = 4000
    orders = np.stack([draw(0, epoch, np.arange(4)) for epoch in range(epochs)])
    for position in range(4):
        counts = np.bincount(orders[:, position], minlength=4)
        assert chi_square(counts, np.full(4, epochs / 4)) < CHI_SQUARE[3]

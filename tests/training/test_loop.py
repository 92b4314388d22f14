"""The loop: bit-identical after a restart at any point, the best epoch is kept, an invalid loss is refused."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import steps.training.loop
from steps.errors import Refused
from steps.images.augmentation import Flip, Shift
from steps.images.cache import CachedImages
from steps.training.batch import Batch
from steps.training.checkpoint import LAST, load_best
from steps.training.feed import Feed
from steps.training.history import Progress
from steps.training.loop import Plan, Training, fit
from steps.training.losses import CrossEntropy, Focal
from steps.training.optimizers import sgd
from steps.training.samplers import SAMPLERS, shuffle
from steps.training.schedules import Cosine
from steps.training.validation import Figures, Validation

LABELS = np.arange(40) % 4
PLAN = Plan(epochs=3, lr=0.05, schedule=Cosine(warmup_epochs=1), best_by="top1")
SETTINGS: dict[str, dict[str, float]] = {"shuffle": {}, "balanced": {"power": 0.0}}


class CutOff(Exception):
    """Stands for a kill."""


class Tiny(nn.Module):
    """Normalisation, convolution, norm, dropout, head: every layer type with a state."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(8, 4)

    def forward(self, images_NHWC_u8: Tensor) -> Tensor:
        logits_NK: Tensor = self.head(self.body(images_NHWC_u8.permute(0, 3, 1, 2) / 255).mean((2, 3)))
        return logits_NK


def images() -> CachedImages:
    draw = np.random.default_rng(1)
    return CachedImages((draw.integers(0, 120, (40, 8, 8, 3)) + LABELS[:, None, None, None] * 40).astype(np.uint8))


def a_training(checkpoints: Path, plan: Plan = PLAN, sampler: str = "shuffle") -> Training:
    torch.manual_seed(0)
    network = Tiny().to(memory_format=torch.channels_last)
    loss = CrossEntropy()
    feed = Feed(
        images(),
        np.arange(32),
        LABELS[:32],
        SAMPLERS[sampler](LABELS[:32], 4, **SETTINGS[sampler]),
        5,
        0,
        [Shift(1), Flip(0.5)],
    )
    validate = Validation(images(), np.arange(32, 40), LABELS[32:], 4, loss)
    return Training(
        network, partial(sgd, momentum=0.9, weight_decay=1e-3), feed, loss, validate, plan, checkpoints
    )


def state_of(training: Training) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in training.network.state_dict().items()}


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class CutFeed(Feed):
    """A feed that ends the run before the given step of the given epoch."""

    cut: tuple[int, int] = (0, 0)

    def batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        for step, batch in enumerate(super().batches(epoch, first_step), start=first_step):
            if (epoch, step) == self.cut:
                raise CutOff
            yield batch


def cut_at(training: Training, epoch: int, step: int) -> Training:
    feed = CutFeed(**vars(training.feed))
    object.__setattr__(feed, "cut", (epoch, step))
    return replace(training, feed=feed)


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps.training.loop, "CHECKPOINT_EVERY_SECONDS", 0.0)


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_cut_off_anywhere_and_resumed_is_the_same_to_the_bit(tmp_path: Path, sampler: str) -> None:
    whole = a_training(tmp_path / "whole", sampler=sampler)
    place = fit(whole)
    for epoch, step in [(1, 0), (1, 1), (1, 5), (2, 0), (2, 3), (3, 5)]:
        with pytest.raises(CutOff):
            fit(cut_at(a_training(tmp_path / "cut", sampler=sampler), epoch, step))
        torch.manual_seed(99)  # the random state that the next process may start with
    resumed = a_training(tmp_path / "cut", sampler=sampler)
    torch.manual_seed(99)
    assert fit(resumed) == place
    assert same_bits(state_of(resumed), state_of(whole))
    assert load_file(tmp_path / "cut" / LAST).keys() == load_file(tmp_path / "whole" / LAST).keys()
    assert (tmp_path / "cut" / LAST).read_bytes() == (tmp_path / "whole" / LAST).read_bytes()


@pytest.mark.parametrize("cut", ["save_best", "save_last", "validate"])
def test_cut_off_at_the_end_of_an_epoch_loses_neither_best_nor_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    whole = a_training(tmp_path / "whole")
    place = fit(whole)
    training = a_training(tmp_path / "cut")
    with monkeypatch.context() as patched:
        calls = {"number": 0}
        real: Callable[..., Figures | None] = (
            training.validate if cut == "validate" else getattr(steps.training.loop, cut)
        )

        def killed_after_the_second(*arguments: object) -> Figures | None:
            result = real(*arguments)
            calls["number"] += 1
            if calls["number"] == 2:
                raise CutOff
            return result

        if cut == "validate":
            training = replace(training, validate=killed_after_the_second)  # type: ignore[arg-type]
        else:
            patched.setattr(steps.training.loop, cut, killed_after_the_second)
        with pytest.raises(CutOff):
            fit(training)
    resumed = a_training(tmp_path / "cut")
    assert fit(resumed) == place
    assert same_bits(state_of(resumed), state_of(whole))
    assert place.best_epoch is not None
    load_best(tmp_path / "cut", resumed.network, place.best_epoch)
    load_best(tmp_path / "whole", whole.network, place.best_epoch)
    assert same_bits(state_of(resumed), state_of(whole))


def scripted(scores: list[float], losses: list[float] | None = None) -> Callable[[nn.Module], Figures]:
    left = zip(scores, losses or [0.5] * len(scores), strict=True)

    def figures(_network: nn.Module) -> Figures:
        score, loss = next(left)
        return Figures(loss, score, 1 - score, 0.0, np.zeros(4))

    return figures


@pytest.mark.parametrize(("best_by", "best"), [("top1", 2), ("macro_recall", 1)])
def test_the_first_of_the_best_epochs_by_the_named_metric_is_kept(tmp_path: Path, best_by: str, best: int) -> None:
    plan = replace(PLAN, epochs=4, best_by=best_by)  # type: ignore[arg-type]
    training = replace(a_training(tmp_path, plan), validate=scripted([0.2, 0.9, 0.9, 0.3]))
    assert fit(training).best_epoch == best
    assert [path.name for path in tmp_path.glob("best-*")] == [f"best-{best:05d}.safetensors"]


def test_of_equal_scores_the_lower_val_loss_is_the_best(tmp_path: Path) -> None:
    training = replace(a_training(tmp_path), validate=scripted([0.9, 0.9, 0.9], [0.5, 0.3, 0.4]))
    assert fit(training).best_epoch == 2


def test_resuming_remembers_the_best_score(tmp_path: Path) -> None:
    with pytest.raises(StopIteration):
        fit(replace(a_training(tmp_path), validate=scripted([0.9])))
    place = fit(replace(a_training(tmp_path), validate=scripted([0.3, 0.4])))
    assert (place.best_epoch, place.best_score) == (1, 0.9)
    assert [row.val_top1 for row in place.history] == [0.9, 0.3, 0.4]


def test_a_loss_that_is_not_finite_is_refused_and_the_last_good_checkpoint_stays(tmp_path: Path) -> None:
    fit(a_training(tmp_path))
    before = (tmp_path / LAST).read_bytes()
    training = a_training(tmp_path, replace(PLAN, epochs=6))
    broken = replace(training, loss=lambda logits_NK, batch: Focal()(logits_NK, batch) * np.inf)
    with pytest.raises(
        Refused, match=r"not finite \(inf\) at epoch 4, step 1, lr .*lower train\.lr .* is kept in"
    ):
        fit(broken)
    assert (tmp_path / LAST).read_bytes() == before


@pytest.mark.usefixtures("every_step")
def test_a_learning_rate_far_too_high_ends_in_a_refusal_and_no_broken_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"lower train\.lr"):
        fit(a_training(tmp_path, replace(PLAN, lr=1e38, epochs=20)))
    for file in tmp_path.glob("*.safetensors"):
        assert all(bool(tensor.isfinite().all()) for tensor in load_file(file).values())


def test_without_epochs_val_is_measured_and_the_weights_stay(tmp_path: Path) -> None:
    training = a_training(tmp_path, replace(PLAN, epochs=0))
    before = state_of(training)
    place = fit(training)
    assert same_bits(state_of(training), before)
    assert [row.epoch for row in place.history] == [0]
    assert place.best_epoch == 0
    assert place.history[0].train_loss is None
    assert fit(a_training(tmp_path, replace(PLAN, epochs=0))) == place


def test_it_learns(tmp_path: Path) -> None:
    place = fit(a_training(tmp_path, replace(PLAN, epochs=12)))
    losses = [row.train_loss for row in place.history if row.train_loss is not None]
    assert losses[-1] < 0.7 * losses[0]
    assert isinstance(place, Progress)
    assert place.history[-1].val_top1 > 0.6


@pytest.mark.parametrize("images", [2, 3, 5, 31, 32, 33, 127, 128, 129])
@pytest.mark.parametrize("size", [2, 5, 64])
def test_an_epoch_shows_each_image_once_in_batches_of_nearly_one_size(images: int, size: int) -> None:
    pixels = CachedImages(np.arange(images, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=3))
    labels_N = np.arange(images)
    feed = Feed(pixels, labels_N, labels_N, shuffle(labels_N, images), size, seed=0)
    batches = list(feed.batches(1, 0))
    seen = torch.cat([batch.labels_N for batch in batches])
    assert sorted(seen.tolist()) == list(range(images))
    sizes = [len(batch.labels_N) for batch in batches]
    assert len(sizes) == feed.steps and max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2 and (max(sizes) <= size or images == 3 or size == 2)


def test_a_feed_begun_later_gives_what_the_whole_epoch_gives_from_there(tmp_path: Path) -> None:
    feed = a_training(tmp_path).feed
    for one, other in zip(list(feed.batches(2, 0))[4:], feed.batches(2, 4), strict=True):
        assert torch.equal(one.images_NHWC_u8, other.images_NHWC_u8)
        assert torch.equal(one.labels_N, other.labels_N)


def test_fewer_images_than_a_batch_are_one_batch(tmp_path: Path) -> None:
    feed = replace(a_training(tmp_path).feed, batch_size=100)
    assert [len(batch.labels_N) for batch in feed.batches(1, 0)] == [32]

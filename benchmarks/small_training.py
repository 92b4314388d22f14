"""A small network's training by the line's own loop, as reparam_gain and int8 do it; the last epoch counts."""

from functools import partial
from pathlib import Path

from steps.images.augmentation import Flip, Shift
from steps.images.cache import CachedImages
from steps.models.normalised import Normalised
from steps.training.feed import Feed
from steps.training.loop import Plan, Training
from steps.training.losses import CrossEntropy
from steps.training.optimizers import sgd
from steps.training.samplers import Labels, shuffle
from steps.training.schedules import Cosine
from steps.training.validation import Validation

LOOKED_AT = 64  # the loop looks at val after each epoch; here nobody asks, and these are train images


def small_training(
    network: Normalised,
    reader: CachedImages,
    labels_N: Labels,
    train_N: Labels,
    epochs: int,
    checkpoints: Path,
    *,
    seed: int = 0,
    label_smoothing: float = 0.0,
) -> Training:
    """Return the training of a network on the images whose indices are `train_N`, in batches of 64."""
    loss, classes = CrossEntropy(label_smoothing), int(labels_N.max()) + 1
    sampler = shuffle(labels_N[train_N], classes)
    few_N = train_N[:LOOKED_AT]
    return Training(
        network=network,
        make_optimizer=partial(sgd, momentum=0.9, weight_decay=5e-4),
        feed=Feed(reader, train_N, labels_N[train_N], sampler, 64, seed, [Shift(2), Flip(0.5)]),
        loss=loss,
        validate=Validation(reader, few_N, labels_N[few_N], classes, loss),
        plan=Plan(epochs, lr=0.1, schedule=Cosine(warmup_epochs=0.5), best_by="top1"),
        checkpoints=checkpoints,
    )

"""One training of reparam_gain: a form of a network, by the line's own loop, then folded and judged."""

import contextlib
import io
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks.small_training import small_training
from steps.images.cache import CachedImages
from steps.models.normalised import Normalised
from steps.models.repvgg_plain import RepVggPlain, Stage
from steps.reparam.certify import relative_error
from steps.reparam.fold import fold
from steps.reports.card import Expansion, Preprocessing
from steps.training.loop import fit, make_deterministic
from steps.training.losses import CrossEntropy
from steps.training.network import NetworkSpec, TrainableNetwork, make_network
from steps.training.samplers import Labels
from steps.training.validation import Validation

FORMS: dict[str, tuple[str, str] | None] = {  # block and mode; the plain network comes first
    "plain": None,
    "ACB": ("acb", "branch"),
    "DBB": ("dbb", "branch"),
    "RepVGG": ("repvgg", "branch"),
    "ACB online": ("acb", "online"),
    "DBB online": ("dbb", "online"),
    "RepVGG online": ("repvgg", "online"),
}
CHECKED = 64  # test images on which folding is checked


class Budget(NamedTuple):
    """How much is trained and judged; `arch` names the plain network."""

    arch: str
    train: int
    test: int
    epochs: int


class Outcome(NamedTuple):
    """One training's top-1 on test, and how far folding moved an output, relative to the largest."""

    form: str
    top1: float
    fold_error: float


def small_body(class_num: int) -> nn.Module:
    """Return the body of repvgg_nano at half its width."""
    return RepVggPlain(class_num, (Stage(16, 1), Stage(16, 2, stride=1), Stage(32, 2), Stage(64, 2)))


def train(images: Path, budget: Budget, form: str, seed: int, device: str = "cpu") -> Outcome:
    """Train one network with the line's own loop and judge it."""
    make_deterministic()
    torch.set_num_threads(1)
    reader = CachedImages(np.load(images / "images.npy", mmap_mode="r"))
    labels_N: Labels = np.load(images / "labels.npy")
    train, test = (int(number) for number in np.load(images / "sizes.npy"))
    draw = np.random.default_rng(seed)
    train_N = draw.permutation(train)[: budget.train]
    test_N = train + draw.permutation(test)[: budget.test]
    made = make(budget.arch, form, int(labels_N.max()) + 1, reader.images_NHWC_u8.shape[1], seed, device)
    with contextlib.redirect_stderr(io.StringIO()), tempfile.TemporaryDirectory() as checkpoints:
        fit(
            small_training(
                made.network,
                reader,
                labels_N,
                train_N,
                budget.epochs,
                Path(checkpoints),
                seed=seed,
                label_smoothing=0.1,
            )
        )
    return _judged(form, made.network.eval(), reader, labels_N, test_N)


def make(arch: str, form: str, class_num: int, size: int, seed: int, device: str) -> TrainableNetwork:
    wide = FORMS[form]
    half = (0.5, 0.5, 0.5)
    recipe = NetworkSpec(
        arch=arch,
        class_num=class_num,
        preprocessing=Preprocessing(size=size, resize=size, interpolation="bilinear", mean=half, std=half),
        weights=None,
        min_weights_coverage=0.0,
        bottleneck=None,
        expansion=None if wide is None else Expansion(block=wide[0], where="all", mode=wide[1]),
        init="standard",
    )
    with contextlib.redirect_stderr(io.StringIO()):
        return make_network(recipe, seed, torch.device(device))


@torch.no_grad()
def _judged(form: str, wide: Normalised, reader: CachedImages, labels_N: Labels, test_N: Labels) -> Outcome:
    """Return the folded network's figures on test, and the error of folding on a few of its images."""
    plain = fold(wide)
    assert isinstance(plain, Normalised)
    loss = CrossEntropy()
    figures = Validation(reader, test_N, labels_N[test_N], int(labels_N.max()) + 1, loss)(plain)
    few_NHWC_u8 = torch.from_numpy(reader.images_NHWC_u8[test_N[:CHECKED]])
    few_NCHW = wide.normalise(few_NHWC_u8.to(next(wide.parameters()).device)).double()
    error = relative_error(wide.double().network(few_NCHW), fold(wide).get_submodule("network")(few_NCHW))
    return Outcome(form, figures.top1, float("inf") if error is None else error)

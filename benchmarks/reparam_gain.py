"""The published gains of multi-branch training, looked for on real images: the same small network, plain and wide.

    python -m benchmarks.reparam_gain [--images PATH] [--arch NAME] [--epochs N] [--device cuda] [--full]

Fashion-MNIST from Debian's dataset-fashion-mnist, and with `--images` another set: a folder or tar of JPEG files
`train/<class>/*` and `test/<class>/*` such as CIFAR-10's. With one seed every form sees the same images in one
order; the folded network of the last epoch is judged on test images, so nothing is chosen by looking at them.
Prints a Markdown table; a gain is called clear where its 95 % interval, Student's t of the seeds' differences from
the plain network, leaves zero out. Fails only where a trained network and its folded form are not the same
function. The default is the least that shows something on a CPU; `--full` takes all images and 15 epochs, of
repvgg_nano unless `--arch` names a paper's network: `cifar_quick` (ACNet), `vgg16_cifar` (ACNet, DBB).
"""

import argparse
import contextlib
import io
import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks.bounds import Figure, report
from benchmarks.image_sets import fashion, read_images, store
from steps.errors import BadInput
from steps.images.cache import CachedImages
from steps.models.normalised import Normalised
from steps.models.repvgg_plain import RepVggPlain, Stage
from steps.progress import say
from steps.reparam.certify import relative_error
from steps.reparam.fold import fold
from steps.reports.card import Expansion, Preprocessing
from steps.training.feed import Feed
from steps.training.loop import Plan, Training, fit, make_deterministic
from steps.training.losses import LOSSES
from steps.training.network import Made, Recipe, make_network
from steps.training.optimizer import sgd
from steps.training.samplers import SAMPLERS, Labels
from steps.training.validation import Validation

SEEDS = range(5)
T_OF_SEEDS = 2.776  # Student's t with 4 degrees of freedom, 97.5 %
WORKERS_ON_A_GPU = 6  # networks this small leave most of it idle
FORMS: dict[str, tuple[str, str] | None] = {  # block and mode; the plain network comes first
    "plain": None,
    "ACB": ("acb", "branch"),
    "DBB": ("dbb", "branch"),
    "RepVGG": ("repvgg", "branch"),
    "ACB online": ("acb", "online"),
    "DBB online": ("dbb", "online"),
    "RepVGG online": ("repvgg", "online"),
}
PUBLISHED = {
    "ACB": "+0.67 Cifar-quick, +0.55 VGG-16 (ACNet); +0.48 VGG-16 (DBB), CIFAR-10",
    "DBB": "+0.67 VGG-16, CIFAR-10",
    "RepVGG": "72.41 against ResNet-18's 71.16, ImageNet",
}
MAX_FOLD_ERROR = 1e-12
CHECKED = 64  # test images on which folding is checked


class Budget(NamedTuple):
    """How much is trained and judged; `arch` names the plain network."""

    arch: str
    train: int
    test: int
    epochs: int


SMALL = Budget("benchmarks.reparam_gain:small_body", train=5000, test=5000, epochs=4)
FULL = Budget("repvgg_nano", train=60_000, test=10_000, epochs=15)
ARCHS = ("repvgg_nano", "cifar_quick", "vgg16_cifar")


class Outcome(NamedTuple):
    """One training's top-1 on test, and how far folding moved an output, relative to the largest."""

    form: str
    top1: float
    fold_error: float


def small_body(class_num: int) -> nn.Module:
    """Return the body of repvgg_nano at half its width."""
    return RepVggPlain(class_num, (Stage(16, 1), Stage(16, 2, stride=1), Stage(32, 2), Stage(64, 2)))


def main() -> None:
    """Train every form with every seed on each set of images, and print what the blocks gained."""
    arguments = _arguments()
    budget = FULL if arguments.full else SMALL
    budget = budget._replace(arch=arguments.arch or budget.arch, epochs=arguments.epochs or budget.epochs)
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        try:
            store(Path(folder) / "Fashion-MNIST", *fashion())
        except BadInput as missing:
            if not arguments.images:
                raise
            print(f"without Fashion-MNIST: {missing}")
        if arguments.images:
            store(Path(folder) / arguments.images.name.partition(".")[0], *read_images(arguments.images))
        for images in sorted(Path(folder).iterdir(), reverse=True):
            outcomes = _train_all(images, budget, arguments.device)
            _print_table(images.name, budget, outcomes)
            worst = max([worst, *(outcome.fold_error for outcome in outcomes)])
    report(
        [Figure("largest error of folding, relative, over all trained networks", worst, "at most", MAX_FOLD_ERROR)]
    )


def _arguments() -> Any:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reparam_gain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=Path, help="folder or tar of train/<class>/* and test/<class>/*")
    parser.add_argument("--arch", choices=ARCHS, help="the plain network")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--full", action="store_true", help="all images, 15 epochs: hours on a CPU")
    return parser.parse_args()


def _print_table(images: str, budget: Budget, outcomes: list[Outcome]) -> None:
    plain: list[float] = []
    name = budget.arch.rpartition(":")[2]
    size = f"{name}, {budget.train:,} images, {budget.epochs} epochs, {budget.test:,} test images"
    print(f"\n{images} ({size}, {len(SEEDS)} seeds), top-1 in %, mean and standard deviation:\n")
    print("| form | top-1 | gain, seed by seed | 95 % interval | published |\n|---|---|---|---|---|")
    for form in FORMS:
        scores = [100 * outcome.top1 for outcome in outcomes if outcome.form == form]
        plain = plain or scores
        gains = [score - base for score, base in zip(scores, plain, strict=True)]
        gain = f"{statistics.mean(gains):+.2f} ± {statistics.stdev(gains):.2f} | {interval(gains)}"
        score = f"{statistics.mean(scores):.2f} ± {statistics.stdev(scores):.2f}"
        of_form = " | " if form == "plain" else gain
        print(f"| {form} | {score} | {of_form} | {PUBLISHED.get(form, '')} |", flush=True)


def interval(gains: list[float]) -> str:
    """Return the 95 % interval of the mean gain of the five seeds, and whether zero lies outside."""
    assert len(gains) == len(SEEDS) == 5, "the quantile is that of five"
    mean, half = statistics.mean(gains), T_OF_SEEDS * statistics.stdev(gains) / len(gains) ** 0.5
    return f"{mean - half:+.2f} .. {mean + half:+.2f}{', clear' if abs(mean) > half else ''}"


def _train_all(images: Path, budget: Budget, device: str) -> list[Outcome]:
    """Return the outcome of every seed and form, in that order; on a CPU each has a core to itself."""
    jobs = list(product(SEEDS, FORMS))
    outcomes = []
    with ProcessPoolExecutor(
        WORKERS_ON_A_GPU if device == "cuda" else os.cpu_count(), mp_context=get_context("spawn")
    ) as pool:
        futures = [pool.submit(_train, images, budget, form, seed, device) for seed, form in jobs]
        for (seed, form), future in zip(jobs, futures, strict=True):
            outcomes.append(future.result())
            say(f"{images.name}, seed {seed}, {form}: top-1 {outcomes[-1].top1:.4f}")
    return outcomes


def _train(images: Path, budget: Budget, form: str, seed: int, device: str = "cpu") -> Outcome:
    """Train one network with the line's own loop and judge it."""
    make_deterministic()
    torch.set_num_threads(1)
    reader = CachedImages(np.load(images / "images.npy", mmap_mode="r"))
    labels_N: Labels = np.load(images / "labels.npy")
    train, test = (int(number) for number in np.load(images / "sizes.npy"))
    draw = np.random.default_rng(seed)
    train_N = draw.permutation(train)[: budget.train]
    test_N = train + draw.permutation(test)[: budget.test]
    made = _make(budget.arch, form, int(labels_N.max()) + 1, reader.images_NHWC_u8.shape[1], seed, device)
    with contextlib.redirect_stderr(io.StringIO()), tempfile.TemporaryDirectory() as checkpoints:
        fit(_training(made, reader, labels_N, train_N, budget.epochs, seed, Path(checkpoints)))
    return _judged(form, made.network.eval(), reader, labels_N, test_N)


def _make(arch: str, form: str, class_num: int, size: int, seed: int, device: str) -> Made:
    wide = FORMS[form]
    half = (0.5, 0.5, 0.5)
    recipe = Recipe(
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


def _training(
    made: Made, reader: CachedImages, labels_N: Labels, train_N: Labels, epochs: int, seed: int, folder: Path
) -> Training:
    loss, classes = LOSSES["cross_entropy"](0.0, 0.1), int(labels_N.max()) + 1
    sampler = SAMPLERS["shuffle"](labels_N[train_N], classes, 1.0)
    few_N = train_N[:CHECKED]  # the loop looks at val after each epoch; here nobody asks
    return Training(
        network=made.network,
        optimizer=sgd(made.network, momentum=0.9, weight_decay=5e-4),
        feed=Feed(reader, train_N, labels_N[train_N], sampler, batch_size=64, seed=seed, shift=2, flip=0.5),
        loss=loss,
        validate=Validation(reader, few_N, labels_N[few_N], classes, loss),
        plan=Plan(epochs, lr=0.1, warmup_epochs=0.5, best_by="top1"),
        checkpoints=folder,
    )


@torch.no_grad()
def _judged(form: str, wide: Normalised, reader: CachedImages, labels_N: Labels, test_N: Labels) -> Outcome:
    """Return the folded network's figures on test, and the error of folding on a few of its images."""
    plain = fold(wide)
    assert isinstance(plain, Normalised)
    loss = LOSSES["cross_entropy"](0.0, 0.0)
    figures = Validation(reader, test_N, labels_N[test_N], int(labels_N.max()) + 1, loss)(plain)
    few_NHWC_u8 = torch.from_numpy(reader.images_NHWC_u8[test_N[:CHECKED]])
    few_NCHW = wide.normalise(few_NHWC_u8.to(next(wide.parameters()).device)).double()
    error = relative_error(wide.double().network(few_NCHW), fold(wide).get_submodule("network")(few_NCHW))
    return Outcome(form, figures.top1, float("inf") if error is None else error)


if __name__ == "__main__":
    main()

"""The published gains of multi-branch training, looked for on real images: the same small network, plain and wide.

    python -m benchmarks.reparam_gain [--images PATH] [--full]

Fashion-MNIST from Debian's dataset-fashion-mnist, and with `--images` another set: a folder or tar of JPEG files
`train/<class>/*` and `test/<class>/*` such as CIFAR-10's. With one seed every form sees the same images in one
order; the folded network of the last epoch is judged on test images, so nothing is chosen by looking at them.
Prints a Markdown table; fails only where a trained network and its folded form are not the same function.
The default is the least that shows something on a CPU; `--full` takes the larger body, all images, more epochs.
"""

import argparse
import contextlib
import io
import os
import statistics
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from benchmarks.bounds import Figure, report
from steps.images.cache import CachedImages
from steps.images.dataset import Images
from steps.images.sources.samples import fashion_mnist
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder or tar of train/<class>/* and test/<class>/*")
    parser.add_argument("--full", action="store_true", help="the larger network, all images, 15 epochs: hours")
    arguments = parser.parse_args()
    budget = FULL if arguments.full else SMALL
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        _store(Path(folder) / "Fashion-MNIST", *_fashion())
        if arguments.images:
            _store(Path(folder) / arguments.images.name.partition(".")[0], *_read_images(arguments.images))
        for images in sorted(Path(folder).iterdir(), reverse=True):
            outcomes = _train_all(images, budget)
            _print_table(images.name, budget, outcomes)
            worst = max([worst, *(outcome.fold_error for outcome in outcomes)])
    report(
        [Figure("largest error of folding, relative, over all trained networks", worst, "at most", MAX_FOLD_ERROR)]
    )


def _print_table(images: str, budget: Budget, outcomes: list[Outcome]) -> None:
    plain: list[float] = []
    size = f"{budget.train:,} images, {budget.epochs} epochs, {budget.test:,} test images"
    print(f"\n{images} ({size}, {len(SEEDS)} seeds), top-1 in %, mean and standard deviation:\n")
    print("| form | top-1 | gain, seed by seed | published |\n|---|---|---|---|")
    for form in FORMS:
        scores = [100 * outcome.top1 for outcome in outcomes if outcome.form == form]
        plain = plain or scores
        gains = [score - base for score, base in zip(scores, plain, strict=True)]
        gain = "" if form == "plain" else f"{statistics.mean(gains):+.2f} ± {statistics.stdev(gains):.2f}"
        score = f"{statistics.mean(scores):.2f} ± {statistics.stdev(scores):.2f}"
        print(f"| {form} | {score} | {gain} | {PUBLISHED.get(form, '')} |", flush=True)


def _train_all(images: Path, budget: Budget) -> list[Outcome]:
    """Return the outcome of every seed and form, in that order; each on one thread, a core to each."""
    jobs = list(product(SEEDS, FORMS))
    outcomes = []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_train, images, budget, form, seed) for seed, form in jobs]
        for (seed, form), future in zip(jobs, futures, strict=True):
            outcomes.append(future.result())
            say(f"{images.name}, seed {seed}, {form}: top-1 {outcomes[-1].top1:.4f}")
    return outcomes


def _train(images: Path, budget: Budget, form: str, seed: int) -> Outcome:
    """Train one network with the line's own loop and judge it."""
    make_deterministic()
    torch.set_num_threads(1)
    reader = CachedImages(np.load(images / "images.npy", mmap_mode="r"))
    labels_N: Labels = np.load(images / "labels.npy")
    train, test = (int(number) for number in np.load(images / "sizes.npy"))
    draw = np.random.default_rng(seed)
    train_N = draw.permutation(train)[: budget.train]
    test_N = train + draw.permutation(test)[: budget.test]
    made = _make(budget.arch, form, int(labels_N.max()) + 1, reader.images_NHWC_u8.shape[1], seed)
    with contextlib.redirect_stderr(io.StringIO()), tempfile.TemporaryDirectory() as checkpoints:
        fit(_training(made, reader, labels_N, train_N, budget.epochs, seed, Path(checkpoints)))
    return _judged(form, made.network.eval(), reader, labels_N, test_N)


def _make(arch: str, form: str, class_num: int, size: int, seed: int) -> Made:
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
        return make_network(recipe, seed, torch.device("cpu"))


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
    few_NCHW = wide.normalise(few_NHWC_u8).double()
    error = relative_error(wide.double().network(few_NCHW), fold(wide).get_submodule("network")(few_NCHW))
    return Outcome(form, figures.top1, float("inf") if error is None else error)


def _store(folder: Path, images_NHWC_u8: Images, labels_N: Labels, train: int) -> None:
    """Write the images where every process can map them; the first `train` of them are for training."""
    folder.mkdir()
    np.save(folder / "images.npy", images_NHWC_u8)
    np.save(folder / "labels.npy", labels_N)
    np.save(folder / "sizes.npy", np.array([train, len(labels_N) - train]))


def _fashion() -> tuple[Images, Labels, int]:
    listing = fashion_mnist()
    assert listing.pixels is not None
    images_NHW_u8 = np.stack(listing.pixels)
    labels_N = listing.rows["label"].to_numpy().astype(np.int64)
    train = int((listing.rows["split"] == "train").sum())
    return np.repeat(images_NHW_u8[..., None], 3, axis=3), labels_N, train


def _read_images(path: Path) -> tuple[Images, Labels, int]:
    """Return the images of a folder or tar, those of train first, with the classes in the order of their names."""
    files = sorted(_files(path), key=lambda file: (file[0] != "train", file[1]))
    classes = sorted({name for _, name, _ in files})
    images = [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for _, _, content in files]
    labels_N = np.array([classes.index(name) for _, name, _ in files], dtype=np.int64)
    return np.stack(images), labels_N, sum(split == "train" for split, _, _ in files)


def _files(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield (split, class, content) of each image file."""
    if path.is_dir():
        for file in sorted(path.glob("*/*/*")):
            yield file.parts[-3], file.parts[-2], file.read_bytes()
        return
    with tarfile.open(path) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                split, name, _ = member.name.split("/")[-3:]
                yield split, name, content.read()


if __name__ == "__main__":
    main()

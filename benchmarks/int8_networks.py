"""The networks of benchmarks/int8.py: a small RepVGG and a QARepVGG, trained, folded, spread and fine-tuned.

Letters: N images, C = 3 channels (RGB), O output channels.
"""

import contextlib
import io
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from torch import nn

from benchmarks.image_sets import fashion
from benchmarks.small_training import small_training
from steps.graphs.exporting import simplified, to_onnx
from steps.images.cache import CachedImages
from steps.models.normalised import Normalised
from steps.models.repvgg_plain import RepVggPlain, Stage
from steps.progress import say
from steps.reparam.fold import absorb_branch_norms, absorb_norms, fold
from steps.reports.card import Card, Expansion, Preprocessing
from steps.training.loop import fit, make_deterministic
from steps.training.network import NetworkSpec, make_network
from steps.training.qat import fine_tune, folded_for_int8

CLASSES, SIZE = 10, 28
HALF = (0.5, 0.5, 0.5)
HOW = Preprocessing(size=SIZE, resize=SIZE, interpolation="bilinear", mean=HALF, std=HALF)
SPREAD, EVERY = 1.5, 6  # deviation of the factors' logarithm; every so many layers


class Budget(NamedTuple):
    """How much is trained and judged."""

    train: int
    epochs: int
    qat_epochs: int
    test: int


def body(class_num: int) -> nn.Module:
    """Return a plain body as deep as RepVGG-A0, and narrow."""
    return RepVggPlain(class_num, (Stage(16, 1), Stage(16, 4), Stage(32, 8), Stage(64, 6)))


def trained(folder: Path, block: str, budget: Budget) -> None:
    """Train a network of these blocks and write its float32 graphs: folded, with branches, fine-tuned."""
    make_deterministic()
    torch.set_num_threads(1)
    images_NHWC_u8, labels_N, of_train = fashion()
    train_N = np.random.default_rng(0).permutation(of_train)[: budget.train]
    reader = CachedImages(images_NHWC_u8)
    training = small_training(_made(block), reader, labels_N, train_N, budget.epochs, folder / block)
    with contextlib.redirect_stderr(io.StringIO()):
        place = fit(training)
    say(f"{block}: trained, loss {place.history[-1].train_loss:.3f}")
    wide = training.network.eval()
    assert isinstance(wide, Normalised)
    some_NHWC_u8 = torch.from_numpy(images_NHWC_u8[:8])
    _write(folder / f"{block}-folded.onnx", absorb_norms(fold(wide.network.double())).float())
    wide.float()
    if block == "repvgg":
        _write(folder / "repvgg-spread.onnx", spread(folded_for_int8(wide, HOW, some_NHWC_u8, 0)).network)
        _write(folder / "repvgg-kept.onnx", absorb_branch_norms(wide.network.double()).float())
        wide.float()
        with contextlib.redirect_stderr(io.StringIO()):
            tuned, _ = fine_tune(
                training,
                folded_for_int8(wide, HOW, some_NHWC_u8, 0),
                budget.qat_epochs,
                lr=1e-3,
            )
        _write(folder / "repvgg-tuned.onnx", tuned.network)


@torch.no_grad()
def spread(folded: Normalised) -> Normalised:
    """Return the network with its channels' ranges spread, in place: in float32 it computes the same."""
    generator = torch.Generator().manual_seed(0)
    convs = [module for module in folded.modules() if isinstance(module, nn.Conv2d)]
    for conv, following in list(pairwise(convs))[EVERY // 2 :: EVERY]:
        factor_O = (SPREAD * torch.randn(conv.out_channels, generator=generator)).exp()
        assert conv.bias is not None
        conv.weight *= factor_O.reshape(-1, 1, 1, 1)
        conv.bias *= factor_O
        following.weight /= factor_O.reshape(1, -1, 1, 1)
    return folded


def _made(block: str) -> Normalised:
    """Return a fresh network of these blocks."""
    recipe = NetworkSpec(
        arch="benchmarks.int8_networks:body",
        class_num=CLASSES,
        preprocessing=HOW,
        weights=None,
        min_weights_coverage=0.0,
        bottleneck=None,
        expansion=Expansion(block=block, where="all", mode="branch"),
        init="standard",
    )
    with contextlib.redirect_stderr(io.StringIO()):
        return make_network(recipe, 0, torch.device("cpu")).network


def _write(path: Path, network: nn.Module) -> None:
    names = tuple(map(str, range(CLASSES)))
    card = Card(
        form="fuse", arch="body", class_num=CLASSES, class_names=names, preprocessing=HOW, files={}, artifact=""
    )
    onnx.save(simplified(to_onnx(network.eval(), card, opset=20)), path)

"""Whether int8 survives fusing: a small RepVGG, plain int8 of it, and each way that keeps its accuracy.

    python -m benchmarks.int8 [--full]

Fashion-MNIST from Debian's dataset-fashion-mnist. A body of 19 convolutions is trained as RepVGG and as QARepVGG
blocks. Trained for minutes, such a network grows no outliers, and int8 of it loses next to nothing, whatever the
weight decay. What long training does to channels is therefore planted in every sixth layer of the folded one: the
range of each channel is multiplied by a random factor, log-normal with deviation SPREAD, and the next layer's
weights divided by it, which changes nothing in float32. That network is given layers in float32 by sensitivity;
fine-tuned is the one as trained: the planted ranges make its gradients as unequal, and it diverges.
Top-1 is ONNX Runtime's on test images; agreement is with float32 of the same network, on the same. Time is process
CPU time of one image on one thread, the engines in turns. `--full` trains on all images, longer.
"""

import argparse
import contextlib
import io
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from benchmarks.bounds import Figure, report
from steps.backends.contract import Images, Logits
from steps.backends.int8 import Fallback, Int8Images, Int8Plan, write_int8
from steps.images.cache import CachedImages
from steps.images.sources.samples import fashion_mnist
from steps.models.normalised import Normalised
from steps.models.onnx_graph import simplified, to_onnx
from steps.models.repvgg_plain import RepVggPlain, Stage
from steps.progress import say
from steps.reparam.fold import absorb_branch_norms, absorb_norms, fold
from steps.reports.card import Card, Expansion, Preprocessing
from steps.training.feed import Feed
from steps.training.loop import Plan, Training, fit, make_deterministic
from steps.training.losses import LOSSES
from steps.training.network import Recipe, make_network
from steps.training.optimizer import sgd
from steps.training.qat import fine_tune, folded_for_int8
from steps.training.samplers import SAMPLERS, Labels
from steps.training.validation import Validation

CLASSES, SIZE, CALIBRATION, HELD_OUT = 10, 28, 256, 512
HALF = (0.5, 0.5, 0.5)
HOW = Preprocessing(size=SIZE, resize=SIZE, interpolation="bilinear", mean=HALF, std=HALF)
WITHIN = 1.0  # point of top-1
AS_FAST = 1.1  # times the CPU time of plain int8
ENOUGH = 0.98  # agreement that the fallback shall reach
SPREAD, EVERY, PLANTED = 1.5, 6, "fused RepVGG, spread"


class Budget(NamedTuple):
    """How much is trained and judged."""

    train: int
    epochs: int
    qat_epochs: int
    test: int


SMALL = Budget(train=10_000, epochs=8, qat_epochs=2, test=10_000)
FULL = Budget(train=60_000, epochs=20, qat_epochs=3, test=10_000)


class Row(NamedTuple):
    """One int8 form: its graph, the float32 graph it was made from, and its figures on test."""

    name: str
    graph: Path
    of: Path
    top1: float
    of_top1: float
    agreement: float
    left: int


def body(class_num: int) -> nn.Module:
    """Return a plain body as deep as RepVGG-A0, and narrow."""
    return RepVggPlain(class_num, (Stage(16, 1), Stage(16, 4), Stage(32, 8), Stage(64, 6)))


def main() -> None:
    """Train both networks, make every form, and print what int8 costs each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.int8", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="all images, 20 epochs: an hour and more")
    budget = FULL if parser.parse_args().full else SMALL
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with ProcessPoolExecutor(min(2, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
            jobs = [pool.submit(trained, folder, block, budget) for block in ("repvgg", "qarepvgg")]
            for job in jobs:
                job.result()
        rows = judged(folder, budget)
        times = cpu_times({str(path): path for row in rows for path in (row.of, row.graph)})
    fused, plain = times[str(rows[0].of)], times[str(rows[0].graph)]
    print(f"\nfused RepVGG, fp32: top-1 {rows[0].of_top1:.2%}\n")
    print(
        "| form | fp32 top-1 | int8 top-1 | lost, points | agreement | in float32 | over fp32 | over plain int8 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        spent = times[str(row.graph)]
        figures = f"{row.of_top1:.2%} | {row.top1:.2%} | {lost(row):+.2f} | {row.agreement:.2%} | {row.left}"
        print(f"| {row.name} | {figures} | × {spent / fused:.2f} | × {spent / plain:.2f} |")
    by_name = {row.name: row for row in rows}
    fast = [by_name[name] for name in ("QARepVGG block", "fine-tuned (QAT)")]
    best = min(fast, key=lost)
    report(
        [
            Figure("points that plain int8 loses, spread", lost(by_name.pop(PLANTED)), "at least", 5.0),
            *(
                Figure(f"points that int8 loses, {row.name}", lost(row), "at most", WITHIN)
                for row in by_name.values()
            ),
            Figure(
                f"CPU time over plain int8, {best.name}",
                times[str(best.graph)] / plain,
                "at most",
                AS_FAST,
                "times",
            ),
        ]
    )


def lost(row: Row) -> float:
    """Return the points of top-1 between a network in float32 and in int8."""
    return 100 * (row.of_top1 - row.top1)


def trained(folder: Path, block: str, budget: Budget) -> None:
    """Train a network of these blocks and write its float32 graphs: folded, with branches, fine-tuned."""
    make_deterministic()
    torch.set_num_threads(1)
    images_NHWC_u8, labels_N, of_train = fashion()
    train_N = np.random.default_rng(0).permutation(of_train)[: budget.train]
    training = _training(block, CachedImages(images_NHWC_u8), labels_N, train_N, budget, folder / block)
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


def _training(
    block: str, reader: CachedImages, labels_N: Labels, train_N: Labels, budget: Budget, checkpoints: Path
) -> Training:
    recipe = Recipe(
        arch="benchmarks.int8:body",
        class_num=CLASSES,
        preprocessing=HOW,
        weights=None,
        min_weights_coverage=0.0,
        bottleneck=None,
        expansion=Expansion(block=block, where="all", mode="branch"),
        init="standard",
    )
    with contextlib.redirect_stderr(io.StringIO()):
        network = make_network(recipe, 0, torch.device("cpu")).network
    loss, sampler = LOSSES["cross_entropy"](0.0, 0.0), SAMPLERS["shuffle"](labels_N[train_N], CLASSES, 1.0)
    few_N = train_N[:256]  # the loop looks at val after each epoch; here the last epoch is taken
    return Training(
        network=network,
        optimizer=sgd(network, momentum=0.9, weight_decay=5e-4),
        feed=Feed(reader, train_N, labels_N[train_N], sampler, batch_size=64, seed=0, shift=2, flip=0.5),
        loss=loss,
        validate=Validation(reader, few_N, labels_N[few_N], CLASSES, loss),
        plan=Plan(budget.epochs, lr=0.1, warmup_epochs=0.5, best_by="top1"),
        checkpoints=checkpoints,
    )


def _write(path: Path, network: nn.Module) -> None:
    names = tuple(map(str, range(CLASSES)))
    card = Card(
        form="fuse", arch="body", class_num=CLASSES, class_names=names, preprocessing=HOW, files={}, artifact=""
    )
    onnx.save(simplified(to_onnx(network.eval(), card, opset=20)), path)


def judged(folder: Path, budget: Budget) -> list[Row]:
    """Return every int8 form with its figures on test; the first is plain int8 of the fused RepVGG."""
    images_NHWC_u8, labels_N, of_train = fashion()
    drawn = Int8Images(images_NHWC_u8[:CALIBRATION], images_NHWC_u8[CALIBRATION : CALIBRATION + HELD_OUT])
    test_NHWC_u8 = images_NHWC_u8[of_train:][: budget.test]
    test_N = labels_N[of_train:][: budget.test]
    forms: dict[str, tuple[str, Fallback]] = {
        "fused RepVGG": ("repvgg-folded", "none"),
        "QARepVGG block": ("qarepvgg-folded", "none"),
        "branches kept": ("repvgg-kept", "none"),
        PLANTED: ("repvgg-spread", "none"),
        "spread, worst layers in float32": ("repvgg-spread", "sensitivity"),
        "fine-tuned (QAT)": ("repvgg-tuned", "none"),
    }
    rows = []
    for name, (graph, fallback) in forms.items():
        source, target = folder / f"{graph}.onnx", folder / f"{graph}-{fallback}-int8.onnx"
        outcome = write_int8(source, target, Int8Plan(drawn, fallback, ENOUGH))
        exact_N, given_N = (logits(path, test_NHWC_u8).argmax(1) for path in (source, target))
        top1, of_top1 = float((given_N == test_N).mean()), float((exact_N == test_N).mean())
        agreement, left = float((given_N == exact_N).mean()), len(outcome.left_in_float)
        rows.append(Row(name, target, source, top1, of_top1, agreement, left))
        say(f"{name}: {outcome}")
    return rows


def logits(graph: Path, images_NHWC_u8: Images) -> Logits:
    """Return the graph's logits_NK in ONNX Runtime."""
    session = _session(graph)
    batches = np.array_split(images_NHWC_u8, max(1, len(images_NHWC_u8) // 250))
    return np.concatenate([session.run(None, {"images_NHWC_u8": batch})[0] for batch in batches])


def cpu_times(graphs: dict[str, Path], rounds: int = 200) -> dict[str, float]:
    """Return the median process CPU seconds of one image on one thread, the graphs in turns."""
    sessions = {name: _session(graph) for name, graph in graphs.items()}
    image_NHWC_u8 = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8)
    spent: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            begin = time.process_time()
            for _ in range(5):
                session.run(None, {"images_NHWC_u8": image_NHWC_u8})
            spent[name].append(time.process_time() - begin)
    return {name: median(seconds) for name, seconds in spent.items()}


def _session(graph: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def fashion() -> tuple[Images, Labels, int]:
    """Return images_NHWC_u8, labels_N, and how many of the first are for training."""
    listing = fashion_mnist()
    assert listing.pixels is not None
    images_NHW_u8 = np.stack(listing.pixels)
    labels_N = listing.rows["label"].to_numpy().astype(np.int64)
    return np.repeat(images_NHW_u8[..., None], 3, axis=3), labels_N, int((listing.rows["split"] == "train").sum())


if __name__ == "__main__":
    main()

"""Whether int8 survives fusing: a small RepVGG, plain int8 of it, and each way that keeps its accuracy.

    python -m benchmarks.int8 [--full] [--write]

Fashion-MNIST from Debian's dataset-fashion-mnist. A body of 19 convolutions is trained as RepVGG and as QARepVGG
blocks. Trained for minutes, such a network grows no outliers, and int8 of it loses next to nothing, whatever the
weight decay. What long training does to channels is therefore planted in every sixth layer of the folded one: the
range of each channel is multiplied by a random factor, log-normal with deviation SPREAD, and the next layer's
weights divided by it, which changes nothing in float32. That network is given layers in float32 by sensitivity;
fine-tuned is the one as trained: the planted ranges make its gradients as unequal, and it diverges.
Top-1 is ONNX Runtime's on test images; agreement is with float32 of the same network, on the same. Time is process
CPU time of one image on one thread, the engines in turns. These networks are too small to show what int8 saves, so
a RepVGG-A0 at 224 pixels is timed too, its weights as drawn: speed asks for no training. `--full` trains on all
images, longer.
"""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import onnxruntime

from benchmarks.bounds import Figure, command_line, report
from benchmarks.image_sets import fashion
from benchmarks.int8_networks import CLASSES, SIZE, Budget, trained
from steps.backends.interleaved_timing import exported
from steps.building.int8 import Fallback, Int8Images, Int8Plan, write_int8
from steps.cores import usable_cores
from steps.engines.contract import Images, Logits
from steps.files import end_with_parent
from steps.images.workers import spawned
from steps.models.architectures import create
from steps.progress import say

CALIBRATION, HELD_OUT = 256, 512
WITHIN = 1.0  # point of top-1
AS_FAST = 1.1  # times the CPU time of plain int8
SAVES = 0.75  # of float32's CPU time, RepVGG-A0
LARGE, LARGE_SIZE, LARGE_ROUNDS = "repvgg_a0_plain", 224, 20
ENOUGH = 0.98  # agreement that the fallback shall reach
PLANTED = "fused RepVGG, spread"


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


def main() -> None:
    """Train both networks, make every form, and print what int8 costs each."""
    parser = command_line("int8", __doc__)
    parser.add_argument("--full", action="store_true", help="all images, 20 epochs: an hour and more")
    arguments = parser.parse_args()
    budget = FULL if arguments.full else SMALL
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with spawned(min(2, usable_cores()), end_with_parent) as pool:
            jobs = [pool.submit(trained, folder, block, budget) for block in ("repvgg", "qarepvgg")]
            for job in jobs:
                job.result()
        rows = judged(folder, budget)
        times = cpu_times({str(path): path for row in rows for path in (row.of, row.graph)})
        saved = time_of_a_large_network(folder)
    fused, plain = times[str(rows[0].of)], times[str(rows[0].graph)]
    table = [
        "",
        "| form | fp32 top-1 | int8 top-1 | lost, points | agreement | in float32 | over fp32 | over plain int8 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        spent = times[str(row.graph)]
        figures = f"{row.of_top1:.2%} | {row.top1:.2%} | {lost(row):+.2f} | {row.agreement:.2%} | {row.left}"
        table.append(f"| {row.name} | {figures} | × {spent / fused:.2f} | × {spent / plain:.2f} |")
    print(*table, sep="\n")
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
            Figure("CPU time over float32, RepVGG-A0 at 224 pixels", saved, "at most", SAVES, "times"),
        ],
        arguments,
        table,
    )


def lost(row: Row) -> float:
    """Return the points of top-1 between a network in float32 and in int8."""
    return 100 * (row.of_top1 - row.top1)


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


def time_of_a_large_network(folder: Path) -> float:
    """Return the CPU time of int8 over that of float32."""
    exported(create(LARGE, CLASSES, LARGE_SIZE).eval(), LARGE, CLASSES, LARGE_SIZE, 1, folder / LARGE)
    noise_NHWC_u8 = np.random.default_rng(0).integers(0, 256, (16, LARGE_SIZE, LARGE_SIZE, 3), dtype=np.uint8)
    graphs = {"fp32": folder / LARGE / "model.onnx", "int8": folder / f"{LARGE}-int8.onnx"}
    write_int8(
        graphs["fp32"], graphs["int8"], Int8Plan(Int8Images(noise_NHWC_u8[:8], noise_NHWC_u8[8:]), "none", 0.0)
    )
    times = cpu_times(graphs, LARGE_SIZE, LARGE_ROUNDS)
    return times["int8"] / times["fp32"]


def cpu_times(graphs: dict[str, Path], size: int = SIZE, rounds: int = 200) -> dict[str, float]:
    """Return the median process CPU seconds of one image on one thread, the graphs in turns."""
    sessions = {name: _session(graph) for name, graph in graphs.items()}
    image_NHWC_u8 = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
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


if __name__ == "__main__":
    main()

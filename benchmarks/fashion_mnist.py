"""What branches bring and cost: one small network, plain, as ACNet and as RepVGG, each trained on Fashion-MNIST.

    python -m benchmarks.fashion_mnist [--full] [--images PATH] [--size 28] [--floor 0.8] [--write]

The commands of the steps ingest, validate and split once, then train, fuse and evaluate each form with each seed,
in a temporary folder. The forms take turns, so that a slow moment of the machine affects all forms. The default is
one pass over the training images and three seeds; `--full` is twenty passes and five seeds. `--images` is whatever
`ingest.source` takes; `--size` is the size to train at, and below the accuracy `--floor` a result does not count.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from safetensors import safe_open

from benchmarks.bounds import Figure, command_line, report
from steps.metrics.agreement import same_class
from steps.metrics.scores import Scores, read_scores
from steps.reports.champion import Champion
from steps.reports.evaluate import FormReport
from steps.reports.split import SplitReport
from steps.reports.train import TrainReport

ROOT = Path(__file__).parent.parent
FASHION_MNIST = ROOT / "data/samples/fashion-mnist.yaml"
FORMS = {"plain": "none", "ACNet": "acb", "RepVGG": "repvgg"}  # -> train.expand.block
ARCH, VAL, AGREEMENT, CLASSES = "repvgg_nano", 0.05, 0.999, 10
# Threads that wait sleep, as in containers/run: else their spinning counts as time that training took.
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "OMP_WAIT_POLICY": "PASSIVE",
    "GX_ANALYTICS_ENABLED": "false",
}


class Budget(NamedTuple):
    """What every form gets."""

    epochs: int
    seeds: int
    warmup_epochs: float


DEFAULT, FULL = Budget(epochs=1, seeds=3, warmup_epochs=0.1), Budget(epochs=20, seeds=5, warmup_epochs=1.0)


class Outcome(NamedTuple):
    """One form trained with one seed: `seconds` of CPU time; accuracy is that of the fused network."""

    top1: float
    worst_recall: float
    agreement: float
    parameters: int
    parameters_fused: int
    seconds: float


def main() -> None:
    """Train every form with every seed, print the table, and hold the fused forms against their bounds."""
    arguments, begin = _arguments(), time.perf_counter()
    budget = FULL if arguments.full else DEFAULT
    with tempfile.TemporaryDirectory(prefix="foldline-forms-") as folder:
        workspace = Path(folder)
        params = _params(arguments.images.resolve(), arguments.size, budget)
        split = _deal_out(workspace, params)
        start = _timed(workspace, "train", "--help")  # loading packages is no training
        outcomes: dict[str, list[Outcome]] = {form: [] for form in FORMS}
        for seed in range(budget.seeds):
            for form, block in FORMS.items():
                params["seed"], params["train"]["expand"]["block"] = seed, block
                outcomes[form].append(_outcome(workspace, params, start))
                print(f"{form}, seed {seed}: test top-1 {outcomes[form][-1].top1:.4f}", flush=True)
    table = [
        "",
        f"{arguments.images.stem}, {ARCH} at {arguments.size} px: {split.images['train']:,} training images, "
        f"{budget.epochs} epoch(s), {budget.seeds} seeds; {split.images['test']:,} test images",
        "",
        *table_of(outcomes),
    ]
    print(*table, sep="\n")
    print(f"\n{time.perf_counter() - begin:.0f} s, {_cpu_seconds():.0f} s of CPU time\n")
    figures = [figure for form in FORMS for figure in figures_of(form, outcomes[form], arguments.floor)]
    report(figures, arguments, table)


def _arguments() -> argparse.Namespace:
    parser = command_line("fashion_mnist", __doc__)
    parser.add_argument("--full", action="store_true", help="20 epochs and 5 seeds")
    parser.add_argument("--images", type=Path, default=FASHION_MNIST, metavar="PATH", help="other images")
    parser.add_argument("--size", type=int, default=28, help="pixels that the network sees (28)")
    parser.add_argument("--floor", type=float, default=0.8, help="least test top-1 of any form (0.8)")
    return parser.parse_args()


def _params(images: Path, size: int, budget: Budget) -> dict[str, Any]:
    """Return the demo's params with the images, the network and the budget of this benchmark."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["ingest"] = {"source": str(images)}
    params["split"]["val"] = VAL
    params["train"]["preprocess"]["side"] = size
    params["train"] |= {"arch": ARCH, "epochs": budget.epochs, "schedule": {"warmup_epochs": budget.warmup_epochs}}
    return params


def _deal_out(workspace: Path, params: dict[str, Any]) -> SplitReport:
    """Ingest, validate and split: every form and seed learns from the same images, and is tested on the same."""
    Champion(accepted=False).write(workspace / "champion/champion.json")
    _run(workspace, params, "ingest", out="ingest")
    _run(workspace, params, "validate", ingest="ingest", out="validate")
    _run(workspace, params, "split", ingest="ingest", validate="validate", champion="champion", out="split")
    return SplitReport.read(workspace / "split/report.json")


def _outcome(workspace: Path, params: dict[str, Any], start: float) -> Outcome:
    """Train, fuse, and evaluate both; `start` is what starting to train takes."""
    seconds = _run(workspace, params, "train", images="ingest", split="split", out="train")
    _run(workspace, params, "fuse", model="train/model", out="fuse")
    for form in ("train", "fuse"):
        told = {"form": form, "model": f"{form}/model", "out": "evaluate"}
        _run(workspace, params, "evaluate", images="ingest", split="split", **told)
    fused = FormReport.read(workspace / "evaluate/fuse.json")
    assert fused.top1 is not None and fused.worst_recall is not None  # null only for a form that was not run
    return Outcome(
        top1=fused.top1,
        worst_recall=fused.worst_recall,
        agreement=same_class(_scores(workspace, "train"), _scores(workspace, "fuse")),
        parameters=TrainReport.read(workspace / "train/report.json").parameters_multi_branch,
        parameters_fused=_size(workspace / "fuse/model/model.safetensors"),
        seconds=seconds - start,
    )


def _run(workspace: Path, params: dict[str, Any], step: str, **flags: str) -> float:
    """Run a step's command line; return its CPU seconds."""
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    return _timed(workspace, step, *(text for flag, value in flags.items() for text in (f"--{flag}", value)))


def _timed(workspace: Path, step: str, *arguments: str) -> float:
    begin = _cpu_seconds()
    command = [sys.executable, "-m", f"steps.{step}", *arguments]
    done = subprocess.run(command, cwd=workspace, env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        sys.exit(f"FAIL  steps.{step} exited with {done.returncode}")
    return _cpu_seconds() - begin


def _cpu_seconds() -> float:
    """Return the CPU seconds of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _scores(workspace: Path, form: str) -> Scores:
    return read_scores(workspace / f"evaluate/{form}.parquet", CLASSES)[1]


def _size(weights: Path) -> int:
    """Return how many numbers the fused network has: no batch norm is left, so each is a parameter."""
    with safe_open(weights, framework="np") as file:
        return sum(int(np.prod(file.get_slice(name).get_shape())) for name in file.keys())  # noqa: SIM118


def table_of(outcomes: dict[str, list[Outcome]]) -> list[str]:
    """Return the lines of a Markdown table. Noise only ever adds time, so the least of a form's runs counts."""
    least = {form: min(outcome.seconds for outcome in runs) for form, runs in outcomes.items()}
    lines = [
        "| form | test top-1 | worst recall | parameters, training | parameters, fused | training time |",
        "|---|---|---|---|---|---|",
    ]
    for form, runs in outcomes.items():
        top1 = [100 * outcome.top1 for outcome in runs]
        worst = statistics.mean(100 * outcome.worst_recall for outcome in runs)
        lines.append(
            f"| {form} | {statistics.mean(top1):.2f} ± {statistics.stdev(top1):.2f} % | {worst:.1f} % "
            f"| {runs[0].parameters:,} | {runs[0].parameters_fused:,} | × {least[form] / least['plain']:.2f} |"
        )
    return lines


def figures_of(form: str, runs: list[Outcome], floor: float) -> list[Figure]:
    """Return what the worst of a form's seeds is held against."""
    agreement, top1 = min(run.agreement for run in runs), min(run.top1 for run in runs)
    return [
        Figure(f"{form}: fused agrees with trained, worst seed", agreement, "at least", AGREEMENT),
        Figure(f"{form}: test top-1, worst seed", top1, "at least", floor),
    ]


if __name__ == "__main__":
    main()

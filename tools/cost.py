"""Compare the cost of networks: `python -m tools.cost ARCH... [--block repvgg] [--accuracy FILE.csv] ...`.

The tool prints one table of all networks (any value of `train.arch`, your own modules included), each as it trains
and in its plain form. The columns are: parameters and the head's share of the parameters, FLOPs and multiply-adds
(as steps/models/flops.py counts them), bytes moved, peak live activations, the size of the weights file, and the
measured latency of one image. All forms are timed in turns on this machine. With accuracies, the tool names the
networks on the Pareto front of the plain form's latency and accuracy. Without accuracies, the tool names no front.

The CSV has the columns arch (as on the command line), top1 (in percent) and source (measured or published).
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from steps.backends.interleaved_timing import Call, Run, eager, exported, take_turns, torch_threads
from steps.errors import BadInput, StepError
from steps.files import write_whole
from steps.models.cost import both_forms, cost_of
from steps.pages.cost import draw, lines, page
from steps.progress import say
from steps.reports.cost import (
    Accuracy,
    AccuracySource,
    CostCard,
    CostReport,
    Form,
    MeasuredLatency,
    Runtime,
    mark_front,
)
from tools.flags import count, cpu_threads
from tools.releases import keep_out_of_releases

PLOT = Path(".foldline/cost.html")  # git ignores this folder
WRITERS: dict[str, Callable[[CostReport], bytes]] = {".svg": draw, ".html": page}


@dataclass(frozen=True)
class Setting:
    """The settings of a comparison; the Pareto front uses the latency in `runtime`."""

    block: str | None = None
    where: str = "all"
    size: int = 224
    class_num: int = 1000
    threads: int = 1
    rounds: int = 15
    runtime: Runtime = "pytorch"


def compare(archs: Iterable[str], how: Setting, accuracies: dict[str, Accuracy]) -> CostReport:
    """Return each network's card, in the given order.

    Raises BadInput for an unknown network, a size that a network does not take, and a block without a site.
    """
    cards: dict[str, CostCard] = {}
    runs: dict[tuple[str, Form, Runtime], Run] = {}
    with torch_threads(how.threads), tempfile.TemporaryDirectory() as scratch:
        for number, arch in enumerate(dict.fromkeys(archs)):
            say(f"cost: {arch}")
            forms = both_forms(arch, how.class_num, how.size, how.block, how.where)
            example_NCHW = torch.zeros(1, 3, how.size, how.size)
            costs = {form: cost_of(network, example_NCHW) for form, network in forms.items()}
            cards[arch] = CostCard(
                arch=arch,
                block=how.block,
                trained=costs["trained"],
                plain=costs["plain"],
                accuracy=accuracies.get(arch),
            )
            for form, network in forms.items():
                runs[arch, form, "pytorch"] = eager(network, how.size)
            if how.runtime == "onnxruntime":
                folder = Path(scratch) / str(number)
                plain = exported(forms["plain"], arch, how.class_num, how.size, how.threads, folder)
                runs[arch, "plain", "onnxruntime"] = plain
        turns = take_turns(runs, how.rounds)
    for (arch, form, runtime), calls in turns.items():
        row = _latency(form, runtime, calls)
        cards[arch] = cards[arch].model_copy(update={"latencies": (*cards[arch].latencies, row)})
    return CostReport(
        size=how.size,
        class_num=how.class_num,
        threads=how.threads,
        rounds=how.rounds,
        front_runtime=how.runtime,
        versions={package: version(package) for package in ("onnxruntime", "timm", "torch", "torchvision")},
        cards=mark_front(tuple(cards.values()), how.runtime),
    )


def read_accuracies(path: Path, archs: Iterable[str]) -> dict[str, Accuracy]:
    """Return the accuracies of these networks; raise BadInput for a table with a fault or with two values."""
    try:
        rows = list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise BadInput(f"--accuracy: {path} cannot be read: {fault}.") from fault
    found: dict[str, Accuracy] = {}
    for number, row in enumerate(rows, start=2):
        arch, accuracy = _accuracy(row, f"--accuracy: {path}, line {number}")
        if found.setdefault(arch, accuracy) != accuracy:
            raise BadInput(f"--accuracy: {path}, line {number} gives {arch} a second accuracy.")
    if not found.keys() & set(archs):
        raise BadInput(
            f"--accuracy: {path} names none of the networks; it has {', '.join(found)[:200] or 'no rows'}."
        )
    return found


def _latency(form: Form, runtime: Runtime, calls: list[Call]) -> MeasuredLatency:
    p10, median, p90 = map(float, np.percentile([call.wall for call in calls], (10, 50, 90)))
    cpu = float(np.median([call.cpu for call in calls]))
    return MeasuredLatency(form=form, runtime=runtime, median=median, p10=p10, p90=p90, cpu_median=cpu)


def _accuracy(row: dict[str, Any], where: str) -> tuple[str, Accuracy]:
    arch, top1, source = (str(row.get(key) or "").strip() for key in ("arch", "top1", "source"))
    if not arch or source not in get_args(AccuracySource):
        raise BadInput(
            f"{where}: the table takes the columns arch, top1 and source, and source is measured or published."
        )
    try:
        return arch, Accuracy.model_validate({"top1": float(top1), "source": source})
    except ValueError as fault:
        raise BadInput(f"{where}: top1 is '{top1}'; it is a percentage, above 1 and at most 100.") from fault


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.cost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Setting()
    parser.add_argument("archs", nargs="+", metavar="ARCH")
    parser.add_argument("--block", metavar="NAME", help="train with these blocks, such as repvgg")
    parser.add_argument("--where", default=default.where, help="convolutions with a block, as train.expand.where")
    for flag, name, kind in (
        ("--size", "size", count),
        ("--classes", "class_num", count),
        ("--threads", "threads", cpu_threads),
        ("--rounds", "rounds", count),
    ):
        parser.add_argument(flag, dest=name, type=kind, default=getattr(default, name), metavar="N")
    parser.add_argument(
        "--runtime",
        choices=get_args(Runtime),
        default=default.runtime,
        help="onnxruntime: time the exported graph of the plain form too, and use this latency for the front",
    )
    parser.add_argument("--accuracy", type=Path, metavar="FILE.csv")
    parser.add_argument(
        "--plot",
        nargs="?",
        type=Path,
        const=PLOT,
        metavar="FILE.svg|FILE.html",
        help=f"draw the comparison ({PLOT})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def run(flags: argparse.Namespace) -> None:
    """Measure what the flags ask for, print the table and write the files."""
    if flags.plot is not None and flags.plot.suffix not in WRITERS:
        raise BadInput(f"--plot: {flags.plot} must end in {' or '.join(WRITERS)}.")
    if flags.json is not None and flags.json.suffix != ".json":
        raise BadInput(f"--json: {flags.json} must end in .json.")
    for flag, path in (("--plot", flags.plot), ("--json", flags.json)):
        if path is not None:
            keep_out_of_releases(flag, path)
            if path.is_dir():
                raise BadInput(f"{path} is a folder; name a file.")
    accuracies = read_accuracies(flags.accuracy, flags.archs) if flags.accuracy else {}
    names = [field.name for field in fields(Setting)]
    report = compare(flags.archs, Setting(**{name: getattr(flags, name) for name in names}), accuracies)
    print("\n".join(lines(report)))
    try:
        if flags.plot is not None:
            write_whole(flags.plot, WRITERS[flags.plot.suffix](report))
            say(f"cost: drawn in {flags.plot}")
        if flags.json is not None:
            report.write(flags.json)
    except OSError as fault:
        raise BadInput(f"a file cannot be written: {fault}.") from fault


def main() -> None:
    """Run the tool; an error that a person can cause gives one sentence and exit code 2."""
    flags = _parse()
    try:
        run(flags)
    except StepError as error:
        say(f"cost: {error}")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

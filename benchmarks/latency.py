"""How fast the forms of a network are on a CPU, as ratios within one run: fused, compiled, near the core's peak.

    python -m benchmarks.latency [--rounds 40] [--full] [--write]

One image of 224 pixels on one thread, process CPU time; all forms of a network take turns, and each ratio is the
median over the rounds, so that a busy machine slows both sides alike. The peak is measured in the same turns: a C
loop of fused multiply-adds (benchmarks/fma.c, -march=native; without a compiler a large matrix product). The best
fp32 engine is the one of ONNX Runtime, OpenVINO and AOTInductor that takes the least CPU time. Two threads against
one is wall time, of the engine that is fastest on two. That and the share of the peak are of the calls' 10th
percentiles: other work on the machine only ever adds, and what competes for memory slows a network, but not the
peak's loop, which uses none. `--full` takes 200 rounds.
"""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.bounds import Figure, command_line, report
from steps.backends.interleaved_timing import Call, Run, eager, exported, take_turns, torch_threads
from steps.backends.runner import open_runner
from steps.building.engine import Target, build_engine
from steps.engines.contract import BatchRange, CannotBuild
from steps.engines.names import parse_engine
from steps.models.cost import both_forms, cost_of
from steps.progress import say
from steps.reports.artifact import CARD, read_verified_card, write_card

SIZE, CLASSES = 224, 1000
ENGINES = ("onnxruntime-fp32", "openvino-fp32", "aotinductor-fp32")
PEAK_MILLISECONDS = 20.0  # of the peak's loop, about what a network takes
# Network: its blocks; unfused over fused (ONNX Runtime); eager over the best engine; share of the peak.
Bounds = tuple[str | None, float | None, float | None, float | None]
NETWORKS: dict[str, Bounds] = {
    "repvgg_a0_plain": ("repvgg", 1.10, 1.35, 0.85),
    "mobileone_s0_plain": ("mobileone", 3.0, 2.2, None),
    "timm:resnet50d": (None, None, None, 0.85),
}
LEAST_FOR_TWO = 1.7
Turns = dict[str, list[Call]]


def main() -> None:
    """Measure each network, print its table, and report the ratios beside their bounds."""
    parser = command_line("latency", __doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args()
    rounds = 200 if arguments.full else arguments.rounds
    figures: list[Figure] = []
    table = ["", "| network | form | CPU ms | GFLOPS | share of the peak |", "|---|---|---|---|---|"]
    print(*table, sep="\n")
    with torch_threads(1), tempfile.TemporaryDirectory() as scratch:
        peak, peak_operations = peak_loop(Path(scratch))
        for arch, bounds in NETWORKS.items():
            folder = Path(scratch) / arch.replace(":", "-")
            turns, operations = _measured(arch, bounds[0], folder, peak, rounds)
            rows = list(_rows(arch, turns, operations, peak_operations))
            print(*rows, sep="\n", flush=True)
            table += rows
            figures += _figures(arch, bounds, turns, operations, peak_operations)
            if arch == next(iter(NETWORKS)):
                figures.append(_two_threads(arch, folder, rounds))
    report(figures, arguments, table)


def peak_loop(folder: Path) -> tuple[Run, float]:
    """Return a call that does as many multiply-adds as one core can, and its floating-point operations."""
    if shutil.which("gcc") is None:
        say("latency: there is no gcc, so the peak is that of a large matrix product, which is a little less")
        a, b = np.ones((2, 768, 768), np.float32)
        return lambda: a @ b, 2.0 * 768**3
    source = Path(__file__).with_name("fma.c")
    command = ["gcc", "-O3", "-march=native", "-shared", "-fPIC", "-Wno-psabi", "-o", str(folder / "fma.so")]
    subprocess.run([*command, str(source)], check=True)
    loop = ctypes.CDLL(str(folder / "fma.so")).multiply_add
    loop.restype, loop.argtypes = ctypes.c_double, [ctypes.c_long]
    take_turns({"warm": partial(loop, 10**6)}, 1)
    (call,) = take_turns({"short": partial(loop, 10**6)}, 1)["short"]
    steps = int(10**6 * PEAK_MILLISECONDS / call.cpu)
    return partial(loop, steps), float(loop(steps))


def _measured(arch: str, block: str | None, folder: Path, peak: Run, rounds: int) -> tuple[Turns, float]:
    """Return the calls of every form of the network and of the peak, and the plain form's operations an image."""
    import torch

    say(f"latency: {arch}: exporting and building")
    forms = both_forms(arch, CLASSES, SIZE, block)
    runs = {"peak": peak, "eager": eager(forms["plain"], SIZE)}
    if block is not None:
        unfused = partial(exported, forms["trained"], arch, CLASSES, SIZE, 1, folder / "unfused")
        runs["unfused, onnxruntime-fp32"] = unfused()
    exported(forms["plain"], arch, CLASSES, SIZE, 1, folder / "plain")
    for engine in ENGINES:
        try:
            runs[engine] = _engine(engine, folder, threads=1)
        except CannotBuild as fault:
            say(f"latency: {engine} is left out: {fault}")
    operations = 2.0 * cost_of(forms["plain"], torch.zeros(1, 3, SIZE, SIZE)).multiply_adds
    return take_turns(runs, rounds), operations


def _engine(engine: str, folder: Path, threads: int) -> Run:
    """Return a call of the engine, built from the plain form's graph where it is not there yet."""
    out, model = folder / engine, folder / "plain"
    if not out.is_dir():
        out.mkdir()
        backend, precision = parse_engine(engine)
        built, _ = build_engine(Target(backend, precision, BatchRange(1, 1, 1), ()), model, out, None)
        changed = {"form": engine, "backend": backend, "device": built.device, "versions": built.versions}
        write_card(out, read_verified_card(model).model_copy(update=changed))
    run, _ = open_runner(out, threads)
    image_NHWC_u8 = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8)

    def call() -> None:
        with torch_threads(threads):  # AOTInductor's are those of the process when it is called
            run(image_NHWC_u8)

    return call


def _figures(arch: str, bounds: Bounds, turns: Turns, operations: float, peak_operations: float) -> list[Figure]:
    """Return the ratios of one network that have a bound."""
    _, unfused, compiled, share = bounds
    best = min((name for name in turns if name in ENGINES), key=lambda name: _median(turns[name]))
    found = []
    if unfused is not None:
        ratio = _ratio(turns["unfused, onnxruntime-fp32"], turns["onnxruntime-fp32"])
        found.append(Figure(f"{arch}: unfused / fused, ONNX Runtime", ratio, "at least", unfused))
    if compiled is not None:
        ratio = _ratio(turns["eager"], turns[best])
        found.append(Figure(f"{arch}: eager / {best}, both fused", ratio, "at least", compiled))
    if share is not None:
        cpu = {name: [call.cpu for call in turns[name]] for name in ("peak", best)}
        reached = operations / peak_operations * _undisturbed(cpu["peak"]) / _undisturbed(cpu[best])
        found.append(Figure(f"{arch}: share of the FMA peak, {best}", reached, "at least", share))
    return found


def _two_threads(arch: str, folder: Path, rounds: int) -> Figure:
    """Return how much faster two threads are than one, on the clock, with the engine that is fastest on two."""
    engines = [engine for engine in ENGINES if (folder / engine / CARD).is_file()]
    runs = {(engine, threads): _engine(engine, folder, threads) for engine in engines for threads in (1, 2)}
    turns = take_turns(runs, rounds)
    wall = {key: _undisturbed([call.wall for call in calls]) for key, calls in turns.items()}
    best = min(engines, key=lambda engine: wall[engine, 2])
    ratio = wall[best, 1] / wall[best, 2]
    return Figure(f"{arch}: one thread / two, {best}, wall time", ratio, "at least", LEAST_FOR_TWO)


def _rows(arch: str, turns: Turns, operations: float, peak_operations: float) -> Iterator[str]:
    top = peak_operations / _median(turns["peak"])
    for name, calls in turns.items():
        rate = (peak_operations if name == "peak" else operations) / _median(calls)
        share = "" if name.startswith("unfused") else f"{rate / top:.0%}"
        yield f"| {arch} | {name} | {_median(calls):.2f} | {rate / 1e6:.1f} | {share} |"


def _median(calls: list[Call]) -> float:
    return float(np.median([call.cpu for call in calls]))


def _undisturbed(milliseconds: list[float]) -> float:
    """Return the time of a call that nothing else on the machine slows much."""
    return float(np.percentile(milliseconds, 10))


def _ratio(numerator: list[Call], denominator: list[Call]) -> float:
    """Return the median over the rounds of the two CPU times' ratio."""
    return float(np.median([a.cpu / b.cpu for a, b in zip(numerator, denominator, strict=True)]))


if __name__ == "__main__":
    main()

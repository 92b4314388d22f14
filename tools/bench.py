"""Measure the cost of every form on this machine: `python -m tools.bench [FORM...] [--release DIR] ...`.

The tool measures latency (median, p90, p99), images per second and CPU time, for each number of threads and images
at once. The tool also shows file size, peak memory, and the accuracy from evaluate. Each form runs in its own
process, and the forms run in turns, so other load on the machine slows all forms. The table goes to the terminal.
bench.csv, bench.json and bench.html (a page that loads nothing) go to .foldline/bench, because no stage may depend
on a latency. The best settings are printed as keys of params.yaml: `build` writes these settings into the engines'
cards.
"""

import argparse
import csv
import io
import math
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from steps.cores import usable_cores
from steps.engines.artifact import model_bytes
from steps.errors import BadInput, StepError
from steps.files import write_whole
from steps.pages.bench import adopted, lines, page
from steps.progress import say, track
from steps.reports.artifact import CARD, read_verified_card
from steps.reports.bench import BenchForm, BenchReport, BenchRow
from steps.reports.card import Card
from steps.reports.evaluate import FormReport
from steps.reports.release import INDEX, ReleaseCard
from tools.bench_forms import Child, opened_forms
from tools.flags import cpu_threads
from tools.predict_images import MOST_AT_ONCE
from tools.releases import MODEL, engine_folder, keep_out_of_releases, verified_release

LINE = {"train": Path("data/train/model"), "fuse": Path("data/fuse/model"), "export": Path("data/export/model")}
BUILT, EVALUATED, OUT = Path("data/build"), Path("data/evaluate"), Path(".foldline/bench")
LEAST_CALLS, MOST_CALLS = 5, 200
Calls = list[tuple[float, float]]  # milliseconds of each call: wall-clock time and CPU time


@dataclass(frozen=True)
class Setting:
    """The settings: every number of threads with every number of images, each for `seconds` a form."""

    threads: tuple[int, ...]
    batches: tuple[int, ...]
    seconds: float


def measure(folders: dict[str, Path], how: Setting) -> BenchReport:
    """Return the cost of the forms in these folders; a form that cannot run here is listed with the reason."""
    cards = {name: read_verified_card(folder) for name, folder in folders.items()}
    rows: list[BenchRow] = []
    peaks: dict[str, int] = {}
    not_run: dict[str, str] = {}
    for threads in how.threads:
        with opened_forms({name: folder for name, folder in folders.items() if name not in not_run}, threads) as (
            children,
            refused,
        ):
            not_run |= refused
            for batch in how.batches:
                calls = _interleaved_calls(children, batch, threads, how.seconds)
                rows += [_row(name, threads, batch, calls[name]) for name in children]
            peaks |= {name: max(peaks.get(name, 0), child.peak_bytes) for name, child in children.items()}
    forms = tuple(_form(name, folders[name], cards[name], peaks.get(name), not_run.get(name)) for name in folders)
    size = next(iter(cards.values())).preprocessing.size
    report = BenchReport(cpu=_cpu(), cpus=usable_cores(), image_size=size, forms=forms, rows=tuple(rows))
    return report.marked()


def _interleaved_calls(children: dict[str, Child], batch: int, threads: int, seconds: float) -> dict[str, Calls]:
    """Return the calls of each form; each round calls each form once."""
    calls: dict[str, Calls] = {name: [child.call(batch)] for name, child in children.items()}
    slowest = max((wall for ((wall, _),) in calls.values()), default=1.0)
    rounds = min(MOST_CALLS, max(LEAST_CALLS, int(seconds * 1000 / max(slowest, 1e-3))))
    for _ in track(range(rounds), f"{threads} thread(s), {batch} image(s)", rounds, "rounds"):
        for name, child in children.items():
            calls[name].append(child.call(batch))
    return {name: taken[1:] for name, taken in calls.items()}


def _row(form: str, threads: int, batch: int, calls: Calls) -> BenchRow:
    wall, cpu = np.array(calls).T
    p50, p90, p99 = map(float, np.percentile(wall, (50, 90, 99)))
    cpu_per_image = float(np.median(cpu)) / batch
    return BenchRow(
        form=form,
        threads=threads,
        batch=batch,
        calls=len(calls),
        p50=p50,
        p90=p90,
        p99=p99,
        cpu_per_image=cpu_per_image,
    )


def _form(name: str, folder: Path, card: Card, peak: int | None, not_run: str | None) -> BenchForm:
    return BenchForm(
        form=name,
        backend=card.backend,
        precision=card.precision,
        device=card.device.kind,
        takes=card.takes,
        size_bytes=model_bytes(folder, card),
        peak_bytes=peak,
        top1=_top1(card),
        not_run=not_run,
    )


def _top1(card: Card) -> float | None:
    """Return the form's accuracy, if evaluate ran with these files."""
    file = EVALUATED / f"{card.form}.json"
    if not file.is_file():
        return None
    report = FormReport.read(file)
    return report.top1 if report.card is not None and report.card.artifact == card.artifact else None


def find_forms(names: Sequence[str], release: Path | None) -> dict[str, Path]:
    """Return form -> folder of the named forms, or of all forms; raise BadInput where a form is missing.

    The forms of a release, or of the champion, are its model and the engines in its index, all verified.
    """
    known = LINE | _folders(BUILT) if release is None else _released(release)
    there = {name: folder for name, folder in known.items() if (folder / CARD).is_file()}
    missing = [name for name in names if name not in there]
    if missing or not there:
        where = release or "data/"
        verb = "is not" if len(missing) == 1 else "are not"
        subject = f"{', '.join(missing)} {verb}" if missing else "no form is"
        raise BadInput(
            f"{subject} there in {where}; there are {', '.join(there) or 'none'}. "
            "Run the stages that write them first."
        )
    return {name: there[name] for name in names or there}


def _folders(root: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(root.glob("[a-z]*")) if path.is_dir()}


def _released(folder: Path) -> dict[str, Path]:
    release = verified_release(folder)
    index = ReleaseCard.read(release / INDEX)
    engines = {name: engine_folder(release, index, name) for name in index.engines}
    return {"export": engine_folder(release, index, MODEL)} | engines


def as_csv(report: BenchReport) -> bytes:
    """Return the rows as CSV; each row repeats the figures of its form."""
    text = io.StringIO()
    forms = {form.form: form for form in report.forms}
    of_form = ("backend", "precision", "takes", "size_bytes", "peak_bytes", "top1")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*BenchRow.model_fields, "images_per_second", *of_form])
    for row in report.rows:
        form = forms[row.form]
        writer.writerow(
            [*row.model_dump().values(), row.images_per_second, *(getattr(form, name) for name in of_form)]
        )
    return text.getvalue().encode()


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _write(report: BenchReport, out: Path) -> None:
    try:
        write_whole(out / "bench.csv", as_csv(report))
        write_whole(out / "bench.html", page(report))
        report.write(out / "bench.json")
    except OSError as fault:
        raise BadInput(f"--out {out} cannot be written: {fault}") from fault


def _parse() -> argparse.Namespace:
    cpus = usable_cores()
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("forms", nargs="*", metavar="FORM", help="forms to measure (all forms)")
    parser.add_argument(
        "--release", type=Path, metavar="DIR", help="measure the forms of a release or of the champion"
    )
    parser.add_argument("--threads", type=_threads, default=tuple(range(1, cpus + 1)), metavar="1,2,...")
    parser.add_argument("--batches", type=_batches, default=(1, 2, 4, 8, 16, 32), metavar="1,8,...")
    parser.add_argument(
        "--seconds", type=_seconds, default=1.0, metavar="S", help="time for each form under each setting"
    )
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR")
    return parser.parse_args()


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}' is no list of whole numbers of at least 1, such as 1,8,32")
    return tuple(sorted({int(part) for part in parts}))


def _threads(text: str) -> tuple[int, ...]:
    numbers = _numbers(text)
    cpu_threads(str(numbers[-1]))
    return numbers


def _batches(text: str) -> tuple[int, ...]:
    numbers = _numbers(text)
    if numbers[-1] > MOST_AT_ONCE:
        raise argparse.ArgumentTypeError(f"{numbers[-1]} images at once; tools take at most {MOST_AT_ONCE}")
    return numbers


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of seconds above 0")
    return seconds


def main() -> None:
    """Run the tool; an error that a person can cause gives one sentence and exit code 2."""
    flags = _parse()
    try:
        keep_out_of_releases("--out", flags.out)
        report = measure(
            find_forms(flags.forms, flags.release), Setting(flags.threads, flags.batches, flags.seconds)
        )
        _write(report, flags.out)
    except StepError as error:
        say(f"bench: {error}")
        sys.exit(error.exit_code)
    except OSError as fault:
        say(f"bench: a form cannot be read: {fault}")
        sys.exit(2)
    except KeyboardInterrupt:
        say(f"bench: interrupted; {flags.out} is as it was.")
        sys.exit(130)
    print("\n".join([*lines(report), *adopted(report)]))


if __name__ == "__main__":
    main()

"""Faults planted one by one into a line that passes: each must be refused by the check that is there for it.

    python -m benchmarks.mutants [--images PATH] [--full] [--write]

A small network is trained on scikit-learn's digits and taken through the real steps; then, for each mutant, one
thing is changed (in a step's work, an artifact, what one form reads, what evaluate left) and the stages behind it
are driven again. A second line learns from pictures of many sizes: its engines resize by themselves or, where
there is a C++ compiler, are compiled. A mutant counts as caught where the check named for it says no, the gate
names its form, and the same path without the change is let through. `--images` is the tar of 1,000 photographs,
one a class, that benchmarks/lite0.py takes: then faults of colour, resizing and single classes are planted into a
pretrained EfficientNet-Lite0 too, on every third photograph. Without `--full`, which takes all photographs too,
every second mutant is tried.
"""

import contextlib
import io
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeVar

from benchmarks.bounds import Figure, command_line, report
from benchmarks.planted.in_pictures import ANY_SIZE, BRAIN, COMPILED, NATIVE, RESIZING
from benchmarks.planted.line import Line, make_digits
from benchmarks.planted.mutant import Mutant, Outcome, Trials
from benchmarks.planted.photographs import PHOTOGRAPHS, make_photographs
from benchmarks.planted.pictures import make_pictures
from benchmarks.planted.tables import DIGITS, PICTURES

T = TypeVar("T")
LEAST = 40
SAMPLED = 2  # every so-many-th mutant, without --full
SHOWN = 110  # letters of a sentence
HEAD = ("mutant", "form", "data", "must be caught by", "caught by", "sentence")


def main() -> None:
    """Try every mutant, print the table, and report how many were caught by their check."""
    parser = command_line("mutants", __doc__)
    parser.add_argument("--images", type=Path, metavar="PATH", help="a tar of photographs")
    parser.add_argument("--full", action="store_true", help="all mutants, and all photographs")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    figures: list[Figure] = []
    planted = 0
    with tempfile.TemporaryDirectory() as folder:
        for data, (make, mutants) in lines_of(arguments.images, every=1 if arguments.full else 3).items():
            chosen = dict(islice(mutants.items(), 0, None, 1 if arguments.full else SAMPLED))
            figures += _tried(data, _quietly(make, Path(folder) / data), chosen, Path(folder))
            planted += len(chosen)
    print(f"\n{time.perf_counter() - begin:.0f} s\n")
    report([Figure("mutants planted", planted, "at least", LEAST), *figures], arguments)


def lines_of(images: Path | None, every: int) -> dict[str, tuple[Callable[[Path], Line], Mapping[str, Mutant]]]:
    """Return what makes each line, by its data, and the mutants that are planted into it."""
    compiler = shutil.which("g++") is not None
    if not compiler:
        print(f"There is no C++ compiler: {len(COMPILED)} faults of compiled engines are not tried.\n")
    pictures = (RESIZING, NATIVE, BRAIN) if compiler else (RESIZING,)
    lines: dict[str, tuple[Callable[[Path], Line], Mapping[str, Mutant]]] = {
        "digits": (make_digits, DIGITS),
        "pictures": (lambda root: make_pictures(root, pictures), PICTURES if compiler else ANY_SIZE),
    }
    if images:
        lines["photographs"] = (lambda root: make_photographs(root, images, every), PHOTOGRAPHS)
    return lines


def _tried(data: str, line: Line, mutants: Mapping[str, Mutant], scratch: Path) -> list[Figure]:
    """Print a row a mutant and return the figures of this data."""
    trials = Trials(line, scratch / f"{data}-mutants")
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    outcomes = {}
    for name, mutant in mutants.items():
        outcomes[name] = _quietly(trials.of, mutant)
        print("| " + " | ".join(_row(name, data, mutant, outcomes[name])) + " |", flush=True)
    for name, outcome in outcomes.items():
        if not outcome.held:
            print(f"not held: {name}: {outcome.fault}")
    caught = sum(outcome.held for outcome in outcomes.values())
    paths = sum(catch is None for catch in trials.honest.values())
    return [
        Figure(f"{data}: of {len(mutants)} mutants, caught by their check", caught, "at least", len(mutants)),
        Figure(f"{data}: of {len(trials.honest)} paths without a fault, let through", paths, "at least",
               len(trials.honest)),
    ]  # fmt: skip


def _row(name: str, data: str, mutant: Mutant, outcome: Outcome) -> list[str]:
    catch = outcome.catch
    if catch is None:
        return [name, mutant.form, data, mutant.check, "NOTHING", ""]
    further = sorted(catch.checks - {mutant.check})
    checks = ", ".join([mutant.check, *further] if mutant.check in catch.checks else further)
    return [
        name,
        mutant.form,
        data,
        mutant.check,
        f"{catch.stage}: {checks}",
        catch.sentence[:SHOWN].replace("|", "/"),
    ]


def _quietly(work: Callable[..., T], *arguments: object) -> T:
    """Do the work without the output of its steps."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return work(*arguments)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()

"""How a benchmark reports: each figure beside its bound, exit 1 when one falls short, and 2 for wrong flags.

With `--write` the benchmark writes its block of docs/figures.md too: the lines between `<!-- NAME -->` and
`<!-- /NAME -->`. The prose around the blocks is written by hand.
"""

import argparse
import datetime
import platform
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from steps.cores import usable_cores
from steps.errors import BadInput, StepError
from steps.files import write_whole
from steps.progress import say

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs/figures.md"
WIDTH = 115


class Figure(NamedTuple):
    """A measured value and the bound it is held against."""

    name: str
    value: float
    relation: Literal["at most", "at least"]
    bound: float
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Tell whether the value keeps its bound; a value that is no number keeps none."""
        return self.value <= self.bound if self.relation == "at most" else self.value >= self.bound

    @property
    def measured(self) -> str:
        """Return the value with its unit."""
        return f"{self.value:.4g} {self.unit}".rstrip()

    @property
    def limit(self) -> str:
        """Return the bound with its unit."""
        return f"{self.relation} {self.bound:g} {self.unit}".rstrip()


def command_line(benchmark: str, text: str | None) -> argparse.ArgumentParser:
    """Return the parser of a benchmark: its docstring as help, and the flag `--write`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{benchmark}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help="write the figures into docs/figures.md")
    parser.set_defaults(block=benchmark)
    return parser


def report(figures: list[Figure], arguments: argparse.Namespace | None = None, tables: Iterable[str] = ()) -> None:
    """Print each figure beside its bound and exit: 0 when all hold, else 1.

    With `--write` among the arguments, write the figures, and before them the lines of `tables`, into the block
    `arguments.block` of docs/figures.md.
    """
    for figure in figures:
        print(f"{'ok  ' if figure.holds else 'FAIL'}  {figure.name}: {figure.measured} ({figure.limit})")
    if arguments is not None and arguments.write:
        write_block(FIGURES, arguments.block, [*conditions(arguments.block), *tables, *table_of(figures)])
    sys.exit(0 if all(figure.holds for figure in figures) else 1)


def table_of(figures: list[Figure]) -> list[str]:
    """Return the lines of a Markdown table with an empty line before it; none without figures."""
    rows = [
        f"| {figure.name.replace('|', '/')} | {figure.measured} | {figure.limit}"
        f"{'' if figure.holds else ', falls short'} |"
        for figure in figures
    ]
    return ["", "| figure | measured | bound |", "|---|---|---|", *rows] if rows else []


def conditions(block: str) -> list[str]:
    """Return the lines that say when, on what code and where the figures were measured, and by which command."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:] if word != "--write"]
    command = shlex.join(["python", "-m", f"benchmarks.{block.partition(' ')[0]}", *words])
    where = f"commit {_commit()}, {_cpu()}, {usable_cores()} cores"
    return [*textwrap.wrap(f"Measured {datetime.date.today()}, {where}:", WIDTH), f"`{command}`"]


def write_block(page: Path, name: str, lines: Iterable[str]) -> None:
    """Replace what is between the two markers of the block; raise BadInput where the page has no such block."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    text = page.read_text()
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise BadInput(f"{page} has no block '{name}': give it one line {begin.strip()} and below it one {end}.")
    before, after = text.index(begin) + len(begin), text.index(end)
    body = "\n".join(lines).strip("\n")
    write_whole(page, f"{text[:before]}\n{body}\n\n{text[after:]}".encode())


def _commit() -> str:
    """Return the short name of the commit, and whether the code differs from it."""
    short, changed = (
        subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
        for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", "steps", "benchmarks"])
    )
    return f"{short or 'unknown'}{' with changes' if changed else ''}"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@contextmanager
def one_sentence(benchmark: str) -> Iterator[None]:
    """Print in one sentence what flags or files make impossible, and exit as a step does."""
    try:
        yield
    except StepError as error:
        say(f"{benchmark}: {error}")
        sys.exit(error.exit_code)

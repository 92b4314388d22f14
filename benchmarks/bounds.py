"""How a benchmark reports: each figure beside its bound, exit 1 when one falls short, and 2 for wrong flags."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from steps.errors import StepError
from steps.progress import say


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


def report(figures: list[Figure]) -> None:
    """Print each figure beside its bound and exit: 0 when all hold, else 1."""
    for figure in figures:
        unit = f" {figure.unit}" if figure.unit else ""
        bound = f"{figure.relation} {figure.bound:g}{unit}"
        print(f"{'ok  ' if figure.holds else 'FAIL'}  {figure.name}: {figure.value:.4g}{unit} ({bound})")
    sys.exit(0 if all(figure.holds for figure in figures) else 1)


@contextmanager
def one_sentence(benchmark: str) -> Iterator[None]:
    """Say what flags or files make impossible in one sentence, and exit as a step does."""
    try:
        yield
    except StepError as error:
        say(f"{benchmark}: {error}")
        sys.exit(error.exit_code)

"""A benchmark says so when it falls short: in its figures, and in its exit code."""

import math

import pytest

from benchmarks.bounds import Figure, report

KEPT = [Figure("at its bound", 1.0, "at most", 1.0, "s"), Figure("above its bound", 0.99, "at least", 0.98)]
BROKEN = [
    Figure("too slow", 1.01, "at most", 1.0, "s"),
    Figure("too few", 0.97, "at least", 0.98),
    Figure("no number", math.nan, "at most", 1.0),
    Figure("no number either", math.nan, "at least", 0.0),
    Figure("without end", math.inf, "at most", 1.0),
]


def test_figures_that_all_hold_end_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert _reported(KEPT) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["ok    at its bound: 1 s (at most 1 s)", "ok    above its bound: 0.99 (at least 0.98)"]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda figure: figure.name)
def test_one_figure_that_falls_short_ends_with_1(broken: Figure, capsys: pytest.CaptureFixture[str]) -> None:
    assert not broken.holds
    assert _reported([KEPT[0], broken, KEPT[1]]) == 1
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["ok", "FAIL", "ok"]


def _reported(figures: list[Figure]) -> int:
    with pytest.raises(SystemExit) as ended:
        report(figures)
    assert isinstance(ended.value.code, int)
    return ended.value.code

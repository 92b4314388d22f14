"""A benchmark that misses a bound reports the miss in its figures and in its exit code."""

import math
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import fold_sites, lite0, reparam_gain
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


@pytest.mark.parametrize(
    ("script", "words", "sentence"),
    [
        (fold_sites, ["--sites", "0"], "fold_sites: --sites 0: "),
        (lite0, ["--images", "none"], "lite0: --images none is no tar or folder of JPEG files: .*No such file"),
        (lite0, ["--images", "empty"], "lite0: --images empty holds no photographs"),
        (lite0, ["--images", "text"], "lite0: --images text is no tar or folder"),
        (reparam_gain, ["--images", "none"], "reparam_gain: --images none is no folder or tar of .*No such file"),
        (reparam_gain, ["--images", "empty"], "reparam_gain: --images empty holds 0 images"),
        (reparam_gain, ["--images", "text"], "reparam_gain: --images text is no folder or tar"),
        (reparam_gain, ["--images", "broken"], "reparam_gain: --images broken is no folder .*cannot identify"),
    ],
)
def test_flags_that_no_figure_can_come_of_end_with_2_and_a_sentence(
    script: ModuleType,
    words: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no tar")
    (tmp_path / "broken/train/cat").mkdir(parents=True)
    (tmp_path / "broken/train/cat/1.jpg").write_text("no image")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    with pytest.raises(SystemExit) as ended:
        script.main()
    printed = capsys.readouterr().err.strip()
    assert ended.value.code == 2 and "\n" not in printed
    assert re.match(sentence, printed), printed

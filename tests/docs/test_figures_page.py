"""docs/figures.md has a block for each benchmark that reports figures; a benchmark rewrites only its own block."""

import re
import sys
from pathlib import Path

import pytest

from benchmarks import bounds, fold_sites, fold_zoo
from benchmarks.bounds import Figure, conditions, report, table_of, write_block
from steps.errors import BadInput

ROOT = Path(__file__).parent.parent.parent
PAGE = bounds.FIGURES.read_text()
REPORTING = sorted(
    path.stem for path in (ROOT / "benchmarks").glob("*.py") if re.search(r"^ +report\(", path.read_text(), re.M)
)
BY_HAND = ("coverage", "test_time")  # the targets of make fill this field
SMALL = (
    "# Title\n\nBefore.\n\n<!-- one -->\nold\n<!-- /one -->\n\nBetween.\n\n<!-- two -->\n<!-- /two -->\n\nAfter.\n"
)


def test_every_benchmark_that_reports_figures_has_its_heading_block_and_command() -> None:
    assert {"demo", "fold_sites", "latency"} <= set(REPORTING)
    for name in REPORTING:
        assert f"\n### {name}\n" in PAGE, (
            f"docs/figures.md needs a heading `### {name}` and a block `<!-- {name} -->`"
        )
        block = PAGE.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->\n")[0]
        assert re.search(rf"^Measured 20\d\d-\d\d-\d\d.*:\n`python -m benchmarks\.{name}\b", block.strip(), re.S)
        assert re.search(r"^\|---\|", block, re.M), f"{name} has no table"


def test_every_begin_has_its_end() -> None:
    markers = re.findall(r"^<!-- (.*) -->$", PAGE, re.M)
    assert markers[1::2] == [f"/{name}" for name in markers[::2]]
    names = markers[::2]
    assert len(set(names)) == len(names)
    assert {name.partition(" ")[0] for name in names} == {*REPORTING, *BY_HAND}


def test_writing_replaces_the_block_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "figures.md"
    page.write_text(SMALL)
    write_block(page, "one", ["", "new", "", "| a |"])
    assert page.read_text() == SMALL.replace("old\n", "\nnew\n\n| a |\n\n")
    write_block(page, "one", ["newer"])
    assert page.read_text() == SMALL.replace("old\n", "\nnewer\n\n")


@pytest.mark.parametrize(
    "text", ["", "<!-- one -->\n", "<!-- /one -->\n<!-- one -->\n", 2 * "<!-- one -->\n<!-- /one -->\n"]
)
def test_a_page_without_the_block_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    page = tmp_path / "figures.md"
    page.write_text(text)
    with pytest.raises(BadInput, match="has no block 'one'"):
        write_block(page, "one", ["new"])
    assert page.read_text() == text


def test_a_figure_that_falls_short_is_marked() -> None:
    figures = [Figure("slow", 1.01, "at most", 1.0, "s"), Figure("enough", 3, "at least", 2)]
    assert table_of(figures)[3:] == ["| slow | 1.01 s | at most 1 s, falls short |", "| enough | 3 | at least 2 |"]
    assert table_of([]) == []


def test_the_conditions_name_the_command_without_the_flag_and_without_folders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["benchmark", "--write", "--images", "/somewhere/CIFAR10.tar", "--arch", "cifar_quick"]
    monkeypatch.setattr(sys, "argv", words)
    *where, command = conditions("reparam_gain cifar_quick")
    assert command == "`python -m benchmarks.reparam_gain --images CIFAR10.tar --arch cifar_quick`"
    assert re.match(r"Measured 20\d\d-\d\d-\d\d, commit \w+( with changes)?, .+, \d+ cores:$", " ".join(where))


def test_a_benchmark_writes_its_figures_where_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "figures.md"
    page.write_text(PAGE)
    monkeypatch.setattr(bounds, "FIGURES", page)
    for flags in ([], ["--write"]):
        monkeypatch.setattr(sys, "argv", ["fold_sites", "--sites", "6", *flags])
        with pytest.raises(SystemExit, match="0"):
            fold_sites.main()
        assert (page.read_text() != PAGE) == bool(flags)
    assert "ok    sites folded: 6 (at least 6)" in capsys.readouterr().out
    before, block, after = re.split(r"<!-- /?fold_sites -->", page.read_text())
    assert "| sites folded | 6 | at least 6 |" in block and "`python -m benchmarks.fold_sites --sites 6`" in block
    expected_before, _, expected_after = re.split(r"<!-- /?fold_sites -->", PAGE)
    assert (before, after) == (expected_before, expected_after)


def test_a_figure_that_falls_short_is_written_too_and_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "figures.md"
    page.write_text("<!-- one -->\n<!-- /one -->\n")
    monkeypatch.setattr(bounds, "FIGURES", page)
    arguments = bounds.command_line("one", None).parse_args(["--write"])
    with pytest.raises(SystemExit, match="1"):
        report([Figure("slow", 1.01, "at most", 1.0, "s")], arguments, ["", "a table"])
    assert "a table\n\n| figure |" in page.read_text() and "falls short" in page.read_text()


def test_the_page_and_the_readme_count_the_networks_that_were_tried_and_none_was_wrong() -> None:
    (path,) = fold_zoo.TRIED.glob("*.jsonl")
    results = fold_zoo._read(path)
    assert not [result.name for result in results if result.wrong]
    assert len({result.name for result in results}) == len(results)
    lines = [*fold_zoo.counts(results, len(results)), *table_of(fold_zoo.figures(results, len(results)))]
    assert "\n".join(lines).strip() in PAGE
    folded = [result for result in results if not result.skipped and not result.wrong]
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"{len(results):,} networks of timm and torchvision were tried. {len(folded):,} of them came" in readme
    assert f"({sum(result.sites for result in folded):,} sites)" in readme
    assert f"the largest error was {max(result.error or 0 for result in folded):.1e} in float64" in readme

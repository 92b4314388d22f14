"""tools.cost: one table over networks, a front only if accuracies are known, one message for bad input."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from steps.errors import BadInput
from steps.pages.cost import NO_FRONT, draw, lines, page
from steps.reports.cost import (
    Accuracy,
    AccuracySource,
    CostCard,
    CostReport,
    FormCost,
    MeasuredLatency,
    mark_front,
)
from tools import cost
from tools.cost import Setting, compare, read_accuracies

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "benchmarks/published_top1.csv"
ARCHS = ("repvgg_nano", "tests.models.artifacts:Own")
SMALL = Setting(size=32, class_num=10, rounds=3)
FORM = FormCost(
    parameters=1000,
    head="head",
    head_parameters=100,
    flops=2_000_000_000,
    flops_by_kind={},
    multiply_adds=1_000_000_000,
    uncounted=(),
    memory_access_bytes=4_000_000,
    peak_live_bytes=2_000_000,
    peak_held_bytes=2_000_000,
    weight_file_bytes=5000,
)


def card(arch: str, milliseconds: float, top1: float | None, source: AccuracySource = "measured") -> CostCard:
    latency = MeasuredLatency(
        form="plain", runtime="pytorch", median=milliseconds, p10=1, p90=9, cpu_median=milliseconds
    )
    accuracy = None if top1 is None else Accuracy(top1=top1, source=source)
    return CostCard(arch=arch, block=None, trained=FORM, plain=FORM, latencies=(latency,), accuracy=accuracy)


def report(*cards: CostCard) -> CostReport:
    return CostReport(
        size=32,
        class_num=10,
        threads=1,
        rounds=3,
        front_runtime="pytorch",
        versions={},
        cards=mark_front(cards, "pytorch"),
    )


def on_front(*cards: CostCard) -> dict[str, bool | None]:
    return {card.arch: card.on_front for card in mark_front(cards, "pytorch")}


def test_the_front_is_what_no_other_beats_in_both() -> None:
    found = on_front(card("fast", 1, 70), card("slow", 3, 80), card("worse", 2, 69), card("slower", 4, 80))
    assert found == {"fast": True, "slow": True, "worse": False, "slower": False}


def test_equals_share_the_front_and_the_unknown_is_not_judged() -> None:
    found = on_front(card("one", 1, 70), card("other", 1, 70), card("tie", 1, 60), card("unknown", 0.1, None))
    assert found == {"one": True, "other": True, "tie": False, "unknown": None}
    assert mark_front((card("a", 1, 70),), "onnxruntime")[0].on_front is None  # not timed with onnxruntime


@pytest.fixture(scope="module")
def compared() -> CostReport:
    how = Setting(size=32, class_num=10, rounds=3, block="repvgg")
    return compare(ARCHS, how, {"repvgg_nano": Accuracy(top1=88.5, source="measured")})


def test_every_network_has_both_forms_measured(compared: CostReport) -> None:
    assert [row.arch for row in compared.cards] == list(ARCHS)
    for row in compared.cards:
        assert row.trained.parameters > row.plain.parameters and row.trained.flops > row.plain.flops
        assert row.trained.peak_live_bytes > row.plain.peak_live_bytes
        assert row.trained.memory_access_bytes > row.plain.memory_access_bytes
        assert row.trained.weight_file_bytes > row.plain.weight_file_bytes
        for latency in row.latencies:
            assert 0 < latency.p10 <= latency.median <= latency.p90
        assert {(latency.form, latency.runtime) for latency in row.latencies} == {
            ("trained", "pytorch"), ("plain", "pytorch"),
        }  # fmt: skip
    assert [row.on_front for row in compared.cards] == [True, None]


def test_the_table_says_both_forms_and_the_head(compared: CostReport) -> None:
    text = lines(compared)
    assert text[0].split()[:3] == ["network", "form", "params"]
    assert [line.split()[:2] for line in text[1:5]] == [
        [arch, form] for arch in ARCHS for form in ("repvgg", "plain")
    ]
    assert any(line.startswith("On the front") and line.endswith("repvgg_nano.") for line in text)


def test_without_accuracies_no_front_is_claimed() -> None:
    silent = report(card("a", 1, None), card("b", 2, None))
    assert NO_FRONT in lines(silent) and not any(line.startswith("On the front") for line in lines(silent))
    assert "no accuracies, so no front" in draw(silent).decode()


def test_a_published_accuracy_is_marked_wherever_it_is_shown() -> None:
    mixed = report(card("ours", 1, 70), card("theirs", 2, 71.25, "published"))
    text = "\n".join(lines(mixed))
    assert "71.25 p" in text and "70.00 p" not in text and "p: published by others" in text
    assert "hollow: published" in draw(mixed).decode()
    assert "published by others" not in "\n".join(lines(report(card("ours", 1, 70))))


def test_operators_that_were_not_counted_are_said() -> None:
    partly = card("a", 1, None).model_copy(update={"plain": FORM.model_copy(update={"uncounted": ("aten.x.y",)})})
    assert any("FLOPs leave out" in line and "aten.x.y" in line for line in lines(report(partly)))


def test_a_busy_machine_is_said() -> None:
    waiting = MeasuredLatency(form="plain", runtime="pytorch", median=3, p10=2, p90=4, cpu_median=1)
    busy = card("a", 3, None).model_copy(update={"latencies": (waiting,)})
    assert any("3.0 times their CPU time" in line for line in lines(report(busy)))
    assert not any("busy" in line for line in lines(report(card("a", 3, None))))


@pytest.mark.parametrize("show", [draw, page])
def test_equal_reports_are_equal_bytes(show: Callable[[CostReport], bytes]) -> None:
    made = report(card("a", 1, 70), card("b", 2, 71.25, "published"))
    assert show(made) == show(made)
    assert b"</svg>" in show(made)


def test_a_page_escapes_names_and_loads_nothing() -> None:
    text = page(report(card("<script>alert(1)</script>", 1, 70))).decode()
    assert "<script" not in text
    assert "src=" not in text and "@import" not in text


def test_published_figures_are_marked_so() -> None:
    found = read_accuracies(PUBLISHED, ["resnet18"])
    assert found["repvgg_a0_plain"] == Accuracy(top1=72.41, source="published")
    assert {accuracy.source for accuracy in found.values()} == {"published"}


TABLES = {
    "arch,top1\na,70\n": "source is measured or published",
    "arch,top1,source\na,70,guessed\n": "source is measured or published",
    "arch,top1,source\n,70,measured\n": "takes the columns",
    "arch,top1,source\na,much,measured\n": "top1 is 'much'",
    "arch,top1,source\na,0.72,measured\n": "it is a percentage",
    "arch,top1,source\na,101,measured\n": "it is a percentage",
    "arch,top1,source\na,nan,measured\n": "it is a percentage",
    "arch,top1,source\na,70,measured\na,71,measured\n": "line 3 gives a a second accuracy",
    "arch,top1,source\nb,70,measured\n": "names none of the networks; it has b",
    "": "it has no rows",
}


@pytest.mark.parametrize("content", TABLES)
def test_a_table_of_accuracies_that_leaves_a_doubt_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "top1.csv").write_text(content)
    with pytest.raises(BadInput, match=TABLES[content]):
        read_accuracies(tmp_path / "top1.csv", ["a"])


def test_a_table_that_is_not_there_is_said() -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_accuracies(Path("nowhere.csv"), ["a"])


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command line in this process and return its exit code."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["cost", *words])
    try:
        cost.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_command_prints_a_table_and_writes_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name for name in ("cost.svg", "cost.json")]
    (tmp_path / "top1.csv").write_text("arch,top1,source\nrepvgg_nano,90.5,measured\n")
    flags = f"--size 32 --classes 10 --rounds 2 --runtime onnxruntime --accuracy {tmp_path / 'top1.csv'}"
    assert call(monkeypatch, "repvgg_nano", *flags.split(), "--plot", str(files[0]), "--json", str(files[1])) == 0
    printed = capsys.readouterr().out
    assert "repvgg_nano" in printed and "latency in onnxruntime" in printed
    assert files[0].read_bytes().startswith(b"<?xml")
    (written,) = json.loads(files[1].read_text())["cards"]
    runtimes = [(row["form"], row["runtime"]) for row in written["latencies"]]
    assert runtimes == [("trained", "pytorch"), ("plain", "pytorch"), ("plain", "onnxruntime")]
    assert CostReport.read(files[1]).cards[0].on_front is True


def test_a_plot_without_a_name_lies_where_git_does_not_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{cost.PLOT.parts[0]}/" in (ROOT / ".gitignore").read_text().splitlines()
    monkeypatch.setattr(sys, "argv", ["cost", "repvgg_nano", "--size", "32", "--rounds", "1", "--plot"])
    monkeypatch.chdir(tmp_path)
    cost.main()
    assert (tmp_path / cost.PLOT).is_file() and f"drawn in {cost.PLOT}" in capsys.readouterr().err


BAD = {
    "repvgg_nanno": "Did you mean 'repvgg_nano'",
    "repvgg_nano --block repvg": "'repvg' is no block.*Did you mean 'repvgg'",
    "timm:vit_tiny_patch16_224 --size 32 --block acb": "finds no site for 'acb'",
    "torchvision:vgg11 --size 8": "vgg11 takes no image of 8 pixels",
    "torchvision:vit_b_32 --size 33": "vit_b_32 cannot be made for images of 33 pixels",
    "repvgg_nano --size 9999999": "repvgg_nano takes no image of 9999999 pixels",
    "repvgg_nano --json tools": "tools must end in .json",
    "repvgg_nano --json params.yaml": "params.yaml must end in .json",
    "repvgg_nano --size 32 --rounds 1 --json README.md/cost.json": "a file cannot be written",
    "repvgg_nano --plot cost.png": "must end in .svg or .html",
    "repvgg_nano --accuracy nowhere.csv": "nowhere.csv cannot be read",
    "repvgg_nano --threads 0": "'0' is no whole number of at least 1",
    "repvgg_nano --threads 99999": "99999 threads are more than the",
    "repvgg_nano --size small": "'small' is no whole number of at least 1",
    "repvgg_nano --runtime tensorrt": "invalid choice",
    "": "required: ARCH",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_sentence_and_exit_code_2(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *words.split()) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert re.search(BAD[words], captured.err), captured.err

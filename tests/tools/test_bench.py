"""tools.bench: every form with every setting, a front only if accuracies are known, and the setting to adopt."""

import csv
import json
import sys
from pathlib import Path

import pytest
import yaml

from steps.errors import BadInput
from steps.pages.bench import NO_FRONT, adopted, draw, lines, page
from steps.params.build import BuildParams
from steps.reports.artifact import read_verified_card, write_card
from steps.reports.bench import BenchForm, BenchReport, BenchRow
from steps.reports.card import Device
from steps.reports.champion import Champion
from steps.reports.evaluate import FormReport
from tests.backends.tiny import onnx_model, weights, write_exported
from tests.released import seal_release
from tools import bench
from tools.bench import Setting, as_csv, find_forms, measure
from tools.bench_forms import Child, opened_forms

QUICK = Setting(threads=(1,), batches=(1, 3), seconds=0.01)


def form(name: str, top1: float | None = None, not_run: str | None = None) -> BenchForm:
    return BenchForm(
        form=name,
        backend="onnxruntime",
        precision="fp32",
        device="cpu",
        size_bytes=10**6,
        peak_bytes=None if not_run else 2 * 10**6,
        top1=top1,
        not_run=not_run,
    )


def row(name: str, p50: float, threads: int = 1, batch: int = 1) -> BenchRow:
    return BenchRow(
        form=name,
        threads=threads,
        batch=batch,
        calls=9,
        p50=p50,
        p90=p50 + 1,
        p99=p50 + 2,
        cpu_per_image=p50 / batch,
    )


def report(forms: list[BenchForm], rows: list[BenchRow]) -> BenchReport:
    return BenchReport(cpu="a CPU", cpus=2, image_size=16, forms=tuple(forms), rows=tuple(rows)).marked()


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an exported model, one engine, and one engine that needs another machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    card = write_exported(Path("data/export/model"), onnx_model(weights()))
    for name, backend in (("onnxruntime-fp32", "onnxruntime"), ("aotinductor-cuda-fp32", "aotinductor-cuda")):
        folder = Path("data/build") / name
        write_exported(folder, onnx_model(weights()))
        changed = {"form": name, "backend": backend}
        if backend != "onnxruntime":
            (folder / "model.pt2").write_bytes(b"none")
            changed |= {"device": Device(kind="cuda", compute_capabilities=("8.9",))}  # type: ignore[dict-item]
        write_card(folder, card.model_copy(update=changed))
    return tmp_path


def test_the_reason_of_a_form_that_is_not_run_is_what_its_process_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "cannot import /usr/lib//x; see https://a.b/c"
    monkeypatch.setattr(Child, "refusal", lambda _: reason)
    with opened_forms({"export": tmp_path}, 1) as (opened, refused):
        assert (opened, refused) == ({}, {"export": reason})


def test_each_form_has_a_row_for_each_setting_and_one_that_cannot_run_its_reason(line: Path) -> None:
    made = measure(find_forms([], None), QUICK)
    ran = [(each.form, each.threads, each.batch) for each in made.rows]
    assert ran == [(name, 1, batch) for batch in QUICK.batches for name in ("export", "onnxruntime-fp32")]
    for each in made.rows:
        assert 0 < each.p50 <= each.p90 <= each.p99 and each.cpu_per_image > 0 and each.calls >= 5
    by_name = {each.form: each for each in made.forms}
    refused = by_name["aotinductor-cuda-fp32"]
    assert "is no package of AOTInductor" in str(refused.not_run) and refused.peak_bytes is None
    assert (by_name["export"].peak_bytes or 0) > 10**7
    assert by_name["export"].size_bytes == Path("data/export/model/model.onnx").stat().st_size
    assert any("aotinductor-cuda-fp32 was not run" in text for text in lines(made))


def test_an_accuracy_counts_only_for_the_files_that_were_evaluated(line: Path) -> None:
    find = find_forms(["export"], None)
    card = read_verified_card(find["export"])
    FormReport(form="export", card=card, top1=0.9).write(Path("data/evaluate/export.json"))
    assert bench._top1(card) == 0.9
    assert bench._top1(card.model_copy(update={"artifact": "of another run"})) is None


@pytest.mark.parametrize("names", [["train"], ["export", "openvino-fp16"]])
def test_a_form_that_is_not_there_is_named_with_those_that_are(line: Path, names: list[str]) -> None:
    with pytest.raises(BadInput, match=rf"{names[-1]} is not there in data/; there are export, aotind"):
        find_forms(names, None)


@pytest.fixture
def release(line: Path) -> Path:
    """A release that names one of the two engines in its folder."""
    folder = line / "data/release"
    folder.mkdir()
    Path("data/export/model").rename(folder / "model")
    Path("data/build").rename(folder / "engines")
    seal_release(folder, ("onnxruntime-fp32",))
    return folder


def test_the_forms_of_a_release_are_its_model_and_the_engines_that_it_names(release: Path, line: Path) -> None:
    named = {"export": release / "model", "onnxruntime-fp32": release / "engines/onnxruntime-fp32"}
    assert find_forms([], release) == named
    champion = line / "data/champion"
    champion.mkdir()
    release.rename(champion / "release")
    Champion(accepted=True).write(champion / "champion.json")
    assert find_forms(["export"], champion) == {"export": champion / "release/model"}


def test_a_release_to_which_an_engine_was_added_is_not_opened(release: Path) -> None:
    (release / "engines/openvino-fp32").mkdir()
    (release / "engines/openvino-fp32/card.json").write_text("{}")
    with pytest.raises(BadInput, match=r"engines/openvino-fp32/card\.json is not in SHA256SUMS"):
        find_forms(["export"], release)


def test_an_engine_that_takes_any_size_is_marked_as_timed_without_its_resize() -> None:
    forms = [form("sized"), form("whole").model_copy(update={"takes": "any"})]
    message = lines(report(forms, [row("sized", 1.0), row("whole", 2.0)]))
    assert [text.startswith("whole (resize not included) ") for text in message[1:3]] == [False, True]
    assert any("whole: takes images of any size, and was timed on images of 16 px" in text for text in message)
    assert not any("any size" in text for text in lines(report(forms[:1], [row("sized", 1.0)])))


def test_the_front_is_what_no_other_form_beats_and_needs_accuracies() -> None:
    forms = [form("fast", 0.7), form("slow", 0.8), form("worse", 0.6), form("unknown")]
    rows = [row("fast", 1), row("slow", 3), row("worse", 2), row("unknown", 0.5)]
    made = report(forms, rows)
    assert {each.form: each.on_front for each in made.forms} == {
        "fast": True,
        "slow": True,
        "worse": False,
        "unknown": None,
    }
    assert NO_FRONT in lines(report([form("unknown")], rows[3:]))


def test_the_best_setting_is_given_as_keys_that_leave_the_others_of_build_alone() -> None:
    engine, other = "onnxruntime-fp32", "openvino-fp32"
    rows = [
        row("train", 0.1),
        row(engine, 2.0),
        row(engine, 1.5, threads=2),
        row(other, 8.0, threads=2, batch=8),
        row(other, 7.9, threads=2, batch=16).model_copy(update={"p50": 15.9}),
        row(other, 90.0, batch=80),
    ]
    texts = adopted(report([form("train"), form(engine), form(other)], rows))
    assert all("merge into build:" in text and "\nbuild:" not in text for text in texts)
    found = [yaml.safe_load(f"build:\n  preprocess: host\n{text}")["build"] for text in texts]
    assert {BuildParams.model_validate(each).preprocess for each in found} == {"host"}
    assert [BuildParams.model_validate(each).threads for each in found] == [2, 2]
    assert not any("batch" in each for each in found), "an engine of the CPU takes any number of images alike"
    assert "8 at once" in texts[1]  # 8 reach 97 % of the throughput of 16
    assert adopted(report([form("train")], rows[:1])) == []


def test_a_gpus_engine_is_tuned_for_the_best_batch_and_a_larger_one_than_the_defaults_stays_a_profile() -> None:
    on_gpu = form("tensorrt-fp16").model_copy(update={"device": "cuda"})
    texts = adopted(report([on_gpu], [row("tensorrt-fp16", 9.0), row("tensorrt-fp16", 90, 1, 80)]))
    found = [yaml.safe_load(f"build:\n{text}")["build"] for text in texts]
    assert not any("threads" in each for each in found), "they are of the CPU"
    batches = [BuildParams.model_validate(each).batch for each in found]
    assert [(batch.opt, batch.max) for batch in batches] == [(1, 64), (80, 80)]


def test_a_page_escapes_names_and_loads_nothing() -> None:
    made = report([form("<script>alert(1)</script>", 0.5)], [row("<script>alert(1)</script>", 1)])
    text = page(made).decode()
    assert "<script" not in text and "src=" not in text and "@import" not in text
    assert page(made) == page(made) and b"</svg>" in draw(made)


def test_a_csv_has_every_row_with_the_figures_of_its_form() -> None:
    made = report([form("a", 0.5), form("b")], [row("a", 1), row("a", 2, batch=4), row("b", 3)])
    (first, second, third) = csv.DictReader(as_csv(made).decode().splitlines())
    assert (first["form"], first["p50"], first["top1"]) == ("a", "1.0", "0.5")
    assert (second["images_per_second"], second["size_bytes"]) == ("2000.0", "1000000")
    assert (third["form"], third["top1"]) == ("b", "")


def test_the_command_prints_the_table_and_writes_its_files(
    line: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = "export onnxruntime-fp32 --threads 1 --batches 1 --seconds 0.01"
    monkeypatch.setattr(sys, "argv", ["bench", *flags.split()])
    bench.main()
    printed = capsys.readouterr().out
    assert printed.split()[:2] == ["form", "threads"] and printed.endswith("\n  threads: 1\n")
    folder = Path(".foldline/bench")
    assert {path.name for path in folder.iterdir()} == {"bench.csv", "bench.json", "bench.html"}
    assert len(json.loads((folder / "bench.json").read_text())["rows"]) == 2


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("nowhere", "nowhere is not there in data/; there are export, "),
        ("nowhere either", "nowhere, either are not there in data/"),
        ("--batches 0,1", "no list of whole numbers"),
        ("--release no", "no is no release"),
        ("--seconds nan", "'nan' is no number of seconds above 0"),
        ("--seconds inf", "'inf' is no number of seconds above 0"),
        ("--seconds=-1", "'-1' is no number of seconds above 0"),
        ("--batches 1,1000000", "1000000 images at once; tools take at most 1024"),
        ("--threads 1,99999", "99999 threads are more than the "),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    line: Path, flags: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *flags.split()])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_an_interruption_is_one_sentence_and_leaves_the_last_figures(
    line: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> BenchReport:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "measure", stopped)
    monkeypatch.setattr(sys, "argv", ["bench"])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "bench: interrupted; .foldline/bench is as it was.\n"
    assert not (line / ".foldline/bench").exists()

"""The summary of a run: it covers only the stages that this run updated, and its text is safe to show."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import summary
from steps.reports.certificate import Certificate, CertificateRow
from steps.reports.evaluate import FormReport, Latency
from steps.reports.verdict import FormVerdict, Judgement, Verdict

EVALUATED = ["evaluate@fuse", "evaluate-engine@openvino-fp32"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the files of a run that reached and passed the gate."""
    monkeypatch.chdir(tmp_path)
    summary.LATENCIES.mkdir(parents=True)
    summary.EVALUATE.mkdir(parents=True)
    summary.GATE.mkdir(parents=True)
    FormReport(form="fuse", top1=0.5, worst_recall=0.25, size_bytes=1_500_000).write(
        summary.EVALUATE / "fuse.json"
    )
    FormReport(form="openvino-fp32", deferred="not here.").write(summary.EVALUATE / "openvino-fp32.json")
    Latency(form="fuse", threads=1, milliseconds={1: {"p50": 0.125}}).write(summary.LATENCIES / "fuse.json")
    forms = (
        FormVerdict(form="fuse", judgement="pass", required=True, top1=0.5, agreement=1.0),
        FormVerdict(form="openvino-fp32", judgement="pass", required=False),
    )
    Verdict(judgement="pass", forms=forms).write(summary.GATE / "verdict.json")
    (summary.GATE / "verdict.md").write_text("the judged table")
    return tmp_path


@pytest.fixture
def artifacts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Catch the artifacts that would be sent to the server."""
    made: dict[str, Any] = {}
    monkeypatch.setattr(summary, "create_markdown_artifact", lambda key, markdown: made.update({key: markdown}))
    monkeypatch.setattr(summary, "create_table_artifact", lambda key, table: made.update({key: table}))
    return made


def test_a_judged_form_is_shown_as_the_gate_judged_it() -> None:
    fuse, openvino = summary.rows([*EVALUATED, "gate"])
    assert fuse.cells() == {
        "form": "fuse",
        "verdict": "pass",
        "top-1": "50.00 %",
        "worst recall": "-",
        "agreement": "100.00 %",
        "size": "-",
        "latency": "0.12 ms",
    }
    assert openvino.verdict == "pass (candidate)"


@pytest.mark.parametrize("spoil", [Path.mkdir, lambda path: path.write_text("no measurement")])
def test_a_latency_that_cannot_be_read_is_not_shown(spoil: Callable[[Path], object]) -> None:
    (summary.LATENCIES / "fuse.json").unlink()
    spoil(summary.LATENCIES / "fuse.json")
    assert summary.rows(EVALUATED)[0].latency is None


def test_a_form_that_no_gate_judged_is_shown_as_it_was_measured() -> None:
    fuse, openvino = summary.rows(EVALUATED)
    assert (fuse.verdict, fuse.worst_recall, fuse.size_bytes) == ("not judged", 0.25, 1_500_000)
    assert openvino.verdict == "deferred"


def test_files_of_an_earlier_run_are_no_part_of_this_one(artifacts: dict[str, Any]) -> None:
    assert [row.form for row in summary.rows(EVALUATED[:1])] == ["fuse"]
    assert summary.rows(["ingest"]) == []
    summary.publish(["ingest", "split"], "split: no.")
    assert artifacts == {"verdict": "**FAIL  split: no.**\n\n"}


@pytest.mark.parametrize(
    ("stages", "sentence", "headline"),
    [
        ([*EVALUATED, "gate"], None, "PASS  every required form passed the gate"),
        (EVALUATED, None, "DONE  nothing was judged"),
        ([*EVALUATED, "gate"], "gate: fuse: top1 0.5 is below 0.9.", "FAIL  gate: fuse: top1 0.5 is below 0.9."),
    ],
)
def test_the_headline_is_the_last_line_of_the_table(
    stages: list[str], sentence: str | None, headline: str, artifacts: dict[str, Any]
) -> None:
    summary.publish(stages, sentence)
    lines = summary.TABLE.read_text().splitlines()
    assert lines[-1] == headline and headline in artifacts["verdict"]
    assert lines[0].split() == " ".join(summary.COLUMNS).split()
    assert [row["form"] for row in artifacts["metrics"]] == ["fuse", "openvino-fp32"]


@pytest.mark.parametrize("word", ["inconclusive", "deferred"])
def test_what_is_not_shown_to_be_wrong_is_not_called_a_failure(word: Judgement) -> None:
    sentence = (
        "export: top1_drop 0 is not shown to stay within 0.01; about 299 test images like these 60 would decide"
    )
    Verdict(judgement=word, refused=sentence).write(summary.GATE / "verdict.json")
    message = summary.headline([*EVALUATED, "gate"], f"gate: {sentence}")
    assert message.startswith(f"{word.upper()}  gate: {sentence}")
    assert ("split.test" in message) == (word == "inconclusive")
    assert summary.headline(EVALUATED, "evaluate: no.") == "FAIL  evaluate: no.", "of an earlier run"


def test_the_artifacts_hold_the_gates_own_page_and_the_metrics(artifacts: dict[str, Any]) -> None:
    stages = [*EVALUATED, "gate"]
    summary.publish(stages, None)
    assert artifacts["verdict"].endswith("\n\nthe judged table")
    assert artifacts["metrics"] == [row.cells() for row in summary.rows(stages)]


def test_a_stages_page_lists_its_figures_and_no_name_breaks_out_of_its_cell(
    folder: Path, artifacts: dict[str, Any]
) -> None:
    report = folder / "report.json"
    report.write_text('{"images": 3, "refused": "class \'a|b<i>\\n# c\' is small", "sites": ["left out"]}')
    summary.publish_report("build@onnxruntime-fp32", report)
    page = artifacts["build-onnxruntime-fp32"]
    assert "| images | 3 |" in page and "left out" not in page
    assert r"| refused | class 'a\|b\<i\> \# c' is small |" in page


def test_the_page_of_a_certificate_shows_its_rows(folder: Path, artifacts: dict[str, Any]) -> None:
    rows = tuple(
        CertificateRow(site=f"stage{number}", precision="fp64", probes="random", error=1e-15, bound=1e-12)
        for number in range(30)
    )
    Certificate(rows=rows, left_as_is={"norm": "no convolution before it"}).write(folder / "certificate.json")
    summary.publish_report("fuse", folder / "certificate.json")
    page = artifacts["fuse"]
    assert "| 1e-12 | 1e-15 | fp64 | random | stage0 |" in page and "and 10 more" in page
    assert "| norm | no convolution before it |" in page


def test_a_stage_without_a_report_has_no_page(artifacts: dict[str, Any]) -> None:
    summary.publish_report("split", None)
    assert artifacts == {}

"""gate: only a model shown to equal the trained model ships; each planted fault gets its own message."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steps.metrics import scores as kept_scores
from steps.params.gate import GateParams
from steps.reports.evaluate import Latency
from steps.reports.verdict import Verdict
from tests.backends.tiny import run_step_in
from tests.gated import judged, of, refusal
from tests.parity.faults import ENGINE, FAULTS
from tests.parity.forms import ENGINES, Forms, labels_of

OF_A_CLASS = ("recall_drop", "class_agreement")  # faults of one class; figures over all images show them too


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def forms(tmp_path: Path) -> Forms:
    return Forms(tmp_path / "evaluate")


def test_an_honest_line_passes(forms: Forms) -> None:
    verdict = judged(forms)
    assert (verdict.judgement, verdict.refused) == ("pass", None)
    assert {form.form: form.judgement for form in verdict.forms} == {
        **dict.fromkeys(("train", "fuse", "export", *ENGINES), "pass"),
        "champion": "deferred",
    }
    assert of(verdict, ENGINE).agreement == 1
    assert of(verdict, ENGINE).top1 == of(verdict, "train").top1
    assert (verdict.images, verdict.test_set) == (forms.images, "f" * 64)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_refused_by_the_check_that_is_for_it(forms: Forms, name: str) -> None:
    fault = FAULTS[name]
    fault.plant(forms)
    limits: dict[str, Any] = {"max_top1_drop": 0.06} if fault.check in OF_A_CLASS else {}
    verdict = judged(forms, **limits)
    prefix = fault.form if fault.check == "run" else f"{fault.form}: {fault.check}"
    assert verdict.refused is not None and verdict.refused.startswith(prefix)
    assert fault.words in verdict.refused
    broken = [row for row in verdict.criteria if row.form == fault.form and row.judgement != "pass"]
    assert broken[0].metric == fault.check


@pytest.mark.parametrize("name", FAULTS)
def test_with_more_classes_than_are_kept_whole_the_same_checks_find_the_same_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(kept_scores, "WHOLE", 4)
    monkeypatch.setattr(kept_scores, "HIGHEST", 3)
    forms, fault = Forms(tmp_path / "evaluate"), FAULTS[name]
    assert judged(forms).judgement == "pass"
    fault.plant(forms)
    limits: dict[str, Any] = {"max_top1_drop": 0.06} if fault.check in OF_A_CLASS else {}
    verdict = judged(forms, **limits)
    broken = [row for row in verdict.criteria if row.form == fault.form and row.judgement != "pass"]
    assert broken[0].metric == fault.check and verdict.refused is not None


@pytest.mark.parametrize("whole", [4, 1000])
def test_a_class_without_test_images_that_is_masked_makes_no_other_class_constant(
    forms: Forms, monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    monkeypatch.setattr(kept_scores, "WHOLE", whole)
    monkeypatch.setattr(kept_scores, "HIGHEST", 3)
    labels_N = labels_of(forms.images) % 4
    masked = np.where(labels_of(forms.images)[:, None] == 4, forms.logits_NK[:, [4, 1, 2, 3, 0]], forms.logits_NK)
    masked[:, 4] = -1e9
    for form in forms.cards:
        forms.plant(form, logits_NK=masked, labels_N=labels_N)
    assert "constant" not in {row.metric for row in judged(forms).criteria}
    masked[:, 2] = -8
    forms.plant(ENGINE, logits_NK=masked, labels_N=labels_N)
    assert "constant: scores are the same in all 1000 images (1 of 5 classes, the first 'cow')" in refusal(forms)


def test_the_sentence_names_form_metric_value_bound_and_key(forms: Forms) -> None:
    forms.plant(ENGINE, logits_NK=forms.with_lost(34))
    assert refusal(forms, required=("export", ENGINE)) == (
        f"{ENGINE}: top1_drop 0.034 (at most 0.045 at 95 %) exceeds 0.01 (gate.max_top1_drop). "
        f"Where it begins: python -m tools.localise {ENGINE}"
    )


def test_a_test_set_too_small_to_tell_is_told_how_many_images_would(tmp_path: Path) -> None:
    sentence = refusal(Forms(tmp_path / "small", images=200))
    assert "fuse: top1_drop 0 (at most 0.0149 at 95 %) is not shown to stay within 0.01" in sentence
    assert "about 299 test images like these 200 would decide" in sentence
    assert "tools.localise" not in sentence, "nothing is known to differ"


def test_answers_that_differ_beyond_a_bound_are_looked_into_though_more_images_would_have_to_decide(
    forms: Forms,
) -> None:
    forms.plant(ENGINE, logits_NK=forms.with_lost(2))
    sentence = refusal(forms, min_agreement=0.999, max_largest_score_difference=1.0)
    assert f"{ENGINE}: agreement 0.998 is below, but not shown for other images to be below 0.999" in sentence
    assert sentence.endswith(f"would decide. Where it begins: python -m tools.localise {ENGINE}")


def test_a_candidate_that_fails_is_withheld_and_stops_nobody(forms: Forms) -> None:
    FAULTS["constants"].plant(forms)
    verdict = judged(forms, required=("fuse", "export", "onnxruntime-fp32"))
    assert (verdict.judgement, verdict.refused) == ("pass", None)
    assert of(verdict, ENGINE).judgement == "fail"
    assert "constant" in of(verdict, ENGINE).why


def test_a_deferred_candidate_is_named_and_stops_nobody(forms: Forms) -> None:
    FAULTS["not run here"].plant(forms)
    verdict = judged(forms, required=("export",))
    assert verdict.judgement == "pass"
    assert (of(verdict, ENGINE).judgement, of(verdict, ENGINE).why) == ("deferred", "there is no GPU")


def test_an_engine_that_was_dropped_from_the_list_is_not_judged(forms: Forms) -> None:
    FAULTS["constants"].plant(forms)
    forms.engines = ("onnxruntime-fp32",)
    verdict = judged(forms, required=("fuse", "export", "onnxruntime-fp32"))
    assert verdict.judgement == "pass"
    assert ENGINE not in {form.form for form in verdict.forms}


def test_without_a_usable_reference_nothing_is_compared(forms: Forms) -> None:
    (forms.folder / "train.json").unlink()
    verdict = judged(forms)
    assert verdict.refused is not None and verdict.refused.startswith("train: evidence")
    assert {form.judgement for form in verdict.forms if form.form != "champion"} == {"fail"}


def test_a_reference_that_was_not_run_is_what_the_refusal_names(forms: Forms) -> None:
    forms.plant("train", deferred="there is no GPU", top1=None)
    verdict = judged(forms)
    assert verdict.judgement == "deferred"
    assert verdict.refused is not None and verdict.refused.startswith(
        "train: there is no GPU (also not passed: fuse"
    )


def test_a_class_of_five_images_that_loses_one_is_undecided_and_not_failed(forms: Forms) -> None:
    labels_N = np.where(np.arange(forms.images) < 5, 4, np.arange(forms.images) % 4)
    logits_NK = (np.eye(5)[labels_N] * 9 + np.random.default_rng(0).normal(0, 0.3, (forms.images, 5))).astype(
        np.float32
    )
    logits_NK[0] = np.array([0.4, -9, -9, -9, 0.6], np.float32)  # a near tie, which may fall the other way
    for form in ("train", "fuse", "export", *ENGINES):
        forms.plant(form, logits_NK=logits_NK, labels_N=labels_N)
    lost = logits_NK.copy()
    lost[0, [0, 4]] = lost[0, [4, 0]]
    forms.plant(ENGINE, logits_NK=lost, labels_N=labels_N)
    verdict = judged(forms)
    criterion = next(row for row in verdict.criteria if (row.form, row.metric) == (ENGINE, "recall_drop"))
    assert (criterion.judgement, criterion.value, criterion.undecided) == ("pass", 0.2, ("eel",))
    assert "'eel' of 5 images; too few test images to decide: 'eel'" in criterion.sentence
    assert verdict.judgement == "pass"
    assert "recall_drop" in refusal(forms, classes="strict")


@pytest.mark.parametrize(
    ("key", "limit", "metric"), [("min_top1", 0.99, "top1"), ("min_worst_recall", 0.99, "lowest_recall")]
)
def test_a_floor_holds_for_the_trained_form_too(forms: Forms, key: str, limit: float, metric: str) -> None:
    sentence = refusal(forms, **dict[str, Any]({key: limit}))
    assert sentence.startswith(f"train: {metric}") and f"is below {limit} (gate.{key})" in sentence


def test_a_class_without_a_test_image_is_listed_as_undecided(forms: Forms) -> None:
    tested = np.flatnonzero(labels_of(forms.images) != 4)
    for form in forms.cards:
        forms.plant(form, order=tested)
    (row,) = [row for row in judged(forms).criteria if (row.form, row.metric) == (ENGINE, "recall_drop")]
    assert (row.judgement, row.undecided) == ("pass", ("eel",))
    assert "too few test images to decide: 'eel'" in row.sentence


def test_the_form_that_every_release_holds_cannot_be_left_out() -> None:
    with pytest.raises(ValueError, match="must name 'export'"):
        GateParams(required=("fuse",))


def test_a_confidence_that_leaves_nothing_to_share_is_refused_and_the_highest_is_judged(forms: Forms) -> None:
    with pytest.raises(ValueError, match=r"less than or equal to 0.999999"):
        GateParams(confidence=0.9999999999999999)
    assert judged(forms, confidence=0.999999, max_top1_drop=0.03).judgement == "pass"


def test_the_same_evidence_gives_the_same_bytes(forms: Forms) -> None:
    def written() -> list[bytes]:
        judged(forms)
        return [(forms.folder.parent / "gate" / name).read_bytes() for name in ("verdict.json", "verdict.md")]

    assert written() == written()


def test_latencies_are_shown_and_change_no_output(forms: Forms, capsys: pytest.CaptureFixture[str]) -> None:
    judged(forms)
    before = (forms.folder.parent / "gate/verdict.md").read_bytes()
    latencies = Path(".foldline/latency")
    latencies.mkdir(parents=True)
    text = '{"form": "fuse", "threads": 1, "milliseconds": {"1": {"p50": 1.25, "p90": 2, "p99": 3}}}'
    (latencies / "fuse.json").write_text(text)
    (latencies / "export.json").write_text("not a measurement")
    (latencies / f"{ENGINES[0]}.json").mkdir()
    any_size = Latency(form="train", takes="any", threads=1, milliseconds={1: {"p50": 2.5}})
    any_size.write(latencies / "train.json")
    judged(forms)
    message = capsys.readouterr().err
    assert "1.25 ms  " in message and "2.50 ms (resize not included)" in message
    assert (forms.folder.parent / "gate/verdict.md").read_bytes() == before


def test_the_command_line_passes_and_refuses_with_exit_3(tmp_path: Path) -> None:
    forms = Forms(tmp_path / "evaluate", engines=("onnxruntime-fp32", "openvino-fp32"))
    flags = {"evaluate": "evaluate", "out": "gate"}
    passed = run_step_in(tmp_path, "gate", flags)
    assert passed.returncode == 0, passed.stderr
    assert "verdict: PASS" in passed.stderr
    forms.plant("onnxruntime-fp32", logits_NK=np.zeros_like(forms.logits_NK))
    refused = run_step_in(tmp_path, "gate", flags)
    assert refused.returncode == 3
    assert refused.stderr.splitlines()[-1].startswith(
        "gate: onnxruntime-fp32: constant: scores are the same in all"
    )
    verdict = Verdict.read(tmp_path / "gate/verdict.json")
    assert verdict.refused is not None and verdict.judgement == "fail"
    assert verdict.refused in (tmp_path / "gate/verdict.md").read_text()
